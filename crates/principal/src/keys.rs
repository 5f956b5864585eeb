//! An issuer's public keys: given, or fetched and kept.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;

use crate::{TokenError, jws::PublicKey};

/// How old a fetched key set may become before it is fetched again.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How long after a fetch an unknown key id may cause the next one.
const UNKNOWN_KEY_GAP: Duration = Duration::from_secs(30);
/// How long after a failed first fetch the next is tried.
const RETRY_GAP: Duration = Duration::from_secs(1);
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a key set may be.
const MAX_BYTES: usize = 64 * 1024;

/// Where an issuer's public keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// A JWK Set (RFC 7517).
    Inline(serde_json::Value),
    /// Fetched over plain HTTP, kept, refreshed every ten minutes and (at most every 30 s) on an unknown key id.
    /// A refresh that fails leaves the keys as they are.
    Url(String),
}

type KeySet = HashMap<String, PublicKey>;

/// The keys of one issuer.
pub(crate) enum Source {
    Fixed(KeySet),
    Fetched(Arc<Fetched>),
}

pub(crate) struct Fetched {
    url: String,
    client: Client<HttpConnector, Empty<Bytes>>,
    keys: ArcSwapOption<KeySet>,
    /// When it was last tried, and whether that worked.
    last: Mutex<Option<(Instant, bool)>>,
    /// Held while fetching: one fetch at a time, the others wait for its result.
    fetching: tokio::sync::Mutex<()>,
    unknown_key_gap: Duration,
}

impl Source {
    pub fn new(keys: Keys) -> Self {
        match keys {
            Keys::Inline(set) => Self::Fixed(read(&set)),
            Keys::Url(url) => Self::Fetched(Arc::new(Fetched::new(url, UNKNOWN_KEY_GAP))),
        }
    }

    /// The key of this id.
    pub async fn key(&self, id: &str) -> Result<PublicKey, TokenError> {
        match self {
            Self::Fixed(keys) => keys.get(id).cloned().ok_or_else(unknown),
            Self::Fetched(fetched) => fetched.key(id).await,
        }
    }
}

impl Fetched {
    fn new(url: String, unknown_key_gap: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(HttpConnector::new());
        Self {
            url,
            client,
            keys: ArcSwapOption::empty(),
            last: Mutex::new(None),
            fetching: tokio::sync::Mutex::new(()),
            unknown_key_gap,
        }
    }

    async fn key(self: &Arc<Self>, id: &str) -> Result<PublicKey, TokenError> {
        if let Some(key) = self.kept(id) {
            if self.older_than(MAX_AGE) {
                // Behind the request's back: the key at hand is good enough for it.
                let refresh = Arc::clone(self);
                tokio::spawn(async move { refresh.fetch(MAX_AGE).await });
            }
            return Ok(key);
        }
        self.fetch(if self.keys.load().is_some() { self.unknown_key_gap } else { RETRY_GAP }).await;
        if let Some(key) = self.kept(id) {
            return Ok(key);
        }
        match *self.last.lock() {
            Some((_, true)) => Err(unknown()),
            _ => Err(TokenError::Unavailable(format!("no keys from {}", self.url))),
        }
    }

    fn kept(&self, id: &str) -> Option<PublicKey> {
        self.keys.load().as_ref()?.get(id).cloned()
    }

    fn older_than(&self, age: Duration) -> bool {
        self.last.lock().is_none_or(|(at, _)| at.elapsed() >= age)
    }

    /// Fetches unless that was tried less than `gap` ago.
    async fn fetch(&self, gap: Duration) {
        let _alone = self.fetching.lock().await;
        if !self.older_than(gap) {
            return;
        }
        let fetched = match tokio::time::timeout(TIMEOUT, self.get()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(anyhow::anyhow!("no answer within {} s", TIMEOUT.as_secs())),
        };
        *self.last.lock() = Some((Instant::now(), fetched.is_ok()));
        match fetched {
            Ok(keys) => self.keys.store(Some(Arc::new(keys))),
            Err(error) => {
                tracing::warn!(url = self.url, error = format!("{error:#}"), "an issuer's keys stay as they were")
            }
        }
    }

