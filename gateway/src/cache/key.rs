//! What an answer is found by. It holds all that tells one request from another, so that two requests that differ in
//! anything that counts never meet; and its hash, which is made once.

use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::LazyLock,
};

use bytes::Bytes;

/// Nobody outside can know which keys fall together.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A key: its parts, each told apart from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    hash: u64,
    text: Bytes,
}

/// What stands between two parts; no part of an HTTP request can hold it.
const BETWEEN: u8 = 0;

impl Key {
    /// Of parts that hold no NUL. The first says what kind of key it is: a use of its own must have a name of its own.
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut text = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for part in parts {
            text.extend_from_slice(part);
            text.push(BETWEEN);
        }
        Self { hash: hash_of(&text), text: text.into() }
    }

    /// The same with one more part.
    pub fn with(&self, part: &[u8]) -> Self {
        let mut text = Vec::with_capacity(self.text.len() + part.len() + 1);
        text.extend_from_slice(&self.text);
        text.extend_from_slice(part);
        text.push(BETWEEN);
        Self { hash: hash_of(&text), text: text.into() }
    }

    /// Of an answer: who may have it, and the pieces that its target is written in.
    pub fn of_answer(kind: &[u8], caller: &[&[u8]], target: &[&[u8]]) -> Self {
        let length: usize = caller.iter().chain(target).map(|piece| piece.len()).sum();
        let mut text = Vec::with_capacity(kind.len() + length + 3);
        text.extend_from_slice(kind);
        text.push(BETWEEN);
        caller.iter().for_each(|piece| text.extend_from_slice(piece));
        text.push(BETWEEN);
        target.iter().for_each(|piece| text.extend_from_slice(piece));
        text.push(BETWEEN);
        Self { hash: hash_of(&text), text: text.into() }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many bytes it takes up.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// The part at a place.
    pub fn part(&self, at: usize) -> Option<&[u8]> {
        self.text.split(|byte| *byte == BETWEEN).nth(at)
    }
}

/// The same text has the same hash in one process, and another in the next.
pub fn hash_of(text: &[u8]) -> u64 {
    SEED.hash_one(text)
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes a key's hash for what it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl BuildHasher for Hashed {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Key::new(&[b"ab", b"c"]), Key::new(&[b"a", b"bc"]));
        assert_ne!(Key::new(&[b"a", b""]), Key::new(&[b"a"]));
        let key = Key::new(&[b"answer", b"", b"http://a/b"]);
        assert_eq!((key.part(1), key.part(2)), (Some(&b""[..]), Some(&b"http://a/b"[..])));
        assert_eq!(key, Key::of_answer(b"answer", &[], &[b"http", b"://", b"a", b"/b"]));
        assert_eq!(key.with(b"x"), Key::new(&[b"answer", b"", b"http://a/b", b"x"]));
    }
}
