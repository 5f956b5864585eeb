use std::{fmt, sync::Arc, time::Duration};

use rustls::ClientConfig;
use serde::Serialize;
use serde_json::Value;

/// Gives a token that is good now.
type Token = Arc<dyn Fn() -> String + Send + Sync>;

/// Whom a client says it is, and how patient it is.
#[derive(Clone)]
pub struct Options {
    pub(crate) name: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) token: Option<Token>,
    pub(crate) authorities: Option<Vec<u8>>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) opening: Duration,
    pub(crate) first: Duration,
    pub(crate) most: Duration,
    pub(crate) publish: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            headers: Vec::new(),
            token: None,
            authorities: None,
            tls: None,
            opening: Duration::from_secs(10),
            first: Duration::from_millis(250),
            most: Duration::from_secs(30),
            publish: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// What the client calls itself, for the broker's log.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A header field of each handshake, such as `x-api-key`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A principal's token, asked for at each connection and said in `hello`: for who reaches the broker without a gateway.
    #[must_use]
    pub fn token(mut self, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.token = Some(Arc::new(token));
        self
    }

    /// For `wss`, which authorities are believed: their certificates, as PEM. The system's unless given.
    #[must_use]
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(pem.into());
        self
    }

    /// For `wss`, whom to believe and as whom to appear, in place of the authorities and a client without a certificate.
    #[must_use]
    pub fn tls(mut self, tls: Arc<ClientConfig>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Between attempts it waits any time up to `first` (250 ms unless given), twice as much each time, up to `most` (30 s).
    #[must_use]
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        (self.first, self.most) = (first, most);
        self
    }

    /// How long connecting, the handshake and the welcome may take together, and the farewell of a server that sends
    /// clients away; 10 s unless given.
    #[must_use]
    pub fn open_within(mut self, within: Duration) -> Self {
        self.opening = within;
        self
    }

    /// How long a publish is tried, across whatever happens to the connection; 60 s unless given.
    #[must_use]
    pub fn publish_within(mut self, within: Duration) -> Self {
        self.publish = within;
        self
    }
}

/// Nothing of what proves who one is.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How to follow.
#[derive(Clone, Debug)]
pub struct Follow {
    pub(crate) name: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) credit: usize,
    pub(crate) latest: bool,
    pub(crate) durable: bool,
}

impl Default for Follow {
    fn default() -> Self {
        Self { name: None, from: None, credit: 256, latest: false, durable: false }
    }
}

impl Follow {
    /// The subscription's own name, 1 to 64 bytes: what a durable one is found by.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where to begin: `latest` unless given; `earliest`, `-PT5M`, a time (RFC 3339), or a cursor.
    #[must_use]
    pub fn from(mut self, from: impl Into<String>) -> Self {
        self.from = Some(from.into());
        self
    }

    /// Events that may wait to be taken: 1 to 4,096, 256 unless given.
    #[must_use]
    pub fn credit(mut self, credit: usize) -> Self {
        self.credit = credit;
        self
    }

    /// Of each key only its last event.
    #[must_use]
    pub fn latest_of_each_key(mut self) -> Self {
        self.latest = true;
        self
    }

    /// The server keeps its place, for seven days after its last use.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }
}

/// An event to publish.
#[derive(Clone, Debug, Serialize)]
pub struct Outgoing {
    pub queue: String,
    pub event: String,
    /// Publishing again under the same id records nothing.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(rename = "partitionkey", skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

impl Outgoing {
    /// With an id of its own.
    pub fn new(queue: impl Into<String>, event: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
            event: event.into(),
            id: uuid::Uuid::now_v7().to_string(),
            subject: None,
            key: None,
            data: None,
            confirm: None,
        }
    }

    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// What it is about, such as `notes/1`; it orders, too, unless there is a key.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// What orders.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    #[must_use]
    pub fn data(mut self, data: impl Into<Value>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// When it is answered: `stored` unless given; `fsynced`, `replicated:2`, `delivered`, `delivered:group,group`.
    #[must_use]
    pub fn confirm(mut self, confirm: impl Into<String>) -> Self {
        self.confirm = Some(confirm.into());
        self
    }
}
