//! The file of API keys, for the CLI: make, list, rotate and revoke. The gateway only reads it (see `ring`).
//!
//! A key is shown once, as `tk_<id>_<secret>`; the file holds the SHA-256 of the secret. Secrets are 256 random bits, so a
//! fast hash is as good as a slow one. The file is replaced as a whole (temporary file, rename) and readable by its owner
//! alone.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What every key begins with, so that a leaked one is found by those who look for such things.
pub const PREFIX: &str = "tk_";

/// The file: `keys: [ … ]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    #[serde(default)]
    pub keys: Vec<Key>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Letters and digits.
    pub id: String,
    /// SHA-256 of the secret part, as 64 hexadecimal digits.
    pub hash: String,
    /// Who it speaks for: `customers/0192…`, `operators/1`.
    pub subject: String,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub revoked: Option<OffsetDateTime>,
    /// Only good on a listener that is bound to a loopback address: demo keys.
    #[serde(default)]
    pub loopback_only: bool,
}

impl Key {
    /// `active`, `revoked` or `expired`.
    pub fn state(&self) -> &'static str {
        match (self.revoked, self.expires) {
            (Some(_), _) => "revoked",
            (None, Some(expires)) if expires <= OffsetDateTime::now_utc() => "expired",
            _ => "active",
        }
    }

    /// When it was made, as RFC 3339 writes it.
    pub fn created_text(&self) -> String {
        self.created.format(&Rfc3339).unwrap_or_default()
    }

    /// When it ends, as RFC 3339 writes it; `never` if it does not.
    pub fn expires_text(&self) -> String {
        self.expires.map_or_else(|| "never".to_owned(), |expires| expires.format(&Rfc3339).unwrap_or_default())
    }
}

/// Adds a key to the file, which is made if it is missing. Returns its text, this once: `tk_<id>_<secret>`. `days`: how
/// long it is good; None for ever.
///
/// # Errors
/// If the file can't be read or written, or the subject is empty.
pub fn new(path: &Path, subject: &str, scopes: &[String], days: Option<u32>) -> anyhow::Result<String> {
    put(path, &hex(&rand::random::<[u8; 8]>()), &secret(), |key| {
        key.subject = subject.to_owned();
        key.scopes = scopes.to_vec();
        key.expires = days.map(|days| key.created + time::Duration::days(days.into()));
    })
}

/// Puts a key with a given id and secret into the file, in place of one with the same id; `describe` fills in the rest.
/// Returns its text, `tk_<id>_<secret>`. The file stays untouched if it says so already.
///
/// # Errors
/// If the id is not made of letters and digits, the secret has fewer than 16 characters, the subject is empty, or the file
/// can't be read or written.
pub fn put(path: &Path, id: &str, secret: &str, describe: impl FnOnce(&mut Key)) -> anyhow::Result<String> {
    anyhow::ensure!(
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()),
        "a key's id is letters and digits"
    );
    anyhow::ensure!(secret.len() >= 16, "a key's secret has at least 16 characters");
    let mut keys = list(path)?;
    let before = keys.iter().find(|key| key.id == id).cloned();
    let mut key = Key {
        id: id.to_owned(),
        hash: hex(&digest(secret.as_bytes())),
        subject: String::new(),
        scopes: Vec::new(),
        claims: BTreeMap::new(),
        created: before.as_ref().map_or_else(now, |before| Ok(before.created))?,
        expires: None,
        revoked: None,
        loopback_only: false,
    };
    describe(&mut key);
    anyhow::ensure!(!key.subject.is_empty(), "a key needs a subject");
    if before.as_ref() != Some(&key) {
        keys.retain(|other| other.id != key.id);
        keys.push(key);
        write(path, &keys)?;
    }
    Ok(format!("{PREFIX}{id}_{secret}"))
}

/// The keys of the file, none if there is no file.
///
/// # Errors
/// If the file can't be read or doesn't parse.
pub fn list(path: &Path) -> anyhow::Result<Vec<Key>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let file: KeyFile = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(file.keys)
}

/// Makes a key with the same subject, scopes and claims as another, which is good for `overlap` from now and then no more:
/// so long both are. Returns the text of the new one, this once.
///
/// # Errors
/// If there is no such key, it is good no longer, or the file can't be read or written.
pub fn rotate(path: &Path, id: &str, overlap: Duration) -> anyhow::Result<String> {
    let mut keys = list(path)?;
    let old = keys.iter_mut().find(|key| key.id == id).with_context(|| format!("no key has the id {id}"))?;
    anyhow::ensure!(old.state() == "active", "the key {id} is {}: make a new one", old.state());
    let (created, secret) = (now()?, secret());
    let ends = created + overlap;
    let new = Key {
        id: hex(&rand::random::<[u8; 8]>()),
        hash: hex(&digest(secret.as_bytes())),
        created,
        // As long as the old one was made for, counted anew.
        expires: old.expires.map(|expires| created + (expires - old.created)),
        ..old.clone()
    };
    old.expires = Some(old.expires.map_or(ends, |expires| expires.min(ends)));
    let text = format!("{PREFIX}{}_{secret}", new.id);
    keys.push(new);
    write(path, &keys)?;
    Ok(text)
}

