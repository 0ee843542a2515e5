//! What the rows of a store say, without changing them.
//!
//! Here: [`look_at_rows`], for `recovery`, whose plan must leave a store as it is, to the byte. The LSM tree tidies up when it is opened,
//! so it is opened on a copy beside it, of which the large files are links (they are never changed, only removed).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use synod_consensus::ReplicaKey;

use super::disk::remove_folder;
use super::rows::StateRows;
use super::rows_read::RowView;
use super::rows_tree::RowsError;

/// Folders of files that are written once.
const LINKED: [&str; 2] = ["tables", "blobs"];

/// The copy; it goes when this does.
struct Copied(PathBuf);

impl Drop for Copied {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(copy = %self.0.display(), %error, "a copy of a store's rows could not be removed");
        }
    }
}

fn copy(from: &Path, to: &Path, linked: bool) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            let linked = linked || LINKED.iter().any(|name| entry.file_name() == *name);
            copy(&source, &target, linked)?;
        } else if linked {
            std::fs::hard_link(&source, &target)?;
        } else {
            std::fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

/// Where the copy lies.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("look")
}

/// Removes what a look left that was interrupted. Its links would keep files that the rows beside it have replaced, for ever.
pub fn forget_look(path: &Path) -> Result<(), RowsError> {
    remove_folder(&beside(path)).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> RowsError {
    RowsError::Unusable {
        place: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// What `judge` says of the rows of every replica that has some in the directory; nothing, if there is none.
pub fn look_at_rows<T>(
    path: &Path,
    mut judge: impl FnMut(RowView) -> T,
) -> Result<BTreeMap<ReplicaKey, T>, RowsError> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    forget_look(path)?;
    let copied = Copied(beside(path));
    copy(path, &copied.0, false).map_err(|error| unusable(path, &error))?;
    let rows = StateRows::open(&copied.0)?;
    let mut judged = BTreeMap::new();
    for key in rows.replicas() {
        if let Some(view) = rows.view(key)? {
            judged.insert(key, judge(view));
        }
    }
    rows.close();
    Ok(judged)
}
