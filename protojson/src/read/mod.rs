//! JSON to the wire format in one pass.
//!
//! What is taken here is right; what isn't is left to the dynamic path, which says what is wrong, or that nothing is: the
//! tables know the usual forms of everything and none of the reasons. Members are encoded in the order they come in.

mod scalar;
mod scan;
mod well_known;

use scan::Scanner;

use crate::{
    DEPTH,
    keys::Keys,
    plain,
    table::{Field, Form, Kind, Message, Shape, Tables},
    wire::{self, NESTING, Tag},
};

/// Not a text that the tables can judge.
#[derive(Debug)]
pub struct Unread;

type Step<T = ()> = Result<T, Unread>;

pub struct Reader<'a> {
    tables: &'a Tables,
    json: Scanner<'a>,
    wire: &'a mut Vec<u8>,
    /// Where in `wire` the keys stand of the maps that are being read.
    keys: Keys,
    depth: usize,
    nesting: usize,
    /// Of a message that JSON shows as one value all is encoded, defaults too, so that it takes the place of another.
    is_whole: bool,
}

/// Which fields of a message were given.
#[derive(Default)]
struct Seen {
    first: u64,
    rest: Vec<u64>,
}

/// Appends the message that `json` is.
///
/// # Errors
/// If the tables can't judge it; what was appended is to be removed then.
pub fn message(tables: &Tables, table: &Message, json: &[u8], wire: &mut Vec<u8>) -> Step {
    whole(tables, json, wire, |reader| reader.message(table))
}

/// Appends a field that `json` is the value of, and says whether it is set: null sets none.
///
/// # Errors
/// As [`message`].
pub fn field(tables: &Tables, field: &Field, json: &[u8], wire: &mut Vec<u8>) -> Step<bool> {
    whole(tables, json, wire, |reader| reader.member(field))
}

/// Appends one value of a field from text as it stands in a path or a query, be it the default.
///
/// # Errors
/// As [`message`].
pub fn text(tables: &Tables, field: &Field, text: &str, wire: &mut Vec<u8>) -> Step {
    let value = |reader: &mut Reader<'_>| {
        reader.is_whole = true;
        reader.value(field.kind, field.tag, true)
    };
    match (field.shape, field.kind) {
        (Shape::Map, _) => Err(Unread),
        (_, Kind::String) => {
            field.tag.put(wire);
            wire::put_varint(wire, text.len() as u64);
            wire.extend_from_slice(text.as_bytes());
            Ok(())
        }
        (_, Kind::Message(place)) if !tables.messages[place].form.is_text() => Err(Unread),
        // What JSON has in quotes.
        (_, Kind::Bytes | Kind::Enum(_) | Kind::Message(_)) if plain::len(text.as_bytes()) == text.len() => {
            whole(tables, format!("\"{text}\"").as_bytes(), wire, value)
        }
        (_, Kind::Bytes | Kind::Enum(_) | Kind::Message(_)) => Err(Unread),
        _ if text.starts_with(|first: char| first.is_ascii_whitespace() || first == '"') => Err(Unread),
        _ if text.ends_with(|last: char| last.is_ascii_whitespace()) => Err(Unread),
        _ => whole(tables, text.as_bytes(), wire, value),
    }
}

