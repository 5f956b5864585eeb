//! Looking for bytes, eight at a time.

use crate::Error;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Finds where a head, or the trailer section of a chunked body, ends: after its first empty line. Bytes are looked at
/// once, however they drip in.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    searched: usize,
    /// Where the line begins that is not complete yet.
    line: usize,
    lines: usize,
}

impl Scanner {
    /// The length of the whole, once the empty line is there. `bytes` are those of the last call and what came since.
    ///
    /// # Errors
    /// [`Error::BareLf`] as soon as a line ends without CR.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        while let Some(at) = line_feed(bytes, self.searched) {
            if at == self.line || bytes[at - 1] != b'\r' {
                return Err(Error::BareLf);
            }
            let is_empty = at - self.line == 1;
            self.searched = at + 1;
            self.line = at + 1;
            if is_empty {
                return Ok(Some(at + 1));
            }
            self.lines += 1;
        }
        self.searched = bytes.len();
        Ok(None)
    }

    /// Complete lines so far, without the empty one.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Where the line begins that is not complete yet.
    pub fn line(&self) -> usize {
        self.line
    }
}

fn line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = word(bytes, at) {
        let different = word ^ (ONES * b'\n' as u64);
        let found = different.wrapping_sub(ONES) & !different & HIGH;
        if found != 0 {
            return Some(at + first(found));
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|byte| *byte == b'\n').map(|found| at + found)
}

/// The first byte that may not be in a field's value: a control character other than a tab.
pub fn control(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = word(bytes, at) {
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let different = word ^ (ONES * 0x7f);
        let delete = different.wrapping_sub(ONES) & !different;
        let found = (low | delete) & HIGH;
        if found == 0 {
            at += 8;
            continue;
        }
        // Borrows can mark bytes only above the first one that is truly found.
        at += first(found);
        if bytes[at] != b'\t' {
            return Some(at);
        }
        at += 1;
    }
    bytes.get(at..)?.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t').map(|found| at + found)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

fn first(found: u64) -> usize {
    (found.trailing_zeros() / 8) as usize
}

/// Whether a byte may be in a token: a method, a field's name (RFC 9110, section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < SIGNS.len() {
            table[SIGNS[at] as usize] = true;
            at += 1;
        }
        table
    };
    const SIGNS: &[u8] = b"!#$%&'*+-.^_`|~";
    TOKEN[byte as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"), Ok(Some(27)));
        assert_eq!(scanner.lines(), 2);
        assert_eq!(Scanner::default().end(b"\r\nrest"), Ok(Some(2)));
        assert_eq!(Scanner::default().end(b"a\r\n\r"), Ok(None));
    }

    #[test]
    fn a_line_feed_alone_is_refused_at_once() {
        for bytes in ["\n", "a\n", "a\r\n\n", "a\r\nb: c\n\r\n"] {
            assert_eq!(Scanner::default().end(bytes.as_bytes()), Err(Error::BareLf), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_byte_by_byte_search_finds(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\n\r\t\x1f\x20\x7f\x80\xff".to_vec())], 0..64),
            from in 0usize..8,
        ) {
            let from = from.min(bytes.len());
            let search = |wanted: fn(&u8) -> bool| bytes[from..].iter().position(wanted).map(|at| from + at);
            prop_assert_eq!(line_feed(&bytes, from), search(|byte| *byte == b'\n'));
            prop_assert_eq!(control(&bytes, from), search(|byte| byte.is_ascii_control() && *byte != b'\t'));
        }

        #[test]
        fn a_head_ends_at_the_same_place_however_it_is_cut(text in "([a-z:\r]{0,4}\r?\n){0,6}", cuts in prop::collection::vec(0usize..40, 0..6)) {
            let bytes = text.as_bytes();
            let whole = Scanner::default().end(bytes);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut scanner = Scanner::default();
            let mut result = Ok(None);
            for cut in cuts {
                result = scanner.end(&bytes[..cut]);
                if result != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(result, whole);
        }
    }
}
