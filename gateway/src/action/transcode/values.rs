//! Cuts a text into JSON values as it comes: the elements of an array, or values one after the other, a line each.
//! Whether a value is one is decided by who reads it; only where each ends is found here.

use bytes::{Bytes, BytesMut};

/// Keeps what of a value is there, and no more of it than the limit.
pub struct Values {
    unread: BytesMut,
    /// Bytes of `unread` that have been looked at, all of one value.
    seen: usize,
    form: Form,
    inside: Inside,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Nothing is there yet that tells.
    Unknown,
    /// In an array, before its first element, before one, behind one.
    Opened,
    Before,
    Behind,
    /// Behind an array.
    Closed,
    Sequence,
}

/// Where in a value the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Inside {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

/// Why there is no next value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    #[error("a value is larger than may be")]
    TooLarge,
    #[error("the array is not well formed")]
    Malformed,
    #[error("the text ends within a value or an array")]
    Unfinished,
}

impl Values {
    /// Of values of at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { unread: BytesMut::new(), seen: 0, form: Form::Unknown, inside: Inside::default(), limit }
    }

    pub fn push(&mut self, data: &[u8]) {
        self.unread.extend_from_slice(data);
    }

    /// The next value, if all of it is here. Where the text has ended, a value ends with it.
    ///
    /// # Errors
    /// As [`Stop`] has them; nothing comes after one.
    pub fn take(&mut self, has_ended: bool) -> Result<Option<Bytes>, Stop> {
        if self.seen == 0 && !self.approach()? {
            let may_end = matches!(self.form, Form::Unknown | Form::Closed | Form::Sequence);
            return if has_ended && !may_end { Err(Stop::Unfinished) } else { Ok(None) };
        }
        match self.find_end() {
            Some(end) => Ok(Some(self.cut(end)?)),
            None if self.unread.len() > self.limit => Err(Stop::TooLarge),
            None if !has_ended => Ok(None),
            // A number or a word has no end of its own.
            None if self.form == Form::Sequence && self.inside == Inside::default() => {
                Ok(Some(self.cut(self.unread.len())?))
            }
            None => Err(Stop::Unfinished),
        }
    }

    /// Goes on to the first byte of a value; whether it is here.
    fn approach(&mut self) -> Result<bool, Stop> {
        let mut at = 0;
        let mut found = false;
        while let Some(&byte) = self.unread.get(at) {
            if byte.is_ascii_whitespace() {
                at += 1;
                continue;
            }
            self.form = match (self.form, byte) {
                (Form::Unknown, b'[') => Form::Opened,
                (Form::Opened | Form::Behind, b']') => Form::Closed,
                (Form::Behind, b',') => Form::Before,
                (Form::Behind | Form::Closed, _) | (Form::Opened | Form::Before, b',' | b']') => {
                    return Err(Stop::Malformed);
                }
                (Form::Opened | Form::Before, _) => {
                    found = true;
                    Form::Before
                }
                (Form::Unknown | Form::Sequence, _) => {
                    found = true;
                    Form::Sequence
                }
            };
            if found {
                break;
            }
            at += 1;
        }
        _ = self.unread.split_to(at);
        Ok(found)
    }

    fn find_end(&mut self) -> Option<usize> {
        while let Some(&byte) = self.unread.get(self.seen) {
            let Inside { depth, in_string, escaped } = &mut self.inside;
            if *in_string {
                match byte {
                    _ if *escaped => *escaped = false,
                    b'\\' => *escaped = true,
                    b'"' => *in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => *in_string = true,
                    b'{' | b'[' => *depth += 1,
                    // It is not this value's own.
                    b'}' | b']' | b',' if *depth == 0 && self.seen > 0 => return Some(self.seen),
                    b'}' | b']' => *depth = depth.saturating_sub(1),
                    _ if byte.is_ascii_whitespace() && *depth == 0 => return Some(self.seen),
                    _ => {}
                }
                let closes = matches!(byte, b'}' | b']');
                if *depth == 0 && closes {
                    return Some(self.seen + 1);
                }
            }
            self.seen += 1;
            if byte == b'"' && self.inside == Inside::default() && self.seen > 1 {
                return Some(self.seen);
            }
        }
        None
    }

    fn cut(&mut self, end: usize) -> Result<Bytes, Stop> {
        if end > self.limit {
            return Err(Stop::TooLarge);
        }
        (self.seen, self.inside) = (0, Inside::default());
        if self.form == Form::Before {
            self.form = Form::Behind;
        }
        Ok(self.unread.split_to(end).freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str, size: usize) -> Result<Vec<String>, Stop> {
        let mut values = Values::new(64);
        let mut found = Vec::new();
        let chunks = text.as_bytes().chunks(size.max(1));
        let count = chunks.len();
        for (at, chunk) in chunks.enumerate() {
            values.push(chunk);
            while let Some(value) = values.take(at + 1 == count)? {
                found.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
        Ok(found)
    }

    #[test]
    fn values_come_out_however_the_text_is_cut() {
        for (text, values) in [
            (
                r#"[{"a": "]},\"["}, [1, [2]] ,"x\\" , 1.5, null]"#,
                &[r#"{"a": "]},\"["}"#, "[1, [2]]", r#""x\\""#, "1.5", "null"][..],
            ),
            ("{\"a\":1}\n{\"b\":2}\n", &["{\"a\":1}", "{\"b\":2}"]),
            ("{}{}\r\n\r\n 1 2", &["{}", "{}", "1", "2"]),
            (" [ ] ", &[]),
            ("", &[]),
            (" \n ", &[]),
            ("[{}]\n", &["{}"]),
        ] {
            for size in 1..=text.len().max(1) {
                assert_eq!(
                    all(text, size).as_deref(),
                    Ok(&values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()[..]),
                    "{text} by {size}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_list_of_values_is_refused() {
        for (text, stop) in [
            ("[1 2]", Stop::Malformed),
            ("[,1]", Stop::Malformed),
            ("[1,]", Stop::Malformed),
            ("[1]]", Stop::Malformed),
            ("[1] 2", Stop::Malformed),
            ("[1", Stop::Unfinished),
            ("[1,", Stop::Unfinished),
            ("[", Stop::Unfinished),
            ("[{\"a\": [}", Stop::Unfinished),
            ("{\"a\": 1", Stop::Unfinished),
            ("\"a", Stop::Unfinished),
        ] {
            for size in 1..=text.len() {
                assert_eq!(all(text, size), Err(stop), "{text} by {size}");
            }
        }
        let long = format!("[{{\"a\": \"{}\"}}]", "x".repeat(64));
        for size in [1, 7, long.len()] {
            assert_eq!(all(&long, size), Err(Stop::TooLarge));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn any_list_is_cut_where_its_values_end(
            texts in prop::collection::vec("[a-z\\[\\]{},:\"\\\\ é]{0,6}", 0..6), size in 1_usize..16, lines in any::<bool>(),
        ) {
            let values: Vec<_> = texts.iter().map(|text| serde_json::json!({"t": text, "l": [text]}).to_string()).collect();
            let values: Vec<_> = values.into_iter().filter(|value| value.len() <= 64).collect();
            let whole = if lines { values.join("\n") } else { format!("[{}]", values.join(" ,\n")) };
            prop_assert_eq!(all(&whole, size), Ok(values));
        }
    }
}
