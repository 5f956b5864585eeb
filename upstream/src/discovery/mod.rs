//! Where endpoints are: what the configuration says of it, and whoever follows that.
//!
//! | written | is | followed by |
//! |---|---|---|
//! | `host:port` | one endpoint; a host name is resolved whenever a connection is made | nobody |
//! | `dns://name:port` | an endpoint for each address of the name | DNS, as often as the answer's TTL says |
//! | `srv://_grpc._tcp.name` | an endpoint for each address of each target | the same |
//! | `registry://service` | an endpoint for each instance that announces itself | the registry in Redis |
//!
//! One rule for all: who doesn't know says so, and takes nothing away. What is new joins at once; what is gone gets no new
//! requests, and finishes those it has.

mod dns;
mod name;
mod registered;
mod resolve;

pub use dns::Dns;
pub use resolve::{Answer, Resolve, Target};

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use http::uri::Authority;
use parking_lot::Mutex;
use registry::Registry;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::{name::Name, registered::Registered};
use crate::{ConfigError, metrics, upstream};

const DNS: &str = "dns://";
const SRV: &str = "srv://";
const REGISTRY: &str = "registry://";

/// How often it is looked after whether the targets of an SRV record that stand back are needed.
const RECONSIDER: Duration = Duration::from_millis(500);

/// Whom an upstream asks where its endpoints are.
#[derive(Clone, Default)]
pub struct Discovery {
    /// Who is asked about names; None: name servers, by [`Dns`].
    pub resolver: Option<Arc<dyn Resolve>>,
    /// What `registry://` is about.
    pub registry: Option<Registry>,
}

/// Where endpoints come from that come and go, as an operator reads it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Source {
    /// As it stands in the configuration.
    pub source: String,
    /// The last addresses that were found.
    pub addresses: Vec<String>,
    /// When they were found, in seconds before now; none if they never were.
    pub found_seconds_ago: Option<u64>,
    /// In how many seconds they are looked up again; none for a registry, which tells by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed_in_seconds: Option<u64>,
    /// Why they can't be found out now, if they can't.
    pub error: Option<String>,
}

/// An endpoint, as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `host:port`
    pub address: String,
    /// The host its certificate is expected to hold; None: the address's own.
    pub host: Option<String>,
    pub origin: Origin,
}

/// What a source says of an endpoint beside its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The source, as it stands in the configuration; None: the endpoint itself stands there.
    pub source: Option<Arc<str>>,
    /// It stands back while one of the same source with a lower one is healthy.
    pub priority: u16,
    /// Its part of the traffic beside the others', at least 1.
    pub weight: u16,
    /// For people.
    pub metadata: BTreeMap<String, String>,
}

/// Where endpoints come from that come and go.
pub(crate) enum Finder {
    Name(Name),
    Registered(Box<Registered>),
}

/// What is known of a source.
struct State {
    gauge: metrics::Known,
    found: Vec<Found>,
    at: Option<SystemTime>,
    /// When it is looked up again.
    due: Option<Instant>,
    error: Option<String>,
}

impl Finder {
    /// None where the text is an endpoint itself.
    ///
    /// # Errors
    /// If it names a registry, and there is none.
    pub fn new(upstream: &str, text: &str, discovery: &Discovery) -> Result<Option<Self>, ConfigError> {
        if let Some(service) = text.strip_prefix(REGISTRY) {
            let refused = |message: String| ConfigError { path: "endpoints".to_owned(), message };
            let Some(registry) = &discovery.registry else {
                return Err(refused(format!(
                    "`{text}` needs a Redis in which instances announce themselves: `shared.redis`"
                )));
            };
            let follower = registry.follow(service).map_err(|error| refused(error.to_string()))?;
            return Ok(Some(Self::Registered(Box::new(Registered::new(upstream, text, follower)))));
        }
        Ok(Name::parse(upstream, text).map(Self::Name))
    }

    pub fn found(&self) -> Vec<Found> {
        match self {
            Self::Name(name) => name.state.lock().found.clone(),
            Self::Registered(service) => service.state.lock().found.clone(),
        }
    }

    pub fn view(&self) -> Source {
        match self {
            Self::Name(name) => name.state.lock().view(&name.text),
            Self::Registered(service) => service.state.lock().view(&service.text),
        }
    }

    /// Whether some of its endpoints may stand back for others.
    fn has_priorities(&self) -> bool {
        matches!(self, Self::Name(name) if name.is_service())
    }

    async fn follow(&self, upstream: &upstream::Shared) {
        match self {
            Self::Name(name) => name.follow(upstream).await,
            Self::Registered(service) => service.follow(upstream).await,
        }
    }
}

impl State {
    fn new(upstream: &str, source: &str) -> Mutex<Self> {
        let gauge = metrics::Known::new(upstream, source);
        Mutex::new(Self { gauge, found: Vec::new(), at: None, due: None, error: None })
    }

    /// Why it can't be told now, if it can't.
    fn fails(&mut self, error: Option<String>) {
        self.gauge.set(error.is_none());
        self.error = error;
    }

    fn view(&self, text: &str) -> Source {
        let now = Instant::now();
        Source {
            source: text.to_owned(),
            addresses: self.found.iter().map(|found| found.address.clone()).collect(),
            found_seconds_ago: self.at.map(|at| at.elapsed().unwrap_or_default().as_secs()),
            renewed_in_seconds: self.due.map(|due| due.saturating_duration_since(now).as_secs()),
            error: self.error.clone(),
        }
    }
}

/// Whether a text of the configuration can be followed or connected to.
pub(crate) fn is_sound(text: &str) -> bool {
    if let Some(service) = text.strip_prefix(REGISTRY) {
        return registry::is_service(service);
    }
    if let Some(name) = text.strip_prefix(SRV) {
        return name::is_service_name(name);
    }
    is_host_and_port(text.strip_prefix(DNS).unwrap_or(text))
}

fn is_host_and_port(endpoint: &str) -> bool {
    !endpoint.contains('@')
        && endpoint
            .parse::<Authority>()
            .is_ok_and(|authority| !authority.host().is_empty() && authority.port_u16().is_some_and(|port| port != 0))
}

/// Follows all sources of an upstream until told to stop. Returns at once where there are none.
pub(crate) async fn follow(upstream: &Arc<upstream::Shared>, stop: &CancellationToken) {
    let following = join_all(upstream.finders().map(|finder| finder.follow(upstream)));
    let reconsidering = async {
        while upstream.finders().any(Finder::has_priorities) {
            sleep(RECONSIDER).await;
            upstream.reconsider();
        }
    };
    tokio::select! {
        _ = async { tokio::join!(following, reconsidering) } => {}
        () = stop.cancelled() => {}
    }
}
