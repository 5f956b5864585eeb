//! Messages that JSON shows as something else than an object of their fields.

use super::{Reader, Step, Unread};
use crate::{
    table::{Field, Form, Message},
    time,
    wire::{self, Tag, WireType},
};

impl Reader<'_> {
    pub(super) fn well_known(&mut self, table: &Message) -> Step {
        match (table.form, &*table.fields) {
            (Form::Empty, _) => match self.json.open(b'{', b'}')? {
                true => Err(Unread),
                false => Ok(()),
            },
            (Form::Wrapper, [value]) => self.value(value.kind, value.tag, self.is_whole),
            (Form::Timestamp, fields) => {
                let parts = time::timestamp(self.json.string()?.plain()?);
                self.parts(fields, parts)
            }
            (Form::Duration, fields) => {
                let parts = time::duration(self.json.string()?.plain()?);
                self.parts(fields, parts)
            }
            (Form::FieldMask, [paths]) => {
                let text = self.json.string()?.plain()?;
                text.split(|byte| *byte == b',').filter(|path| !path.is_empty()).try_for_each(|path| {
                    paths.tag.put(self.wire);
                    let start = wire::begin(self.wire);
                    snake_case(path, self.wire)?;
                    wire::end(self.wire, start);
                    Ok(())
                })
            }
            (Form::Struct, [entries]) => self.map(entries),
            (Form::ListValue, [values]) => self.list(values),
            (Form::Value, fields) => self.any_json(fields),
            (Form::Any, [type_url, value]) => self.any(type_url, value),
            _ => Err(Unread),
        }
    }

    /// Seconds and nanos.
    fn parts(&mut self, fields: &[Field], parts: Option<(i64, i32)>) -> Step {
        let (seconds, nanos) = parts.ok_or(Unread)?;
        for (field, part) in fields.iter().zip([seconds, i64::from(nanos)]) {
            if part != 0 || self.is_whole {
                field.tag.put(self.wire);
                wire::put_varint(self.wire, part as u64);
            }
        }
        Ok(())
    }

    /// The type must come first, as all but the most contrary write it.
    fn any(&mut self, type_url: &Field, value: &Field) -> Step {
        self.enter()?;
        if !self.json.open(b'{', b'}')? || self.json.string()?.plain()? != b"@type" {
            return Err(Unread);
        }
        self.json.expect(b':')?;
        let url = self.json.string()?;
        let tables = self.tables;
        let table = tables.named_by(url.plain()?).ok_or(Unread)?;
        self.put_string(url, type_url.tag, true)?;
        let more = self.json.more(b'}')?;
        value.tag.put(self.wire);
        let start = wire::begin(self.wire);
        if table.form == Form::Plain {
            self.members(table, more)?;
        } else {
            if !more || self.json.string()?.plain()? != b"value" {
                return Err(Unread);
            }
            self.json.expect(b':')?;
            self.well_known(table)?;
            if self.json.more(b'}')? {
                return Err(Unread);
            }
        }
        wire::end(self.wire, start);
        self.leave();
        Ok(())
    }

    fn any_json(&mut self, fields: &[Field]) -> Step {
        let [null, number, string, boolean, structure, list] = fields else { return Err(Unread) };
        match self.json.peek() {
            b'n' => {
                self.json.word(b"null")?;
                Tag::new(null.number, WireType::Varint).put(self.wire);
                self.wire.push(0);
                Ok(())
            }
            b'"' => self.value(string.kind, string.tag, true),
            b't' | b'f' => self.value(boolean.kind, boolean.tag, true),
            b'{' => self.value(structure.kind, structure.tag, true),
            b'[' => self.value(list.kind, list.tag, true),
            _ => self.value(number.kind, number.tag, true),
        }
    }
}

/// `pageSize.aB` → `page_size.a_b`
fn snake_case(path: &[u8], out: &mut Vec<u8>) -> Step {
    for byte in path {
        match byte {
            b'_' => return Err(Unread),
            b'A'..=b'Z' => out.extend_from_slice(&[b'_', byte.to_ascii_lowercase()]),
            _ => out.push(*byte),
        }
    }
    Ok(())
}
