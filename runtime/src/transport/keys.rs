//! The keys that outlive a process so that its successor can end its connections.
//!
//! A restarted process gets packets of connections that it knows nothing of. It may answer them with a stateless reset,
//! but only if it still has the reset key, and it looks at them only if the connection id has the mark of its
//! connection-id key. quinn makes both at random per process, so both are kept here (M47, S24).

use std::{fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use ring::rand::{SecureRandom as _, SystemRandom};

const RESET_BYTES: usize = 32;
const FILE_BYTES: usize = RESET_BYTES + 8;
/// The file's name in the store directory.
const FILE_NAME: &str = "transport.keys";

/// Stateless-reset key and connection-id key of one endpoint.
#[derive(Clone)]
pub struct EndpointKeys {
    pub(super) reset: [u8; RESET_BYTES],
    pub(super) connection_id: u64,
}

impl std::fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EndpointKeys") // secrets
    }
}

impl EndpointKeys {
    /// Keys for a process that has no directory: a client, a test.
    ///
    /// # Panics
    /// When the operating system gives no random bytes.
    pub fn ephemeral() -> Self {
        let mut bytes = [0; FILE_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .expect("the operating system gives random bytes");
        Self::from_bytes(&bytes)
    }

    /// The keys kept in `directory`, made and synced there (0600) when there are none.
    pub fn load_or_create(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        match fs::read(&path) {
            Ok(bytes) => {
                // Of any other length it was never written to its end; losing the keys costs one idle timeout.
                if let Ok(bytes) = <&[u8; FILE_BYTES]>::try_from(bytes.as_slice()) {
                    return Ok(Self::from_bytes(bytes));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let keys = Self::ephemeral();
        let temporary = directory.join("transport.keys.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&keys.reset)?;
        file.write_all(&keys.connection_id.to_le_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(directory)?.sync_all()?;
        Ok(keys)
    }

    fn from_bytes(bytes: &[u8; FILE_BYTES]) -> Self {
        let (reset, connection_id) = bytes.split_at(RESET_BYTES);
        Self {
            reset: reset.try_into().expect("split at its length"),
            connection_id: u64::from_le_bytes(
                connection_id.try_into().expect("the rest is 8 bytes"),
            ),
        }
    }
}
