//! A shard's state as one piece of bytes: what a follower is sent.
//!
//! Here: [`SnapshotWriter`], row after row, and [`read`], row after row: neither holds more than a row. Equal states give equal bytes.
//! Not here: where the rows come from and go to (`state`, `export`), how bytes travel (`group::freight`).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use synod_consensus::LogIndex;

use super::state::{Image, Session};
use crate::wire::{Outcome, SessionId};

const SNAPSHOT_VERSION: u16 = 1;

/// Why a snapshot was not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are no snapshot.
    #[error("the shard snapshot does not decode: {0}")]
    Undecodable(#[from] rmp_serde::decode::Error),
    /// A newer version of Synod wrote it.
    #[error(
        "the shard snapshot has format {got}, this build reads up to {SNAPSHOT_VERSION}; upgrade this node"
    )]
    TooNew {
        /// Its format.
        got: u16,
    },
    /// Its rows cannot be written where they belong.
    #[error("the rows of a shard snapshot cannot be kept: {0}")]
    NotKept(String),
}

#[derive(Deserialize, Serialize)]
struct EntityRow<S> {
    kind: S,
    key: S,
    version: u64,
    image: Bytes,
}

#[derive(Deserialize, Serialize)]
struct SessionRow<R> {
    session: SessionId,
    router: u128,
    used_ms: u64,
    lowest: u64,
    replies: R,
}

/// Named MessagePack, written piece by piece. The rows must be as many as was said.
#[derive(Debug)]
pub(super) struct SnapshotWriter<W> {
    out: W,
    owed: u64,
}

impl<W: Write> SnapshotWriter<W> {
    pub(super) fn begin(
        out: W,
        applied: LogIndex,
        clock_ms: u64,
        entities: u64,
    ) -> io::Result<Self> {
        let mut this = Self { out, owed: 0 };
        this.out.write_all(&[0x80 | 5])?; // a map of five
        this.field("version", &SNAPSHOT_VERSION)?;
        this.field("applied", &applied.get())?;
        this.field("clock_ms", &clock_ms)?;
        this.rows("entities", entities)?;
        Ok(this)
    }

    pub(super) fn entity(&mut self, kind: &str, key: &str, image: &Image) -> io::Result<()> {
        self.owed = self.owed.wrapping_sub(1);
        self.value(&EntityRow {
            kind,
            key,
            version: image.version.get(),
            image: image.bytes.clone(),
        })
    }

    pub(super) fn sessions(&mut self, sessions: u64) -> io::Result<()> {
        self.paid()?;
        self.rows("sessions", sessions)
    }

    pub(super) fn session(&mut self, id: SessionId, session: &Session) -> io::Result<()> {
        self.owed = self.owed.wrapping_sub(1);
        self.value(&SessionRow {
            session: id,
            router: session.router,
            used_ms: session.used_ms,
            lowest: session.lowest,
            replies: &session.replies,
        })
    }

    pub(super) fn end(self) -> io::Result<W> {
        self.paid()?;
        Ok(self.out)
    }

    fn paid(&self) -> io::Result<()> {
        match self.owed {
            0 => Ok(()),
            _ => Err(io::Error::other("it holds other rows than its head counts")),
        }
    }

    fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut serializer = rmp_serde::Serializer::new(&mut self.out).with_struct_map();
        value.serialize(&mut serializer).map_err(io::Error::other)
    }

    fn field(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.value(&name)?;
        self.value(value)
    }

    fn rows(&mut self, name: &str, count: u64) -> io::Result<()> {
        self.value(&name)?;
        self.owed = count;
        match (u16::try_from(count), u32::try_from(count)) {
            (Ok(count @ 0..16), _) => self.out.write_all(&[0x90 | count.to_le_bytes()[0]]),
            (Ok(count), _) => {
                self.out.write_all(&[0xdc])?;
                self.out.write_all(&count.to_be_bytes())
            }
            (_, Ok(count)) => {
                self.out.write_all(&[0xdd])?;
                self.out.write_all(&count.to_be_bytes())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Takes the rows of a snapshot as they are read.
pub(super) trait Sink {
    /// An error says why it was not kept.
    fn entity(&mut self, kind: Box<str>, key: Box<str>, image: Image) -> Result<(), String>;
    fn session(&mut self, id: SessionId, session: Session) -> Result<(), String>;
}

/// What a snapshot says besides its rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SnapshotHead {
    pub(super) applied: LogIndex,
    pub(super) clock_ms: u64,
}

/// Reads what [`SnapshotWriter`] wrote. On an error the sink may hold a part of it.
pub(super) fn read(from: impl Read, sink: &mut dyn Sink) -> Result<SnapshotHead, SnapshotError> {
    let mut whole = Whole {
        sink,
        head: SnapshotHead::default(),
        too_new: None,
        not_kept: None,
    };
    let read = rmp_serde::Deserializer::new(from).deserialize_map(&mut whole);
    match (read, whole.too_new, whole.not_kept) {
        (_, Some(got), _) => Err(SnapshotError::TooNew { got }),
        (_, _, Some(error)) => Err(SnapshotError::NotKept(error)),
        (read, None, None) => {
            read?;
            Ok(whole.head)
        }
    }
}

struct Whole<'a> {
    sink: &'a mut dyn Sink,
    head: SnapshotHead,
    too_new: Option<u16>,
    not_kept: Option<String>,
}

impl<'de> Visitor<'de> for &mut Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the snapshot of a shard")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "version" => {
                    let version: u16 = map.next_value()?;
                    if version > SNAPSHOT_VERSION {
                        self.too_new = Some(version);
                        return Err(A::Error::custom("a newer format"));
                    }
                }
                "applied" => self.head.applied = LogIndex::new(map.next_value()?),
                "clock_ms" => self.head.clock_ms = map.next_value()?,
                "entities" => {
                    map.next_value_seed(Rows::of(self, |whole: &mut Whole<'_>, row| {
                        let EntityRow::<Box<str>> {
                            kind,
                            key,
                            version,
                            image,
                        } = row;
                        let version = LogIndex::new(version);
                        let image = Image {
                            bytes: image,
                            version,
                        };
                        whole.sink.entity(kind, key, image)
                    }))?
                }
                "sessions" => {
                    map.next_value_seed(Rows::of(self, |whole: &mut Whole<'_>, row| {
                        let row: SessionRow<BTreeMap<u64, Outcome>> = row;
                        let session =
                            Session::kept(row.router, row.used_ms, row.lowest, row.replies);
                        whole.sink.session(row.session, session)
                    }))?
                }
                _ => {
                    let IgnoredAny = map.next_value()?;
                }
            }
            fields.push(name);
        }
        let wanted = ["version", "applied", "clock_ms", "entities", "sessions"];
        match wanted
            .iter()
            .find(|name| !fields.iter().any(|f| f == *name))
        {
            Some(missing) => Err(A::Error::missing_field(missing)),
            None => Ok(()),
        }
    }
}

/// Hands over one element of an array after the other.
struct Rows<'a, 'b, R, F> {
    whole: &'a mut Whole<'b>,
    take: F,
    row: PhantomData<R>,
}

impl<'a, 'b, R, F: FnMut(&mut Whole<'b>, R) -> Result<(), String>> Rows<'a, 'b, R, F> {
    fn of(whole: &'a mut Whole<'b>, take: F) -> Self {
        let row = PhantomData;
        Self { whole, take, row }
    }
}

impl<'de, 'b, R, F> DeserializeSeed<'de> for Rows<'_, 'b, R, F>
where
    R: Deserialize<'de>,
    F: FnMut(&mut Whole<'b>, R) -> Result<(), String>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, 'b, R, F> Visitor<'de> for Rows<'_, 'b, R, F>
where
    R: Deserialize<'de>,
    F: FnMut(&mut Whole<'b>, R) -> Result<(), String>,
{
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element()? {
            if let Err(error) = (self.take)(self.whole, row) {
                self.whole.not_kept = Some(error.clone());
                return Err(A::Error::custom(error));
            }
        }
        Ok(())
    }
}
