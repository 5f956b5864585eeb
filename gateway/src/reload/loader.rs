//! Reads the files a gateway is made of.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::Value;

use super::written;
use crate::{
    ConfigSource,
    auth::{keys::digest, ring::KeyRing, session::Sessions},
    compile::{Sources, compile},
    config::{Config, ConfigError},
    descriptors::Live,
    shared::Redis,
    snapshot::Snapshot,
};

/// Where the configuration comes from.
pub struct Loader {
    pub source: ConfigSource,
    pub descriptors: BTreeMap<String, Bytes>,
    /// What services have said of themselves.
    pub live: Arc<Live>,
    pub sessions: Arc<Sessions>,
    pub redis: Option<Arc<Redis>>,
}

/// What was read, and what came of it.
pub struct Loaded {
    pub snapshot: Snapshot,
    pub keys: KeyRing,
    /// The configuration as it was written, without its secrets.
    pub written: Value,
}

/// The digest of each file that may change; None for one that can't be read.
pub type Contents = BTreeMap<PathBuf, Option<[u8; 32]>>;

impl Loader {
    /// Reads everything. A key file that was never there holds no keys yet; one that has gone is a fault.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, previous: Option<&Snapshot>, had_keys: bool) -> Result<Loaded, Vec<ConfigError>> {
        let (text, config) = self.source.read()?;
        let folder = self.source.folder();
        let sources = Sources {
            descriptors: &self.descriptors,
            live: &self.live,
            folder: &folder,
            sessions: &self.sessions,
            redis: self.redis.as_ref(),
            previous,
        };
        let snapshot = compile(&config, &sources)?;
        if previous.is_some_and(|previous| !previous.listens_as(&snapshot)) {
            return Err(vec![ConfigError::new("listeners", "addresses can't change while the gateway runs")]);
        }
        if previous.is_some_and(|previous| previous.shared != snapshot.shared) {
            return Err(vec![ConfigError::new("shared", "can't change while the gateway runs")]);
        }
        if previous.is_some_and(|previous| previous.authentication.revocation != snapshot.authentication.revocation) {
            return Err(vec![ConfigError::new("authentication.revocation", "can't change while the gateway runs")]);
        }
        if previous.is_some_and(|previous| !previous.cache.follows_as(&snapshot.cache)) {
            return Err(vec![ConfigError::new("cache", "only `size` and `object` can change while the gateway runs")]);
        }
        let keys = self
            .keys(&snapshot, had_keys)
            .map_err(|error| vec![ConfigError::new("authentication.api_keys.file", format!("{error:#}"))])?;
        let written = written::read(&text, self.source.properties());
        Ok(Loaded { snapshot, keys, written })
    }

    /// What the files hold now, without looking into it.
    pub fn contents(&self, snapshot: &Snapshot) -> Contents {
        let digests = self.files(snapshot).into_iter().map(|file| {
            let contents = fs::read(&file).ok().map(|contents| digest(&contents));
            (file, contents)
        });
        digests.collect()
    }

    /// Files that may change.
    pub fn files(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        let config = match &self.source {
            ConfigSource::File { path, .. } => Some(path.clone()),
            ConfigSource::Text { .. } => None,
        };
        let tls = snapshot.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let tls = tls.flat_map(|section| section.files()).map(|file| self.source.folder().join(file));
        let issuers = snapshot.authentication.jwt.0.iter();
        let issuers = issuers.flat_map(|section| [&section.jwks_file, &section.ca]).flatten();
        let issuers = issuers.map(|file| self.source.folder().join(file));
        let upstreams = snapshot.upstream_files.iter().cloned();
        let read = snapshot.read.iter().cloned();
        config
            .into_iter()
            .chain(self.key_file(snapshot))
            .chain(tls)
            .chain(issuers)
            .chain(upstreams)
            .chain(read)
            .collect()
    }

    fn keys(&self, snapshot: &Snapshot, had_keys: bool) -> anyhow::Result<KeyRing> {
        let Some(file) = self.key_file(snapshot) else { return Ok(KeyRing::default()) };
        if !had_keys && !file.exists() {
            tracing::warn!(file = %file.display(), "no API keys yet: `turnpike key new` makes the file");
            return Ok(KeyRing::default());
        }
        KeyRing::parse(&read(&file)?)
    }

    fn key_file(&self, snapshot: &Snapshot) -> Option<PathBuf> {
        snapshot.authentication.api_keys.as_ref().map(|section| self.source.folder().join(&section.file))
    }
}

impl ConfigSource {
    /// The configuration, as text and parsed.
    ///
    /// # Errors
    /// If it can't be read or doesn't parse.
    pub fn read(&self) -> Result<(String, Config), Vec<ConfigError>> {
        let text = match self {
            Self::Text { text, .. } => text.clone(),
            Self::File { path, .. } => read(path).map_err(|error| vec![ConfigError::new("", format!("{error:#}"))])?,
        };
        let config = Config::parse(&text, self.properties())?;
        Ok((text, config))
    }

    /// Where relative paths begin: beside the file.
    pub fn folder(&self) -> PathBuf {
        match self {
            Self::File { path, .. } => path.parent().map(Path::to_path_buf).unwrap_or_default(),
            Self::Text { .. } => PathBuf::new(),
        }
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}
