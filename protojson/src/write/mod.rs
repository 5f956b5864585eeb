//! The wire format to JSON in one pass.
//!
//! What encoders write is taken as it comes: fields in the order of their numbers, each once, elements of a list together.
//! What the format also allows (other orders, a field again, a message in pieces) is left to the dynamic path, and so is
//! what is broken: it says why.

mod scalar;
mod well_known;

use crate::{
    Malformed, SIZE,
    keys::Keys,
    table::{Field, Form, Kind, Message, Shape, Tables},
    wire::{Broken, Cursor, NESTING, WireType},
};

/// Why the tables don't show a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// They can't: the dynamic path may.
    Unusual,
    /// Nothing may: it would be larger than [`SIZE`].
    TooLarge,
}

type Step<T = ()> = Result<T, Unwritten>;

pub struct Writer<'a> {
    tables: &'a Tables,
    json: &'a mut Vec<u8>,
    /// Where in `json` the keys stand of the maps that are being written.
    keys: Keys,
    nesting: usize,
    /// How long `json` may become.
    limit: usize,
}

impl From<Broken> for Unwritten {
    fn from(_: Broken) -> Self {
        Self::Unusual
    }
}

/// Appends by the tables, or else by the dynamic path; nothing where neither can.
///
/// # Errors
/// Those of the dynamic path, and that it would be too large.
pub fn either(
    tables: impl FnOnce(&mut Vec<u8>) -> Step,
    dynamic: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
    json: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let start = json.len();
    let Err(why) = tables(json) else { return Ok(()) };
    json.truncate(start);
    let written = match why {
        Unwritten::Unusual => dynamic(json),
        Unwritten::TooLarge => Err(Malformed(format!("larger than {SIZE} bytes as JSON"))),
    };
    written.inspect_err(|_| json.truncate(start))
}

/// Appends a message.
///
/// # Errors
/// If the tables can't show it; what was appended is to be removed then.
pub fn message(tables: &Tables, table: &Message, wire: &[u8], json: &mut Vec<u8>) -> Step {
    Writer::new(tables, json).message(table, wire)
}

/// Appends the value of one field of a message; null where it isn't set and has no default.
///
/// # Errors
/// As [`message`].
pub fn field(tables: &Tables, field: &Field, wire: &[u8], json: &mut Vec<u8>) -> Step {
    let mut writer = Writer::new(tables, json);
    let mut cursor = Cursor::new(wire);
    let mut written = false;
    while !cursor.is_empty() {
        let (number, wire_type) = cursor.tag()?;
        if number != field.number {
            cursor.skip(wire_type)?;
        } else if written {
            return Err(Unwritten::Unusual);
        } else {
            written = true;
            writer.field(field, wire_type, &mut cursor)?;
        }
    }
    if !written {
        // Of `,"name":0` what follows the colon.
        json.extend_from_slice(field.absent.get(field.name.len()..).unwrap_or(b"null"));
    }
    Ok(())
}

impl<'a> Writer<'a> {
    fn new(tables: &'a Tables, json: &'a mut Vec<u8>) -> Self {
        let limit = json.len() + SIZE;
        Self { tables, json, keys: Keys::default(), nesting: 0, limit }
    }

    fn message(&mut self, table: &Message, wire: &[u8]) -> Step {
        if self.nesting == NESTING {
            return Err(Unwritten::Unusual);
        }
        self.nesting += 1;
        if table.form == Form::Plain {
            self.object(table, wire)?;
        } else {
            self.well_known(table, wire)?;
        }
        self.nesting -= 1;
        // What stands between two messages is in proportion to what is encoded.
        if self.json.len() > self.limit { Err(Unwritten::TooLarge) } else { Ok(()) }
    }

