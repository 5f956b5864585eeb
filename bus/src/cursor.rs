//! A reader's place in a queue, opaque to clients: base64url of (partition, lineage, position) a partition.

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const VERSION: u8 = 1;
const ENTRY: usize = 20;
/// Queues have at most so many partitions.
const ENTRIES: usize = 256;

/// Where a reader is, a partition: the lineage it read in, and the last position it saw (0: none).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub(crate) BTreeMap<u32, Place>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lineage: u64,
    pub(crate) position: u64,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this bus")]
pub struct CursorError;

impl Cursor {
    /// The last position seen of a partition.
    pub fn position(&self, partition: u32) -> Option<u64> {
        self.0.get(&partition).map(|place| place.position)
    }

    /// What it holds: (partition, lineage, last position seen) each, by partition.
    pub fn places(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        self.0.iter().map(|(&partition, place)| (partition, place.lineage, place.position))
    }
}

/// From (partition, lineage, last position seen), as [`Cursor::places`] gives them.
impl FromIterator<(u32, u64, u64)> for Cursor {
    fn from_iter<I: IntoIterator<Item = (u32, u64, u64)>>(places: I) -> Self {
        let place = |(partition, lineage, position)| (partition, Place { lineage, position });
        Self(places.into_iter().map(place).collect())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        for (partition, place) in &self.0 {
            bytes.extend(partition.to_be_bytes());
            bytes.extend(place.lineage.to_be_bytes());
            bytes.extend(place.position.to_be_bytes());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        // Four characters carry three bytes.
        if text.len() > (1 + ENTRY * ENTRIES) * 4 / 3 + 4 {
            return Err(CursorError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let (&version, entries) = bytes.split_first().ok_or(CursorError)?;
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        if version != VERSION || !rest.is_empty() {
            return Err(CursorError);
        }
        entries
            .iter()
            .map(|entry| {
                let (partition, rest) = entry.split_first_chunk().ok_or(CursorError)?;
                let (lineage, rest) = rest.split_first_chunk().ok_or(CursorError)?;
                let position = u64::from_be_bytes(rest.try_into().map_err(|_| CursorError)?);
                // No log is that long, and there must be a next one.
                if i64::try_from(position).is_err() {
                    return Err(CursorError);
                }
                let place = Place { lineage: u64::from_be_bytes(*lineage), position };
                Ok((u32::from_be_bytes(*partition), place))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_form() {
        let cursor = Cursor(BTreeMap::from([
            (0, Place { lineage: 7, position: 42 }),
            (3, Place { lineage: u64::MAX >> 1, position: 0 }),
        ]));
        assert_eq!(cursor.places().collect::<Cursor>(), cursor);
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let endless = Cursor(BTreeMap::from([(0, Place { lineage: 7, position: u64::MAX })])).to_string();
        for text in ["", "A", "AQA", "not a cursor", "AgAAAAA", &"A".repeat(100_000), &endless] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text:.20}");
        }
    }
}
