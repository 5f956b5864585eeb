//! JSON (RFC 8259), token by token.

use super::{Step, Unread};
use crate::plain;

/// The text is known to be UTF-8.
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// A string without its quotes.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    pub text: &'a [u8],
    pub is_escaped: bool,
}

/// A number as it is written.
#[derive(Clone, Copy)]
pub struct Number<'a> {
    pub text: &'a [u8],
    /// Without fraction and exponent.
    pub is_whole: bool,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no whitespace; 0 at the end.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    #[inline]
    pub fn expect(&mut self, byte: u8) -> Step {
        if self.peek() != byte {
            return Err(Unread);
        }
        self.at += 1;
        Ok(())
    }

    /// Enters an array or an object, and says whether there is anything in it.
    #[inline]
    pub fn open(&mut self, open: u8, close: u8) -> Step<bool> {
        self.expect(open)?;
        let is_empty = self.peek() == close;
        self.at += usize::from(is_empty);
        Ok(!is_empty)
    }

    /// Passes the comma, or leaves the array or object.
    #[inline]
    pub fn more(&mut self, close: u8) -> Step<bool> {
        let byte = self.peek();
        if byte != b',' && byte != close {
            return Err(Unread);
        }
        self.at += 1;
        Ok(byte == b',')
    }

    #[inline]
    pub fn string(&mut self) -> Step<Raw<'a>> {
        self.expect(b'"')?;
        let start = self.at;
        let mut is_escaped = false;
        loop {
            self.at += plain::len(&self.text[self.at..]);
            match self.text.get(self.at) {
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Raw { text, is_escaped });
                }
                // What is escaped is looked at when it is taken; here it must only not end the string.
                Some(b'\\') if self.at + 1 < self.text.len() => {
                    is_escaped = true;
                    self.at += 2;
                }
                _ => return Err(Unread),
            }
        }
    }

    pub fn number(&mut self) -> Step<Number<'a>> {
        self.peek();
        let start = self.at;
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let first = self.text.get(self.at).copied();
        let whole = self.digits();
        if whole == 0 || (whole > 1 && first == Some(b'0')) {
            return Err(Unread);
        }
        let mut is_whole = true;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            is_whole = false;
            if self.digits() == 0 {
                return Err(Unread);
            }
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            is_whole = false;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(Unread);
            }
        }
        Ok(Number { text: &self.text[start..self.at], is_whole })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    /// `true`, `false` or `null`, which starts here by its first byte.
    pub fn word(&mut self, word: &[u8]) -> Step {
        self.peek();
        if !self.text[self.at..].starts_with(word) {
            return Err(Unread);
        }
        self.at += word.len();
        Ok(())
    }

    pub fn boolean(&mut self) -> Step<bool> {
        let is_true = self.peek() == b't';
        self.word(if is_true { b"true" } else { b"false" })?;
        Ok(is_true)
    }

    pub fn end(&mut self) -> Step {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(Unread) }
    }
}

impl<'a> Raw<'a> {
    /// The text, where nothing is escaped in it.
    pub fn plain(self) -> Step<&'a [u8]> {
        if self.is_escaped { Err(Unread) } else { Ok(self.text) }
    }

    /// Appends what is meant.
    #[inline]
    pub fn put(self, out: &mut Vec<u8>) -> Step {
        if self.is_escaped {
            return self.unescape(out);
        }
        out.extend_from_slice(self.text);
        Ok(())
    }

    fn unescape(self, out: &mut Vec<u8>) -> Step {
        let mut rest = self.text;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
            out.extend_from_slice(&rest[..at]);
            let (escape, after) = rest[at + 1..].split_first().ok_or(Unread)?;
            rest = after;
            out.push(match escape {
                b'"' | b'\\' | b'/' => *escape,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let (character, after) = escaped(rest)?;
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = after;
                    continue;
                }
                _ => return Err(Unread),
            });
        }
        out.extend_from_slice(rest);
        Ok(())
    }
}

/// The character whose escape goes on here after `\u`, by two of them where it is a pair of surrogates.
fn escaped(text: &[u8]) -> Step<(char, &[u8])> {
    let (unit, rest) = unit(text)?;
    if let Some(character) = char::from_u32(unit) {
        return Ok((character, rest));
    }
    let (low, rest) = rest.strip_prefix(b"\\u").ok_or(Unread).and_then(self::unit)?;
    if unit >= 0xdc00 || !(0xdc00..0xe000).contains(&low) {
        return Err(Unread);
    }
    let character = char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)).ok_or(Unread)?;
    Ok((character, rest))
}

fn unit(text: &[u8]) -> Step<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>().ok_or(Unread)?;
    let mut unit = 0;
    for digit in digits {
        unit = unit << 4 | char::from(*digit).to_digit(16).ok_or(Unread)?;
    }
    Ok((unit, rest))
}
