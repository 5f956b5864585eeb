//! A client's place, opaque to it: base64url of (queue, its partitions' lineages and positions) a queue.
//!
//! It says that everything of these partitions up to here was seen, through whatever filter. A queue that isn't in it was
//! not seen at all. It allows nothing: what may be read is decided by scopes.

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::Place;
use events::Name;

use crate::problem::Problem;

/// What a cursor's first byte says: whether a signature follows the rest of it (`seal.rs`).
pub(crate) const UNSIGNED: u8 = 1;
pub(crate) const SIGNED: u8 = 2;
/// The signature's bytes.
pub(crate) const TAG: usize = 16;
/// Partition, lineage, position.
const PLACE: usize = 20;
/// The longest text that is looked at: some thousand queues, or some of very many partitions.
const MOST_CHARACTERS: usize = 512 * 1024;

/// Where a client is, a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor(pub BTreeMap<Name, bus::Cursor>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    #[error("not a cursor of this bus")]
    Unknown,
    #[error(
        "the cursor is not signed, and must be: it is of another system, or of a time before there were signatures"
    )]
    Unsigned,
    #[error("the cursor's signature is not valid: it was changed, cut short, or made with another root secret")]
    Forged,
}

impl Cursor {
    /// The cursor of one event: where it was recorded.
    pub(crate) fn of(Place { queue, partition, lineage, position }: &Place) -> Self {
        Self(BTreeMap::from([(queue.clone(), [(*partition, *lineage, *position)].into_iter().collect())]))
    }

    /// The one event that it names. None for any other place.
    pub(crate) fn event(&self) -> Option<Place> {
        let mut queues = self.0.iter();
        let (queue, cursor) = queues.next()?;
        let mut places = cursor.places();
        let (partition, lineage, position) = places.next()?;
        let one = queues.next().is_none() && places.next().is_none() && position > 0;
        one.then(|| Place { queue: queue.clone(), partition, lineage, position })
    }

    pub(crate) fn bytes(&self, version: u8) -> Vec<u8> {
        let mut bytes = vec![version];
        for (queue, cursor) in &self.0 {
            let places: Vec<_> = cursor.places().collect();
            // Neither is cut: names have at most 64 bytes, queues at most 256 partitions.
            bytes.push(u8::try_from(queue.as_str().len()).unwrap_or(u8::MAX));
            bytes.extend(queue.as_str().as_bytes());
            bytes.extend(u16::try_from(places.len()).unwrap_or(u16::MAX).to_be_bytes());
            for (partition, lineage, position) in places {
                bytes.extend(partition.to_be_bytes());
                bytes.extend(lineage.to_be_bytes());
                bytes.extend(position.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads a cursor of either version; a signature is passed over.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, CursorError> {
        let (&version, rest) = bytes.split_first().ok_or(CursorError::Unknown)?;
        let mut rest = match version {
            UNSIGNED => rest,
            SIGNED => rest.len().checked_sub(TAG).map(|end| &rest[..end]).ok_or(CursorError::Unknown)?,
            _ => return Err(CursorError::Unknown),
        };
        let mut queues = BTreeMap::new();
        while !rest.is_empty() {
            let (queue, cursor);
            (queue, cursor, rest) = entry(rest).ok_or(CursorError::Unknown)?;
            if queues.insert(queue, cursor).is_some() {
                return Err(CursorError::Unknown);
            }
        }
        Ok(Self(queues))
    }
}

/// The bytes of a cursor's text.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, CursorError> {
    if text.len() > MOST_CHARACTERS {
        return Err(CursorError::Unknown);
    }
    URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Unknown)
}

/// Without a signature.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.bytes(UNSIGNED)))
    }
}

/// Signed or not, it isn't judged.
impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        Self::of_bytes(&decode(text)?)
    }
}

impl From<CursorError> for Problem {
    fn from(error: CursorError) -> Self {
        Self::invalid(format!("cursor: {error}"))
    }
}

fn entry(bytes: &[u8]) -> Option<(Name, bus::Cursor, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    let (count, rest) = rest.split_first_chunk()?;
    let (places, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * PLACE)?;
    let (places, _) = places.as_chunks::<PLACE>();
    let places = places.iter().map(place).collect::<Option<bus::Cursor>>()?;
    Some((Name::new(std::str::from_utf8(name).ok()?).ok()?, places, rest))
}

fn place(bytes: &[u8; PLACE]) -> Option<(u32, u64, u64)> {
    let (partition, rest) = bytes.split_first_chunk()?;
    let (lineage, rest) = rest.split_first_chunk()?;
    let position = u64::from_be_bytes(rest.try_into().ok()?);
    // No log is that long, and there must be a next one.
    i64::try_from(position).ok()?;
    Some((u32::from_be_bytes(*partition), u64::from_be_bytes(*lineage), position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn place(position: u64) -> Place {
        Place { queue: name("DB"), partition: 0, lineage: 7, position }
    }

    #[test]
    fn a_cursor_survives_its_text_form() {
        let mut cursor = Cursor::of(&place(42));
        assert_eq!(cursor.event(), Some(place(42)));
        cursor.0.insert(name("ORDERS"), [(0, u64::MAX, 1), (9, 3, 0)].into_iter().collect());
        cursor.0.insert(name("EMPTY"), bus::Cursor::default());
        assert_eq!(cursor.event(), None);
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!(Cursor::default().to_string().parse(), Ok(Cursor::default()));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let endless = Cursor::of(&place(u64::MAX)).to_string();
        for text in ["", "A", "Ag", "not a cursor", "AQEx", &endless, &"A".repeat(100_000)] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError::Unknown), "{text:.20}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut text = vec![UNSIGNED];
            text.extend(bytes);
            let text = URL_SAFE_NO_PAD.encode(text);
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
    }
}