fn whole<T>(
    tables: &Tables,
    json: &[u8],
    wire: &mut Vec<u8>,
    read: impl FnOnce(&mut Reader<'_>) -> Step<T>,
) -> Step<T> {
    std::str::from_utf8(json).map_err(|_| Unread)?;
    let json = Scanner::new(json);
    let mut reader = Reader { tables, json, wire, keys: Keys::default(), depth: 0, nesting: 0, is_whole: false };
    let read = read(&mut reader)?;
    reader.json.end()?;
    Ok(read)
}

impl Reader<'_> {
    fn message(&mut self, table: &Message) -> Step {
        if table.form == Form::Plain { self.object(table) } else { self.well_known(table) }
    }

    fn object(&mut self, table: &Message) -> Step {
        self.enter()?;
        let more = self.json.open(b'{', b'}')?;
        self.members(table, more)?;
        self.leave();
        Ok(())
    }

    /// The members of an object up to its end, which is passed already where there are no more.
    fn members(&mut self, table: &Message, mut more: bool) -> Step {
        let mut seen = Seen::default();
        let mut oneofs = 0_u64;
        let mut expected = 0;
        while more {
            let name = self.json.string()?.plain()?;
            let place = table.named(name, expected).ok_or(Unread)?;
            expected = place + 1;
            if seen.before(place) {
                return Err(Unread);
            }
            self.json.expect(b':')?;
            let field = &table.fields[place];
            if self.member(field)?
                && let Some(oneof) = field.oneof
            {
                let bit = 1 << oneof;
                if oneofs & bit != 0 {
                    return Err(Unread);
                }
                oneofs |= bit;
            }
            more = self.json.more(b'}')?;
        }
        Ok(())
    }

    /// Whether the field was set: null sets none.
    fn member(&mut self, field: &Field) -> Step<bool> {
        if self.json.peek() == b'n' && !(field.shape == Shape::One && self.takes_null(field.kind)) {
            self.json.word(b"null")?;
            return Ok(false);
        }
        match field.shape {
            Shape::One => self.value(field.kind, field.tag, field.has_presence)?,
            Shape::List => self.list(field)?,
            Shape::Map => self.map(field)?,
        }
        Ok(true)
    }

    fn takes_null(&self, kind: Kind) -> bool {
        match kind {
            Kind::Message(place) => self.tables.messages[place].form == Form::Value,
            Kind::Enum(place) => self.tables.enums[place].is_null,
            _ => false,
        }
    }

    /// Appends one value. A default is left out where it need not be kept.
    #[inline]
    fn value(&mut self, kind: Kind, tag: Tag, keep: bool) -> Step {
        match kind {
            Kind::String => {
                let raw = self.json.string()?;
                self.put_string(raw, tag, keep)
            }
            Kind::Bytes => {
                let raw = self.json.string()?;
                self.put_bytes(raw, tag, keep)
            }
            Kind::Message(place) => {
                let tables = self.tables;
                if self.nesting == NESTING {
                    return Err(Unread);
                }
                self.nesting += 1;
                tag.put(self.wire);
                let start = wire::begin(self.wire);
                self.message(&tables.messages[place])?;
                wire::end(self.wire, start);
                self.nesting -= 1;
                Ok(())
            }
            Kind::Group => Err(Unread),
            kind => self.number(kind, tag, keep),
        }
    }

    fn list(&mut self, field: &Field) -> Step {
        self.enter()?;
        if self.json.open(b'[', b']')? {
            let start = field.packed.map(|tag| {
                tag.put(self.wire);
                wire::begin(self.wire)
            });
            let tag = if start.is_some() { Tag::default() } else { field.tag };
            loop {
                self.value(field.kind, tag, true)?;
                if !self.json.more(b']')? {
                    break;
                }
            }
            if let Some(start) = start {
                wire::end(self.wire, start);
            }
        }
        self.leave();
        Ok(())
    }

    fn map(&mut self, field: &Field) -> Step {
        let begin = self.keys.begin();
        self.enter()?;
        let mut more = self.json.open(b'{', b'}')?;
        while more {
            self.entry(field)?;
            more = self.json.more(b'}')?;
        }
        self.leave();
        if self.keys.end(begin, self.wire) { Err(Unread) } else { Ok(()) }
    }

    fn entry(&mut self, field: &Field) -> Step {
        let Kind::Message(place) = field.kind else { return Err(Unread) };
        let tables = self.tables;
        let [key, value] = &*tables.messages[place].fields else { return Err(Unread) };
        field.tag.put(self.wire);
        let start = wire::begin(self.wire);
        self.key(key.kind, key.tag)?;
        let key = self.wire.len() - start;
        self.json.expect(b':')?;
        self.value(value.kind, value.tag, true)?;
        let start = wire::end(self.wire, start);
        self.keys.push(start, start + key);
        Ok(())
    }

    fn enter(&mut self) -> Step {
        if self.depth == DEPTH {
            return Err(Unread);
        }
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }
}

impl Seen {
    /// Whether the field was there before; it is from now on.
    #[inline]
    fn before(&mut self, place: usize) -> bool {
        let word = match place / 64 {
            0 => &mut self.first,
            more => {
                if self.rest.len() < more {
                    self.rest.resize(more, 0);
                }
                &mut self.rest[more - 1]
            }
        };
        let bit = 1 << (place % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }
}
