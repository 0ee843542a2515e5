//! Memory that a thread encodes in, again and again.
//!
//! Here: [`gather`]. What is encoded has a size that nobody knows before; grown from little, each piece would be moved several
//! times and keep memory that it does not need. Written here first and copied once, it takes one allocation of its own size.

use std::cell::Cell;

use bytes::Bytes;

/// A thread keeps at most so many bytes. A larger piece is handed over as it is: to copy it would cost more than it saves.
const KEPT_BYTES: usize = 16 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Hands over what `write` puts into an empty buffer. On an error nothing is kept of it.
pub(crate) fn gather<E>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Bytes, E> {
    // Taken out meanwhile, so that `write` may come here again: then it finds an empty one.
    let mut bytes = SCRATCH.take();
    bytes.clear();
    let written = write(&mut bytes);
    if bytes.capacity() > KEPT_BYTES {
        return written.map(|()| Bytes::from(bytes));
    }
    let gathered = written.map(|()| Bytes::copy_from_slice(&bytes));
    SCRATCH.set(bytes);
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(piece: &[u8]) -> Bytes {
        gather::<()>(|bytes| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn each_piece_is_its_own_whatever_was_written_before_or_inside() {
        let outer = gather::<()>(|bytes| {
            bytes.push(1);
            assert_eq!(put(&[2; 100]), vec![2; 100]);
            bytes.push(3);
            Ok(())
        });
        assert_eq!(outer.unwrap(), vec![1, 3]);
        assert_eq!(put(&[]), Bytes::new());
    }

    #[test]
    fn what_failed_half_way_is_in_no_later_piece() {
        let failed = gather(|bytes| {
            bytes.extend_from_slice(b"half");
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!(put(b"whole"), "whole");
    }

    #[test]
    fn a_large_piece_leaves_no_large_memory_behind() {
        let large = vec![7; KEPT_BYTES + 1];
        assert_eq!(put(&large), large);
        let kept = SCRATCH.take();
        assert!(kept.capacity() <= KEPT_BYTES, "{}", kept.capacity());
    }
}
