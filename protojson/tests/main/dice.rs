//! Choices from bytes, so that a fuzzer can learn to make them. When there are no more bytes every choice is the first.

pub struct Dice<'a> {
    bytes: &'a [u8],
}

impl<'a> Dice<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *byte
    }

    pub fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    /// Less than `limit`, which is at most 65,536.
    pub fn below(&mut self, limit: usize) -> usize {
        let byte = usize::from(self.byte());
        if limit > 256 { (byte << 8 | usize::from(self.byte())) % limit } else { byte % limit.max(1) }
    }

    /// In so many of 256 cases.
    pub fn happens(&mut self, of_256: u8) -> bool {
        self.byte() > 255 - of_256
    }

    pub fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
