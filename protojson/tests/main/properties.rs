//! What holds of the tables for any schema and any message, the dynamic path being the judge: what they take is taken by it
//! too, and means the same.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use protojson::{Message, Schema, dynamic};
use serde_json::Value;

use super::{dice::Dice, schemas, spelling};

/// How often the tables did it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub tried: usize,
    pub by_tables: usize,
    /// Refused by both.
    pub refused: usize,
}

impl Count {
    fn add(&mut self, by_tables: bool, refused: bool) {
        self.tried += 1;
        self.by_tables += usize::from(by_tables);
        self.refused += usize::from(refused);
    }
}

fn subject(dice: &mut Dice<'_>) -> (Message, DynamicMessage) {
    let pool = schemas::pool(dice);
    let message = Schema::new(&pool).message("r.M0").unwrap();
    let value = schemas::random(message.descriptor(), 3, dice);
    (message, value)
}

/// What an encoded message means: the JSON that the dynamic path makes of it.
pub fn meaning(descriptor: &MessageDescriptor, wire: &[u8]) -> Option<Value> {
    let message = DynamicMessage::decode(descriptor.clone(), wire).ok()?;
    let mut json = Vec::new();
    dynamic::write_message(&message, &mut json).ok()?;
    Some(serde_json::from_slice(&json).unwrap())
}

/// A message as encoders write it is shown by both alike.
pub fn is_written_alike(bytes: &[u8], count: &mut Count) {
    let (message, value) = subject(&mut Dice::new(bytes));
    compare_written(&message, &value.encode_to_vec(), count);
}

/// So are bytes that a message was damaged to.
pub fn is_written_alike_or_refused(bytes: &[u8], count: &mut Count) {
    let mut dice = Dice::new(bytes);
    let (message, value) = subject(&mut dice);
    let mut wire = value.encode_to_vec();
    let other = schemas::random(message.descriptor(), 2, &mut dice).encode_to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(wire.len() + 1);
        match dice.below(6) {
            0 if at < wire.len() => wire[at] ^= 1 << dice.below(8),
            1 => wire.truncate(at),
            2 => wire.insert(at, dice.byte()),
            // Fields again, and out of their order.
            3 => wire.extend_from_slice(&other),
            4 => wire.splice(0..0, other.iter().copied()).for_each(drop),
            // A field that nobody knows.
            _ => wire.extend_from_slice(&[0xfa, 0xff, 0x7f, 2, 1, 2]),
        }
    }
    compare_written(&message, &wire, count);
}

fn compare_written(message: &Message, wire: &[u8], count: &mut Count) {
    let expected = meaning(message.descriptor(), wire);
    let mut json = Vec::new();
    let by_tables = message.write_by_tables(wire, &mut json);
    count.add(by_tables, expected.is_none());
    if by_tables {
        let found: Value =
            serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)));
        assert_eq!(Some(found), expected, "{}", String::from_utf8_lossy(&json));
    }
}

/// A message in any of its spellings is read by both alike.
pub fn is_read_alike(bytes: &[u8], count: &mut Count) {
    let mut dice = Dice::new(bytes);
    let (message, value) = subject(&mut dice);
    let json = spelling::spell(&value, &mut dice);
    let read = compare_read(&message, &json, count);
    assert!(read, "{}", String::from_utf8_lossy(&json));
}

/// So is a text that one was damaged to.
pub fn is_read_alike_or_refused(bytes: &[u8], count: &mut Count) {
    let mut dice = Dice::new(bytes);
    let (message, value) = subject(&mut dice);
    let mut json = spelling::spell(&value, &mut dice);
    const PIECES: [&[u8]; 24] = [
        b"null",
        b"{}",
        b"[]",
        b"\"\"",
        b",",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b"0",
        b"-",
        b"1e3",
        b"1.5",
        b"\"NaN\"",
        b"\"1\"",
        b"99999999999999999999",
        b"true",
        b"\\u00e9",
        b"\\ud800",
        b"\xff",
        b" ",
    ];
    for _ in 0..=dice.below(3) / 2 {
        let at = dice.below(json.len() + 1);
        match dice.below(8) {
            // Another value in a value's place.
            4.. => {
                let values: Vec<_> = (1..json.len()).filter(|at| matches!(json[at - 1], b':' | b'[' | b',')).collect();
                let Some(start) = values.get(dice.below(values.len())).copied() else { continue };
                let rest = &json[start..];
                let end = start + rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']')).unwrap_or(rest.len());
                json.splice(start..end, dice.choose(&PIECES).iter().copied());
            }
            0 if at < json.len() => json[at] ^= 1 << dice.below(8),
            1 => {
                let end = (at + dice.below(12)).min(json.len());
                let piece = json[at..end].to_vec();
                let to = dice.below(json.len() + 1);
                json.splice(to..to, piece);
            }
            2 => {
                let end = (at + dice.below(8)).min(json.len());
                json.splice(at..end, dice.choose(&PIECES).iter().copied());
            }
            _ => {
                json.splice(at..at, dice.choose(&PIECES).iter().copied());
            }
        }
    }
    compare_read(&message, &json, count);
}

/// Whether it was taken.
fn compare_read(message: &Message, json: &[u8], count: &mut Count) -> bool {
    let expected = dynamic::read::message(message.descriptor(), json);
    let mut wire = Vec::new();
    let by_tables = message.read_by_tables(json, &mut wire);
    count.add(by_tables, expected.is_err());
    if by_tables {
        let shown = String::from_utf8_lossy(json);
        let expected = expected.unwrap_or_else(|fault| panic!("{fault:?}: {shown}")).encode_to_vec();
        let expected = meaning(message.descriptor(), &expected);
        assert!(expected.is_some(), "{shown}");
        assert_eq!(meaning(message.descriptor(), &wire), expected, "{shown}");
        return true;
    }
    assert!(wire.is_empty(), "nothing is left of what was not taken");
    expected.is_ok()
}
