//! Cursors as clients get them: signed, where the broker has a root secret. A cursor allows nothing, but what a client
//! changed in it, or cut off, must not be taken for the place where it was.
//!
//! What follows a cursor's bytes is their HMAC-SHA256, of which 16 bytes. Whoever has no key reads such a cursor and doesn't
//! judge it: an operator with the bus itself at hand, a broker without a root secret.
//!
//! Ten thousand clients that follow the same are at the same place: its signature is made once for all of them.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use principal::RootSecret;

use crate::cursor::{Cursor, CursorError, SIGNED, TAG, UNSIGNED};

/// What the key derives for.
const LABEL: &str = "cursor";

/// Signatures that are remembered, each in the place that its cursor's hash says.
const RECENT: usize = 64;
/// A longer cursor isn't remembered, in bytes.
const LONGEST: usize = 1024;

/// Writes cursors for clients, and reads what they bring. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Seal(Option<Arc<Signing>>);

struct Signing {
    key: hmac::Key,
    recent: [Mutex<Signed>; RECENT],
}

/// A cursor's bytes, and the signature of them.
#[derive(Default)]
struct Signed {
    cursor: Vec<u8>,
    tag: [u8; TAG],
}

impl Seal {
    pub(crate) fn new(root: &RootSecret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &root.derive(LABEL));
        Self(Some(Arc::new(Signing { key, recent: std::array::from_fn(|_| Mutex::default()) })))
    }

    pub(crate) fn text(&self, cursor: &Cursor) -> String {
        let Some(signing) = &self.0 else { return cursor.to_string() };
        let mut bytes = cursor.bytes(SIGNED);
        let tag = signing.tag(&bytes);
        bytes.extend(tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// # Errors
    /// If it is no cursor; where there is a key, also if it isn't signed, or not by that one.
    pub(crate) fn read(&self, text: &str) -> Result<Cursor, CursorError> {
        let Some(Signing { key, .. }) = self.0.as_deref() else { return text.parse() };
        let bytes = crate::cursor::decode(text)?;
        match bytes.first() {
            Some(&UNSIGNED) => return Err(CursorError::Unsigned),
            Some(&SIGNED) => {}
            _ => return Err(CursorError::Unknown),
        }
        let (signed, tag) = bytes.split_at_checked(bytes.len().saturating_sub(TAG)).ok_or(CursorError::Forged)?;
        let own = hmac::sign(key, signed);
        verify_slices_are_equal(&own.as_ref()[..TAG], tag).map_err(|_| CursorError::Forged)?;
        Cursor::of_bytes(&bytes)
    }
}

impl Signing {
    fn tag(&self, cursor: &[u8]) -> [u8; TAG] {
        let mut hasher = DefaultHasher::new();
        cursor.hash(&mut hasher);
        let place = &self.recent[hasher.finish() as usize % RECENT];
        let signed = place.lock();
        if signed.cursor == cursor {
            return signed.tag;
        }
        drop(signed);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.key, cursor).as_ref()[..TAG]);
        if cursor.len() <= LONGEST {
            *place.lock() = Signed { cursor: cursor.to_vec(), tag };
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::Place;
    use events::Name;

    fn cursor() -> Cursor {
        Cursor::of(&Place { queue: Name::new("DB").unwrap(), partition: 0, lineage: 7, position: 42 })
    }

    #[test]
    fn a_signed_cursor_is_read_by_whoever_has_the_same_secret() {
        let root = RootSecret::generate();
        let text = Seal::new(&root).text(&cursor());
        assert_eq!(Seal::new(&root).read(&text), Ok(cursor()));
        assert_eq!(Seal::new(&RootSecret::generate()).read(&text), Err(CursorError::Forged));
        assert_eq!(Seal::default().read(&text), Ok(cursor()), "who has no key doesn't judge");
        assert_eq!(Seal::default().read(&Seal::default().text(&cursor())), Ok(cursor()));
    }

    #[test]
    fn each_of_many_places_has_its_own_signature() {
        let root = RootSecret::generate();
        let (seal, other) = (Seal::new(&root), Seal::new(&root));
        let at = |position| Cursor::of(&Place { queue: Name::new("DB").unwrap(), partition: 0, lineage: 7, position });
        for position in (1..4 * RECENT as u64).chain(1..4) {
            for _ in 0..2 {
                assert_eq!(other.read(&seal.text(&at(position))), Ok(at(position)));
            }
        }
    }

    #[test]
    fn what_was_changed_or_cut_short_is_told_from_what_is_no_cursor() {
        let seal = Seal::new(&RootSecret::generate());
        let text = seal.text(&cursor());
        let bytes = crate::cursor::decode(&text).unwrap();
        for at in 1..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(seal.read(&URL_SAFE_NO_PAD.encode(changed)), Err(CursorError::Forged), "{at}");
            assert_eq!(seal.read(&URL_SAFE_NO_PAD.encode(&bytes[..at])), Err(CursorError::Forged), "{at}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(seal.read(&URL_SAFE_NO_PAD.encode(longer)), Err(CursorError::Forged));
        assert_eq!(seal.read(&cursor().to_string()), Err(CursorError::Unsigned));
        for text in ["", "A", "Ag!", "not a cursor", "AwAA"] {
            assert_eq!(seal.read(text), Err(CursorError::Unknown), "{text}");
        }
    }
}
