//! Answers of a part that are kept for a while, beside whole answers and within the same bytes: for whom, and until which
//! event.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use tokio::time::timeout_at;

use super::{
    super::{ConfigError, metadata::PRINCIPAL, template::Escape},
    config::{CacheConfig, PartConfig},
    failure::Failure,
    part::Part,
    run::{Question, Running},
    text::{Scope, Text, Values},
};
use crate::cache::{self, Key, Mark, Per};

const LONGEST: Duration = Duration::from_secs(8760 * 3600);

/// How a part's answers are kept.
pub struct Kept {
    ttl: Duration,
    pub public: bool,
    tags: Vec<Text>,
    /// Tells answers of this part, as it is written, from those of another.
    written: Vec<u8>,
}

impl Kept {
    /// # Errors
    /// A time out of its range, a tag that names what there isn't.
    pub fn new(config: &CacheConfig, part: &PartConfig, scope: &Scope<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if config.ttl.is_zero() || config.ttl > LONGEST {
            errors.push(ConfigError::new("cache.ttl", "must be above 0 and at most 8760h"));
        }
        let mut tags = Vec::new();
        for (at, text) in config.tags.iter().enumerate() {
            match Text::parse(text, scope) {
                Ok(tag) if tag.names_item() && part.batch.is_some() => {
                    errors.push(ConfigError::new(format!("cache.tags[{at}]"), "a batch is of many elements"));
                }
                Ok(tag) => tags.push(tag),
                Err(message) => errors.push(ConfigError::new(format!("cache.tags[{at}]"), message)),
            }
        }
        let asks = (&part.upstream, &part.call, &part.get, &part.post);
        let written = format!("{asks:?}").into_bytes();
        let public = config.per == Per::Public;
        if errors.is_empty() { Ok(Self { ttl: config.ttl, public, tags, written }) } else { Err(errors) }
    }

    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        self.tags.iter()
    }

    /// The tags of an answer. One that lacks a value is none.
    pub fn tags(&self, values: &Values<'_>) -> Vec<String> {
        self.tags.iter().filter_map(|tag| Some(tag.expand(Escape::None, values)?.into_owned())).collect()
    }
}

impl Running<'_> {
    /// An answer that is kept, or else one that is asked for and kept. Many who ask at once wait for the first.
    pub async fn kept(self, part: &Part, kept: &Kept, question: Question) -> Result<Bytes, Failure> {
        let Some(store) = self.worker.cache.as_ref().filter(|_| self.options.idempotent || part.is_idempotent()) else {
            return self.asked(part, question, false).await;
        };
        let key = self.key(kept, &question)?;
        let tags = question.tags.iter().map(|tag| Mark::of_tag(tag)).collect();
        let fetch = async {
            let body = self.asked(part, question, kept.public).await?;
            Ok(cache::Part { body, tags })
        };
        let answer = store.get_or_fetch(key, kept.ttl, fetch);
        match self.options.deadline {
            Some(deadline) => timeout_at(deadline.into(), answer).await.map_err(|_| Failure::late())?,
            None => answer.await,
        }
    }

    fn key(self, kept: &Kept, question: &Question) -> Result<Key, Failure> {
        let caller = match self.context.principal.as_ref().filter(|_| !kept.public) {
            // Two credentials of one subject may differ in what they may see.
            Some(caller) => serde_json::to_vec(&caller.principal).map_err(Failure::malformed)?,
            None => Vec::new(),
        };
        let mut forwarded = Vec::new();
        for (name, value) in self.forward.of(self.headers) {
            forwarded.extend_from_slice(name.as_str().as_bytes());
            forwarded.push(b'=');
            forwarded.extend_from_slice(value.as_bytes());
            forwarded.push(b'\n');
        }
        let asked = STANDARD_NO_PAD.encode(question.bytes());
        Ok(Key::new(&[b"part", &caller, &kept.written, &forwarded, asked.as_bytes()]))
    }
}

/// What a service may know of a request whose answer is everybody's.
pub fn of_nobody(metadata: &mut http::HeaderMap) {
    metadata.remove(PRINCIPAL);
}
