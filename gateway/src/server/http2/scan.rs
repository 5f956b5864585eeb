//! Finds the frames in bytes that pass (RFC 9113, section 4.1): their nine-byte heads, and of their payloads only the few
//! bytes that tell something to the guard. Nothing is copied but those, nothing is decoded; whether a frame is good is
//! for the codec to say.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

const HEAD: usize = 9;
/// A client's first bytes.
const PREFACE: usize = 24;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A frame begins.
    Head(Head),
    /// A part of its payload: an entry of SETTINGS, the code of RST_STREAM, the last stream and code of GOAWAY, the
    /// increment of WINDOW_UPDATE, the length of DATA's padding.
    Part(Head, &'a [u8]),
    /// All of it has passed.
    End(Head),
}

/// The frames of one direction.
pub struct Scanner {
    at: At,
    kept: [u8; HEAD],
    filled: usize,
}

#[derive(Clone, Copy)]
enum At {
    Preface { left: usize },
    Head,
    Payload { head: Head, left: usize, parts: usize },
}

impl Head {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn read(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s @ ..] = *bytes;
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream: u32::from_be_bytes(s) & !(1 << 31) }
    }

    /// How long the parts are that tell something, and how many there are.
    fn parts(&self) -> (usize, usize) {
        match self.kind {
            SETTINGS => (6, self.length as usize / 6),
            RST_STREAM | WINDOW_UPDATE => (4, 1),
            GOAWAY => (8, 1),
            DATA if self.has(PADDED) => (1, 1),
            _ => (0, 0),
        }
    }
}

impl Scanner {
    /// Of what a client sends.
    pub fn inbound() -> Self {
        Self { at: At::Preface { left: PREFACE }, ..Self::outbound() }
    }

    /// Of what a server sends.
    pub fn outbound() -> Self {
        Self { at: At::Head, kept: [0; HEAD], filled: 0 }
    }

    /// Whether the next byte begins a frame.
    pub fn is_between(&self) -> bool {
        matches!(self.at, At::Head) && self.filled == 0
    }

    /// Whether a frame has begun and not ended that isn't DATA, or the preface.
    pub fn is_within_control(&self) -> bool {
        match self.at {
            At::Preface { .. } => true,
            At::Head => self.filled > 0,
            At::Payload { head, .. } => head.kind != DATA,
        }
    }

    /// Looks through bytes, in the order they pass; stops at the first thing that is refused.
    pub fn scan<E>(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Seen<'_>) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            match self.at {
                At::Preface { left } => {
                    let passing = left.min(bytes.len());
                    bytes = &bytes[passing..];
                    self.at = if passing == left { At::Head } else { At::Preface { left: left - passing } };
                }
                At::Head => {
                    bytes = self.keep(bytes, HEAD);
                    if self.filled == HEAD {
                        self.filled = 0;
                        let head = Head::read(&self.kept);
                        tell(Seen::Head(head))?;
                        if head.length == 0 {
                            tell(Seen::End(head))?;
                        } else {
                            self.at = At::Payload { head, left: head.length as usize, parts: head.parts().1 };
                        }
                    }
                }
                At::Payload { head, left, parts } => {
                    let (passing, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    let parts = self.parts(head, passing, parts, &mut tell)?;
                    let left = left - passing.len();
                    self.at = At::Payload { head, left, parts };
                    if left == 0 {
                        (self.at, self.filled) = (At::Head, 0);
                        tell(Seen::End(head))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the parts that end within these bytes; returns how many are still to come.
    fn parts<E>(
        &mut self,
        head: Head,
        mut bytes: &[u8],
        mut parts: usize,
        tell: &mut impl FnMut(Seen<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let (size, _) = head.parts();
        while parts > 0 && !bytes.is_empty() {
            bytes = self.keep(bytes, size);
            if self.filled == size {
                self.filled = 0;
                parts -= 1;
                tell(Seen::Part(head, &self.kept[..size]))?;
            }
        }
        Ok(parts)
    }

    /// Keeps bytes until there are so many; returns those behind.
    fn keep<'a>(&mut self, bytes: &'a [u8], wanted: usize) -> &'a [u8] {
        let (kept, rest) = bytes.split_at((wanted - self.filled).min(bytes.len()));
        self.kept[self.filled..self.filled + kept.len()].copy_from_slice(kept);
        self.filled += kept.len();
        rest
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn scanned(scanner: &mut Scanner, chunks: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        for chunk in chunks {
            let told = scanner.scan(chunk, |one| {
                seen.push(match one {
                    Seen::Head(head) => format!("{} {} {} {}", head.kind, head.flags, head.stream, head.length),
                    Seen::Part(_, bytes) => format!("{bytes:?}"),
                    Seen::End(head) => format!("end {}", head.kind),
                });
                Ok::<_, Infallible>(())
            });
            assert_eq!(told, Ok(()));
        }
        seen
    }

    #[test]
    fn frames_are_found_wherever_the_bytes_are_cut() {
        let bytes = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1, 0, 3, 0, 0, 0, 2]),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[7; 300]),
            frame(DATA, PADDED, 3, &[2, 9, 0, 0]),
            frame(WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0]),
            frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]),
            frame(SETTINGS, 1, 0, &[]),
        ]
        .concat();
        let expected = [
            "4 0 0 12",
            "[0, 4, 0, 0, 0, 1]",
            "[0, 3, 0, 0, 0, 2]",
            "end 4",
            "1 5 1 300",
            "end 1",
            "0 8 3 4",
            "[2]",
            "end 0",
            "8 0 3 4",
            "[0, 0, 1, 0]",
            "end 8",
            "3 0 3 4",
            "[0, 0, 0, 8]",
            "end 3",
            "4 1 0 0",
            "end 4",
        ];
        assert_eq!(scanned(&mut Scanner::inbound(), &[&bytes]), expected);
        for size in [1, 2, 7, 9, 64] {
            let chunks: Vec<_> = bytes.chunks(size).collect();
            assert_eq!(scanned(&mut Scanner::inbound(), &chunks), expected, "by {size}");
        }
    }

    #[test]
    fn it_knows_where_it_stands() {
        let mut scanner = Scanner::inbound();
        assert!(!scanner.is_between() && scanner.is_within_control());
        scanned(&mut scanner, &[&[0; PREFACE]]);
        assert!(scanner.is_between() && !scanner.is_within_control());
        scanned(&mut scanner, &[&[0, 0]]);
        assert!(!scanner.is_between() && scanner.is_within_control());
        scanned(&mut scanner, &[&[2, DATA, 0, 0, 0, 0, 1, 7]]);
        assert!(!scanner.is_between() && !scanner.is_within_control(), "a body is judged by its rate");
        scanned(&mut scanner, &[&[7]]);
        assert!(scanner.is_between());
    }

    #[test]
    fn malformed_lengths_only_end_sooner() {
        let short = [frame(WINDOW_UPDATE, 0, 1, &[0, 0]), frame(SETTINGS, 0, 0, &[0; 7]), frame(PING, 0, 0, &[])];
        let seen = scanned(&mut Scanner::outbound(), &[&short.concat()]);
        let expected = ["8 0 1 2", "end 8", "4 0 0 7", "[0, 0, 0, 0, 0, 0]", "end 4", "6 0 0 0", "end 6"];
        assert_eq!(seen, expected);
    }
}
