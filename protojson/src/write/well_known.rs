//! Messages that JSON shows as something else than an object of their fields.

use super::{Step, Unwritten, Writer, follows};
use crate::{
    table::{Field, Form, Kind, Message},
    time,
    wire::Cursor,
};

impl Writer<'_> {
    pub(super) fn well_known(&mut self, table: &Message, wire: &[u8]) -> Step {
        match (table.form, &*table.fields) {
            (Form::Empty, _) => {
                let mut cursor = Cursor::new(wire);
                while !cursor.is_empty() {
                    let (_, wire_type) = cursor.tag()?;
                    cursor.skip(wire_type)?;
                }
                self.json.extend_from_slice(b"{}");
                Ok(())
            }
            (Form::Wrapper, [value]) => {
                let mut cursor = Cursor::new(wire);
                match follows(value, &mut cursor) {
                    Some(wire_type) => self.value(value.kind, wire_type, &mut cursor)?,
                    None => self.default(value)?,
                }
                ended(cursor)
            }
            (Form::Timestamp, fields) => {
                let (seconds, nanos) = parts(fields, wire)?;
                let nanos =
                    u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or(Unwritten::Unusual)?;
                if !time::SECONDS.contains(&seconds) {
                    return Err(Unwritten::Unusual);
                }
                self.json.push(b'"');
                time::write_timestamp(seconds, nanos, self.json);
                self.json.push(b'"');
                Ok(())
            }
            (Form::Duration, fields) => {
                let (seconds, nanos) = parts(fields, wire)?;
                let is_of_one_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
                if !is_of_one_sign || seconds.abs_diff(0) > time::DURATION as u64 || nanos.abs_diff(0) >= 1_000_000_000
                {
                    return Err(Unwritten::Unusual);
                }
                self.json.push(b'"');
                time::write_duration(seconds, nanos, self.json);
                self.json.push(b'"');
                Ok(())
            }
            (Form::FieldMask, [paths]) => self.field_mask(paths, wire),
            (Form::Struct, [entries]) => self.structure(entries, wire),
            (Form::ListValue, [values]) => self.list_value(values, wire),
            (Form::Value, fields) => self.any_json(fields, wire),
            (Form::Any, [type_url, value]) => self.any(type_url, value, wire),
            _ => Err(Unwritten::Unusual),
        }
    }

    fn field_mask(&mut self, paths: &Field, wire: &[u8]) -> Step {
        let mut cursor = Cursor::new(wire);
        self.json.push(b'"');
        let start = self.json.len();
        while !cursor.is_empty() {
            let Some(2) = follows(paths, &mut cursor) else { return Err(Unwritten::Unusual) };
            if self.json.len() > start {
                self.json.push(b',');
            }
            camel_case(cursor.slice()?, self.json)?;
        }
        self.json.push(b'"');
        Ok(())
    }

    fn structure(&mut self, entries: &Field, wire: &[u8]) -> Step {
        let mut cursor = Cursor::new(wire);
        match follows(entries, &mut cursor) {
            Some(wire_type) => self.map(entries, wire_type, &mut cursor)?,
            None => self.json.extend_from_slice(b"{}"),
        }
        ended(cursor)
    }

    fn list_value(&mut self, values: &Field, wire: &[u8]) -> Step {
        let mut cursor = Cursor::new(wire);
        match follows(values, &mut cursor) {
            Some(wire_type) => self.list(values, wire_type, &mut cursor)?,
            None => self.json.extend_from_slice(b"[]"),
        }
        ended(cursor)
    }

    fn any(&mut self, type_url: &Field, value: &Field, wire: &[u8]) -> Step {
        let mut cursor = Cursor::new(wire);
        let Some(2) = follows(type_url, &mut cursor) else { return Err(Unwritten::Unusual) };
        let url = cursor.slice()?;
        let content = match follows(value, &mut cursor) {
            None => &[],
            Some(2) => cursor.slice()?,
            Some(_) => return Err(Unwritten::Unusual),
        };
        ended(cursor)?;
        let tables = self.tables;
        let table = tables.named_by(url).ok_or(Unwritten::Unusual)?;
        self.json.extend_from_slice(b"{\"@type\":");
        self.string(url)?;
        if table.form != Form::Plain {
            self.json.extend_from_slice(b",\"value\":");
            self.message(table, content)?;
            self.json.push(b'}');
            return Ok(());
        }
        // Its members stand beside the type: what opens its object becomes a comma.
        let start = self.json.len();
        self.message(table, content)?;
        match &mut self.json[start..] {
            [_, b'}'] => _ = self.json.remove(start),
            [brace, ..] => *brace = b',',
            [] => return Err(Unwritten::Unusual),
        }
        Ok(())
    }

    fn any_json(&mut self, fields: &[Field], wire: &[u8]) -> Step {
        let mut cursor = Cursor::new(wire);
        let Some(field) =
            fields.iter().find_map(|field| follows(field, &mut cursor).map(|wire_type| (field, wire_type)))
        else {
            self.json.extend_from_slice(b"null");
            return ended(cursor);
        };
        let (field, wire_type) = field;
        let start = self.json.len();
        self.value(field.kind, wire_type, &mut cursor)?;
        // A number that is none would be shown as a string, and come back as one.
        if field.kind == Kind::Double && self.json.get(start) == Some(&b'"') {
            return Err(Unwritten::Unusual);
        }
        ended(cursor)
    }
}

/// Seconds and nanos.
fn parts(fields: &[Field], wire: &[u8]) -> Step<(i64, i32)> {
    let [seconds, nanos] = fields else { return Err(Unwritten::Unusual) };
    let mut cursor = Cursor::new(wire);
    let mut part = |field| match follows(field, &mut cursor) {
        None => Ok(0),
        Some(0) => Ok(cursor.varint()? as i64),
        Some(_) => Err(Unwritten::Unusual),
    };
    let parts = (part(seconds)?, part(nanos)? as i32);
    ended(cursor)?;
    Ok(parts)
}

/// What is left over (a field again, one that isn't known) is not for the tables.
fn ended(cursor: Cursor<'_>) -> Step {
    if cursor.is_empty() { Ok(()) } else { Err(Unwritten::Unusual) }
}

/// `page_size.a_b` → `pageSize.aB`; a path that wouldn't come back is refused.
fn camel_case(path: &[u8], out: &mut Vec<u8>) -> Step {
    let mut is_word = false;
    for byte in path {
        match byte {
            b'A'..=b'Z' => return Err(Unwritten::Unusual),
            b'a'..=b'z' if is_word => out.push(byte.to_ascii_uppercase()),
            _ if is_word => return Err(Unwritten::Unusual),
            b'a'..=b'z' | b'0'..=b'9' | b'.' => out.push(*byte),
            b'_' => {}
            _ => return Err(Unwritten::Unusual),
        }
        is_word = *byte == b'_';
    }
    if is_word { Err(Unwritten::Unusual) } else { Ok(()) }
}
