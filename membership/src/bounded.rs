//! Bounds that hold while bytes are decoded, before anything is allocated for them.
//!
//! Here: deserializers of strings, byte strings and lists that refuse more than a fixed length. Used by the wire types
//! ([`crate::record`], [`crate::packet`]). Not here: the bound of a whole packet ([`crate::Packet::decode`]).
//! Source: hazard M44 (length fields trusted before they were checked).

use core::fmt;
use core::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A string of at most `MAX` bytes.
pub(crate) fn string<'de, D: Deserializer<'de>, const MAX: usize>(
    from: D,
) -> Result<String, D::Error> {
    struct Text<const MAX: usize>;
    impl<const MAX: usize> Visitor<'_> for Text<MAX> {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a string of at most {MAX} bytes")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            if text.len() > MAX {
                return Err(E::invalid_length(text.len(), &self));
            }
            Ok(text.to_owned())
        }
    }
    from.deserialize_str(Text::<MAX>)
}

/// A byte string of at most `MAX` bytes.
pub(crate) fn bytes<'de, D: Deserializer<'de>, const MAX: usize>(
    from: D,
) -> Result<Bytes, D::Error> {
    struct Raw<const MAX: usize>;
    impl<const MAX: usize> Visitor<'_> for Raw<MAX> {
        type Value = Bytes;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a byte string of at most {MAX} bytes")
        }
        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            if bytes.len() > MAX {
                return Err(E::invalid_length(bytes.len(), &self));
            }
            Ok(Bytes::copy_from_slice(bytes))
        }
    }
    from.deserialize_bytes(Raw::<MAX>)
}

/// A list of at most `MAX` items. A length announced above it is refused before the first item is read.
pub(crate) fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>, const MAX: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    /// Items that a mere announcement may reserve room for.
    const TRUSTED: usize = 32;
    struct Items<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX} items")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let announced = items.size_hint().unwrap_or(0);
            if announced > MAX {
                return Err(A::Error::invalid_length(announced, &self));
            }
            let mut list = Vec::with_capacity(announced.min(TRUSTED));
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    from.deserialize_seq(Items::<T, MAX>(PhantomData))
}
