//! Buffers that connections share: whoever is idle holds none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes of a new one.
pub const SIZE: usize = 8 << 10;
/// What grew beyond this isn't kept.
const LARGEST: usize = 16 << 10;
/// Free ones a thread keeps, of each kind.
const FREE: usize = 64;

thread_local! {
    static INPUTS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer to read into.
pub fn input() -> BytesMut {
    let mut buffer = INPUTS.with_borrow_mut(Vec::pop).unwrap_or_default();
    // Its memory is taken again where nobody holds a slice of it any more.
    buffer.reserve(SIZE);
    buffer
}

/// An empty buffer to write into.
pub fn output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(1 << 10))
}

/// Gives a buffer back.
pub fn free_input(mut buffer: BytesMut) {
    if (1..=LARGEST).contains(&buffer.capacity()) {
        buffer.clear();
        INPUTS.with_borrow_mut(|free| {
            if free.len() < FREE {
                free.push(buffer);
            }
        });
    }
}

pub fn free_output(mut buffer: Vec<u8>) {
    if (1..=LARGEST).contains(&buffer.capacity()) {
        buffer.clear();
        OUTPUTS.with_borrow_mut(|free| {
            if free.len() < FREE {
                free.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_reads_it() {
        let mut buffer = input();
        buffer.extend_from_slice(b"head");
        let at = buffer.as_ptr();
        let slice = buffer.split_to(4).freeze();
        free_input(buffer);
        drop(slice);
        let again = input();
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert!(again.capacity() >= SIZE);
    }

    #[test]
    fn what_is_still_read_is_not_written_over() {
        let mut buffer = input();
        buffer.extend_from_slice(b"head");
        let slice = buffer.split_to(4).freeze();
        free_input(buffer);
        let mut again = input();
        again.extend_from_slice(b"tail");
        assert_eq!(&slice[..], b"head");
    }
}