    fn object(&mut self, table: &Message, wire: &[u8]) -> Step {
        let start = self.json.len();
        let mut cursor = Cursor::new(wire);
        let mut next = 0;
        let mut oneofs = 0_u64;
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag()?;
            let Some(place) = table.numbered(number, next) else {
                if table.is_extensible {
                    return Err(Unwritten::Unusual);
                }
                cursor.skip(wire_type)?;
                continue;
            };
            if place < next {
                return Err(Unwritten::Unusual);
            }
            self.absent(&table.fields[next..place]);
            next = place + 1;
            let field = &table.fields[place];
            if let Some(oneof) = field.oneof {
                let bit = 1 << oneof;
                if oneofs & bit != 0 {
                    return Err(Unwritten::Unusual);
                }
                oneofs |= bit;
            }
            self.json.extend_from_slice(&field.name);
            self.field(field, wire_type, &mut cursor)?;
        }
        self.absent(&table.fields[next..]);
        // The first comma has nothing before it.
        match self.json.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => self.json.push(b'{'),
        }
        self.json.push(b'}');
        Ok(())
    }

    fn absent(&mut self, fields: &[Field]) {
        for field in fields {
            self.json.extend_from_slice(&field.absent);
        }
    }

    /// Appends a field's value, whose first tag has been read.
    #[inline]
    fn field(&mut self, field: &Field, wire_type: u8, cursor: &mut Cursor<'_>) -> Step {
        match field.shape {
            Shape::One => self.value(field.kind, wire_type, cursor),
            Shape::List => self.list(field, wire_type, cursor),
            Shape::Map => self.map(field, wire_type, cursor),
        }
    }

    #[inline]
    fn value(&mut self, kind: Kind, wire_type: u8, cursor: &mut Cursor<'_>) -> Step {
        if wire_type != kind.wire_type() as u8 {
            return Err(Unwritten::Unusual);
        }
        match kind {
            Kind::String => self.string(cursor.slice()?),
            Kind::Bytes => self.bytes(cursor.slice()?),
            Kind::Message(place) => {
                let tables = self.tables;
                self.message(&tables.messages[place], cursor.slice()?)
            }
            Kind::Group => Err(Unwritten::Unusual),
            kind => self.number(kind, cursor),
        }
    }

    fn list(&mut self, field: &Field, mut wire_type: u8, cursor: &mut Cursor<'_>) -> Step {
        let element = field.kind.wire_type();
        self.json.push(b'[');
        loop {
            if wire_type == WireType::Bytes as u8 && element != WireType::Bytes {
                let mut packed = Cursor::new(cursor.slice()?);
                while !packed.is_empty() {
                    self.value(field.kind, element as u8, &mut packed)?;
                    self.json.push(b',');
                }
            } else {
                self.value(field.kind, wire_type, cursor)?;
                self.json.push(b',');
            }
            match follows(field, cursor) {
                Some(next) => wire_type = next,
                None => break,
            }
        }
        self.close(b']');
        Ok(())
    }

    fn map(&mut self, field: &Field, mut wire_type: u8, cursor: &mut Cursor<'_>) -> Step {
        let Kind::Message(place) = field.kind else { return Err(Unwritten::Unusual) };
        let tables = self.tables;
        let [key, value] = &*tables.messages[place].fields else { return Err(Unwritten::Unusual) };
        let begin = self.keys.begin();
        self.json.push(b'{');
        loop {
            if wire_type != WireType::Bytes as u8 {
                return Err(Unwritten::Unusual);
            }
            self.entry(key, value, cursor.slice()?)?;
            self.json.push(b',');
            match follows(field, cursor) {
                Some(next) => wire_type = next,
                None => break,
            }
        }
        self.close(b'}');
        if self.keys.end(begin, self.json) { Err(Unwritten::Unusual) } else { Ok(()) }
    }

    fn entry(&mut self, key: &Field, value: &Field, wire: &[u8]) -> Step {
        let mut cursor = Cursor::new(wire);
        let start = self.json.len();
        match follows(key, &mut cursor) {
            Some(wire_type) => self.key(key.kind, wire_type, &mut cursor)?,
            None => self.default_key(key)?,
        }
        self.keys.push(start, self.json.len());
        self.json.push(b':');
        match follows(value, &mut cursor) {
            Some(wire_type) => self.value(value.kind, wire_type, &mut cursor)?,
            None => self.default(value)?,
        }
        if cursor.is_empty() { Ok(()) } else { Err(Unwritten::Unusual) }
    }

    /// Appends what stands for a value that isn't there but must be shown.
    fn default(&mut self, field: &Field) -> Step {
        match (field.kind, field.absent.get(field.name.len()..)) {
            (Kind::Message(place), _) => {
                let tables = self.tables;
                self.message(&tables.messages[place], &[])
            }
            (_, Some(default)) => {
                self.json.extend_from_slice(default);
                Ok(())
            }
            (_, None) => Err(Unwritten::Unusual),
        }
    }

    /// Closes what every element of has a comma after it.
    fn close(&mut self, bracket: u8) {
        match self.json.last_mut() {
            Some(comma @ b',') => *comma = bracket,
            _ => self.json.push(bracket),
        }
    }
}

/// The wire type of a field's next value, if that is what comes next; its tag has been passed then.
fn follows(field: &Field, cursor: &mut Cursor<'_>) -> Option<u8> {
    let mut ahead = *cursor;
    let (number, wire_type) = ahead.tag().ok()?;
    (number == field.number).then(|| {
        *cursor = ahead;
        wire_type
    })
}