    async fn get(&self) -> anyhow::Result<KeySet> {
        let response = self.client.get(self.url.parse().context("its URL")?).await?;
        anyhow::ensure!(response.status() == http::StatusCode::OK, "status {}", response.status());
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?;
        let keys = read(&serde_json::from_slice(&body.to_bytes()).context("not JSON")?);
        anyhow::ensure!(!keys.is_empty(), "no Ed25519 key in it");
        Ok(keys)
    }
}

fn unknown() -> TokenError {
    TokenError::Invalid("signed by an unknown key".to_owned())
}

fn read(set: &serde_json::Value) -> KeySet {
    set.get("keys")
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(PublicKey::from_jwk)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RootSecret, Signer};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers each request with what `body` holds then (nothing: status 500).
    struct KeyServer {
        url: String,
        body: Arc<Mutex<Option<serde_json::Value>>>,
        asked: Arc<AtomicUsize>,
    }

    impl KeyServer {
        async fn start(body: Option<serde_json::Value>) -> Self {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
            let server = Self { url, body: Arc::new(Mutex::new(body)), asked: Arc::default() };
            let (body, asked) = (Arc::clone(&server.body), Arc::clone(&server.asked));
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let mut request = [0; 4096];
                    assert_ne!(stream.read(&mut request).await.unwrap(), 0);
                    let (status, text) = match &*body.lock() {
                        Some(keys) => ("200 OK", keys.to_string()),
                        None => ("500 Internal Server Error", String::new()),
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                        text.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            server
        }
    }

    fn key_set() -> (String, serde_json::Value) {
        let jwks = Signer::new("gateway", &RootSecret::generate()).jwks();
        (jwks["keys"][0]["kid"].as_str().unwrap().to_owned(), jwks)
    }

    #[tokio::test]
    async fn keys_are_fetched_once() {
        let (id, jwks) = key_set();
        let server = KeyServer::start(Some(jwks)).await;
        let keys = Arc::new(Fetched::new(server.url.clone(), UNKNOWN_KEY_GAP));
        let asked: Vec<_> = (0..10)
            .map(|_| {
                let (keys, id) = (Arc::clone(&keys), id.clone());
                tokio::spawn(async move { keys.key(&id).await.is_ok() })
            })
            .collect();
        for answer in asked {
            assert!(answer.await.unwrap());
        }
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_unknown_key_fetches_again_but_not_at_every_token() {
        let ((old, first), (new, second)) = (key_set(), key_set());
        let server = KeyServer::start(Some(first)).await;
        let patient = Arc::new(Fetched::new(server.url.clone(), UNKNOWN_KEY_GAP));
        let eager = Arc::new(Fetched::new(server.url.clone(), Duration::ZERO));
        assert!(patient.key(&old).await.is_ok() && eager.key(&old).await.is_ok());
        *server.body.lock() = Some(second);
        assert!(matches!(patient.key(&new).await, Err(TokenError::Invalid(_))));
        assert!(eager.key(&new).await.is_ok());
        assert_eq!(server.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn keys_outlive_a_server_that_fails() {
        let (id, jwks) = key_set();
        let server = KeyServer::start(Some(jwks)).await;
        let keys = Arc::new(Fetched::new(server.url.clone(), Duration::ZERO));
        assert!(keys.key(&id).await.is_ok());
        *server.body.lock() = None;
        assert!(matches!(keys.key("other").await, Err(TokenError::Unavailable(_))));
        assert!(keys.key(&id).await.is_ok());
    }

    #[tokio::test]
    async fn without_ever_having_had_keys_they_are_unavailable() {
        let server = KeyServer::start(None).await;
        let keys = Arc::new(Fetched::new(server.url.clone(), UNKNOWN_KEY_GAP));
        assert!(matches!(keys.key("any").await, Err(TokenError::Unavailable(_))));
    }

    #[tokio::test]
    async fn an_endless_key_set_is_given_up() {
        let mut jwks = key_set().1;
        jwks["padding"] = "x".repeat(MAX_BYTES).into();
        let server = KeyServer::start(Some(jwks)).await;
        let keys = Arc::new(Fetched::new(server.url.clone(), UNKNOWN_KEY_GAP));
        assert!(matches!(keys.key("any").await, Err(TokenError::Unavailable(_))));
    }
}