/// Marks a key as revoked. It stays in the file, so that its id tells whose it was.
///
/// # Errors
/// If there is no such key, or the file can't be read or written.
pub fn revoke(path: &Path, id: &str) -> anyhow::Result<Key> {
    let mut keys = list(path)?;
    let key = keys.iter_mut().find(|key| key.id == id).with_context(|| format!("no key has the id {id}"))?;
    key.revoked.get_or_insert(now()?);
    let key = key.clone();
    write(path, &keys)?;
    Ok(key)
}

/// Splits `tk_<id>_<secret>`.
pub(super) fn parse(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    (!id.is_empty() && !secret.is_empty()).then_some((id, secret))
}

pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

fn secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Now, in whole seconds.
fn now() -> anyhow::Result<OffsetDateTime> {
    Ok(OffsetDateTime::now_utc().replace_nanosecond(0)?)
}

fn write(path: &Path, keys: &[Key]) -> anyhow::Result<()> {
    let mut text = "# API keys. Secrets are not in here, only their hashes.\nkeys:\n".to_owned();
    if keys.is_empty() {
        text = text.replace("keys:\n", "keys: []\n");
    }
    for key in keys {
        // JSON is YAML: a key a line keeps the file readable and its differences small.
        writeln!(text, "  - {}", serde_json::to_string(key)?)?;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let name = path.file_name().context("the path of the key file names no file")?.to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", hex(&rand::random::<[u8; 6]>())));
    let replace = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    replace().inspect_err(|_| _ = fs::remove_file(&temporary)).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_listed_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        assert_eq!(list(&path).unwrap(), []);
        let text = new(&path, "operators/1", &["catalog:write".to_owned()], None).unwrap();
        new(&path, "customers/\"2\"", &[], Some(1)).unwrap();
        let keys = list(&path).unwrap();
        assert_eq!((keys[0].subject.as_str(), keys[1].subject.as_str()), ("operators/1", "customers/\"2\""));
        assert_eq!(keys[1].expires, Some(keys[1].created + time::Duration::days(1)));
        assert!(!fs::read_to_string(&path).unwrap().contains(parse(&text).unwrap().1), "the secret is not in the file");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        revoke(&path, &keys[0].id).unwrap();
        let states: Vec<_> = list(&path).unwrap().iter().map(Key::state).collect();
        assert_eq!(states, ["revoked", "active"]);
        assert!(revoke(&path, "nobody").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_key_is_rotated_and_both_are_good_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        new(&path, "operators/1", &["catalog:write".to_owned()], Some(30)).unwrap();
        let id = list(&path).unwrap()[0].id.clone();
        let text = rotate(&path, &id, Duration::from_secs(7 * 86_400)).unwrap();
        let keys = list(&path).unwrap();
        assert_eq!(parse(&text).unwrap().0, keys[1].id);
        assert_eq!((&keys[1].subject, &keys[1].scopes), (&keys[0].subject, &keys[0].scopes));
        assert_ne!((&keys[1].id, &keys[1].hash), (&keys[0].id, &keys[0].hash));
        assert_eq!(keys.iter().map(Key::state).collect::<Vec<_>>(), ["active", "active"]);
        assert_eq!(keys[0].expires, Some(keys[1].created + time::Duration::days(7)));
        assert_eq!(keys[1].expires, Some(keys[1].created + time::Duration::days(30)));
        rotate(&path, &keys[1].id, Duration::ZERO).unwrap();
        let again = list(&path).unwrap();
        assert_eq!(again.iter().map(Key::state).collect::<Vec<_>>(), ["active", "expired", "active"]);
        assert!(rotate(&path, &again[1].id, Duration::ZERO).is_err(), "what is over is not made good again");
    }

    #[test]
    fn a_known_key_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let demo = |secret: &str| put(&path, "demo", secret, |key| key.subject = "customers/demo".to_owned());
        assert_eq!(demo("0123456789abcdef").unwrap(), "tk_demo_0123456789abcdef");
        let first = list(&path).unwrap();
        demo("0123456789abcdef").unwrap();
        assert_eq!(list(&path).unwrap(), first);
        demo("fedcba9876543210").unwrap();
        let second = list(&path).unwrap();
        assert_eq!(second.len(), 1);
        assert_ne!(second[0].hash, first[0].hash);
        assert!(demo("short").is_err());
    }

    #[test]
    fn a_file_that_does_not_parse_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        fs::write(&path, "keys: [{id: 1}]").unwrap();
        assert!(new(&path, "operators/1", &[], None).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "keys: [{id: 1}]");
    }
}
