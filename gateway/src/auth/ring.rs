//! The API keys that are accepted, compiled from their file.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use anyhow::Context as _;
use principal::Principal;
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use super::{
    Credential, Origin,
    keys::{self, Key, KeyFile},
};

/// Keys by id.
#[derive(Default)]
pub struct KeyRing(HashMap<Box<str>, Entry>);

struct Entry {
    hash: [u8; 32],
    expires: Option<OffsetDateTime>,
    revoked: bool,
    loopback_only: bool,
    credential: Credential,
    /// In seconds since 1970; 0: not yet.
    used: AtomicI64,
}

/// A key, as operators see it.
pub struct Listed<'a> {
    pub id: &'a str,
    pub credential: &'a Credential,
    pub expires: Option<OffsetDateTime>,
    pub revoked: bool,
    /// By this process.
    pub last_used: Option<OffsetDateTime>,
}

impl KeyRing {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// If it doesn't parse, or a key in it makes no sense.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: KeyFile = serde_saphyr::from_str(text)?;
        Self::new(file.keys)
    }

    fn new(keys: Vec<Key>) -> anyhow::Result<Self> {
        let mut ring = HashMap::new();
        for (at, key) in keys.into_iter().enumerate() {
            anyhow::ensure!(
                !key.id.is_empty() && key.id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                "keys[{at}].id: must be letters and digits"
            );
            let hash = unhex(&key.hash).with_context(|| format!("keys[{at}].hash: must be 64 hexadecimal digits"))?;
            let origin = Origin::Key(key.id.as_str().into());
            let entry = Entry {
                hash,
                expires: key.expires,
                revoked: key.revoked.is_some(),
                loopback_only: key.loopback_only,
                credential: Credential::new(
                    Principal { subject: key.subject, scopes: key.scopes, claims: key.claims },
                    origin,
                    Some(key.created),
                ),
                used: AtomicI64::new(0),
            };
            anyhow::ensure!(ring.insert(key.id.into(), entry).is_none(), "keys[{at}].id: is there twice");
        }
        Ok(Self(ring))
    }

    /// Looks a key up. The answer is the same, and takes as long, whether the id or the secret is wrong.
    pub fn accept(&self, text: &str, loopback: bool) -> Option<&Credential> {
        let (id, secret) = keys::parse(text)?;
        let digest = keys::digest(secret.as_bytes());
        let entry = self.0.get(id);
        let same = digest.ct_eq(entry.map_or(&[0; 32], |entry| &entry.hash));
        let entry = entry.filter(|_| bool::from(same))?;
        let now = OffsetDateTime::now_utc();
        let good =
            !entry.revoked && (loopback || !entry.loopback_only) && entry.expires.is_none_or(|expires| expires > now);
        // Once a second: cores share it.
        let now = now.unix_timestamp();
        if good && entry.used.load(Relaxed) != now {
            entry.used.store(now, Relaxed);
        }
        good.then_some(&entry.credential)
    }

    /// What is known of keys that stay.
    pub fn inherit(&self, previous: &Self) {
        for (id, entry) in &self.0 {
            if let Some(known) = previous.0.get(id).filter(|known| known.hash == entry.hash) {
                entry.used.store(known.used.load(Relaxed), Relaxed);
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Listed<'_>> {
        self.0.iter().map(|(id, entry)| {
            let used = Some(entry.used.load(Relaxed)).filter(|used| *used > 0);
            Listed {
                id,
                credential: &entry.credential,
                expires: entry.expires,
                revoked: entry.revoked,
                last_used: used.and_then(|used| OffsetDateTime::from_unix_timestamp(used).ok()),
            }
        })
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn ring(change: impl FnOnce(&mut Key)) -> (KeyRing, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let text = keys::new(&path, "operators/1", &[], None).unwrap();
        let mut key = keys::list(&path).unwrap().remove(0);
        change(&mut key);
        (KeyRing::new(vec![key]).unwrap(), text)
    }

    #[test]
    fn only_the_whole_key_is_accepted() {
        let (ring, text) = ring(|_| {});
        assert_eq!(ring.accept(&text, false).unwrap().principal.subject, "operators/1");
        let (head, secret) = text.rsplit_once('_').unwrap();
        for wrong in
            [String::new(), head.to_owned(), format!("{head}_"), format!("{head}_x{secret}"), format!("tk_0_{secret}")]
        {
            assert!(ring.accept(&wrong, true).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_is_revoked_expired_or_elsewhere_is_not_accepted() {
        let now = OffsetDateTime::now_utc();
        let (revoked, text) = ring(|key| key.revoked = Some(now));
        assert!(revoked.accept(&text, true).is_none());
        let (expired, text) = ring(|key| key.expires = Some(now - Duration::seconds(1)));
        assert!(expired.accept(&text, true).is_none());
        let (demo, text) = ring(|key| key.loopback_only = true);
        assert!(demo.accept(&text, false).is_none());
        assert!(demo.accept(&text, true).is_some());
    }

    #[test]
    fn a_key_file_with_a_mistake_says_where() {
        let key = Key {
            id: "a".to_owned(),
            hash: "00".to_owned(),
            subject: "x".to_owned(),
            scopes: Vec::new(),
            claims: Default::default(),
            created: OffsetDateTime::UNIX_EPOCH,
            expires: None,
            revoked: None,
            loopback_only: false,
        };
        let twice = Key { hash: "0".repeat(64), ..key.clone() };
        assert!(KeyRing::new(vec![key]).err().unwrap().to_string().starts_with("keys[0].hash"));
        assert!(KeyRing::new(vec![twice.clone(), twice]).err().unwrap().to_string().starts_with("keys[1].id"));
    }
}
