//! What an operator decides about an upstream, and the limits that stand whatever they decide.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use http::uri::Authority;

use crate::{Balance, Breaker, Caps, Ejection, Hedge, Retry, Tls, discovery};

/// Idle HTTP/1.1 connections a client keeps to an endpoint.
pub(crate) const MAX_IDLE: usize = 128;
/// How long a connection may stay idle before it is closed.
pub(crate) const IDLE: Duration = Duration::from_secs(90);
/// The largest request body that is kept to be sent again.
pub(crate) const MAX_REPEATABLE: usize = 64 * 1024;

/// Which protocol the endpoints speak. Both HTTP/2 ones start with prior knowledge in clear text, and by ALPN within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    Grpc,
}

/// An upstream, validated when [`crate::Upstream::new`] takes it. The gateway's YAML section maps onto it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub name: String,
    /// At least one. `host:port` is one endpoint; a host name is resolved whenever a connection is made. `dns://name:port`
    /// is an endpoint for each address that the name has, as long as it has it; `srv://_grpc._tcp.name` one for each
    /// target of the service; `registry://service` one for each instance that announces itself.
    pub endpoints: Vec<String>,
    /// The name servers that are asked; none, the default: the system's.
    pub name_servers: Vec<SocketAddr>,
    /// How long what is under way may take at an endpoint that is gone from its source; 1 s to 1 h, default 5 min.
    pub drain: Duration,
    pub protocol: Protocol,
    /// Above 0; default 1 s.
    pub connect_timeout: Duration,
    /// None: no active checks. gRPC: grpc.health.v1; HTTP: GET of the path.
    pub health: Option<Health>,
    pub balance: Balance,
    /// The time in which the share of an endpoint grows from a tenth to all of it, when it is back or has joined others, up
    /// to 1 h. Zero, the default: it has it at once.
    pub slow_start: Duration,
    /// None: no endpoint is taken out because its requests fail.
    pub ejection: Option<Ejection>,
    /// None: there is no breaker.
    pub breaker: Option<Breaker>,
    pub caps: Caps,
    pub retry: Retry,
    /// A second try beside the first where that takes long, for requests that are safe. None, the default: there is none.
    pub hedge: Option<Hedge>,
    /// None, the default: connections are in clear text.
    pub tls: Option<Tls>,
    /// The authority requests carry. None, the default: the one they came with, so that the service sees the name its
    /// client used; a request that came without gets the endpoint's.
    pub host: Option<String>,
    /// The largest gRPC message taken from the service, in bytes; default 4 MiB.
    pub max_message: usize,
}

/// Active checks: an endpoint is up after 2 successes and down after 3 failures, or at once where it says that it
/// isn't serving.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Above 0; default 5 s. After a failure and while unhealthy it is at most 1 s.
    pub interval: Duration,
    /// Above 0; default 1 s.
    pub timeout: Duration,
    /// For HTTP, required: what to GET, expecting 2xx. For gRPC: none.
    pub path: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(1), path: None }
    }
}

/// What is wrong with an upstream's configuration, with the path below the upstream.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    pub path: String,
    pub message: String,
}

impl Config {
    pub fn new(name: &str, endpoints: Vec<String>, protocol: Protocol) -> Self {
        Self {
            name: name.to_owned(),
            endpoints,
            name_servers: Vec::new(),
            drain: Duration::from_secs(300),
            protocol,
            connect_timeout: Duration::from_secs(1),
            health: None,
            balance: Balance::default(),
            slow_start: Duration::ZERO,
            ejection: Some(Ejection::default()),
            breaker: Some(Breaker::default()),
            caps: Caps::default(),
            retry: Retry::default(),
            hedge: None,
            tls: None,
            host: None,
            max_message: 4 * 1024 * 1024,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let refuse =
            |path: &str, message: &str| Err(ConfigError { path: path.to_owned(), message: message.to_owned() });
        if self.name.is_empty() {
            return refuse("name", "must not be empty");
        }
        if self.endpoints.is_empty() {
            return refuse("endpoints", "needs at least one host:port");
        }
        let mut seen = HashSet::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let path = format!("endpoints[{index}]");
            if !discovery::is_sound(endpoint) {
                let forms = "host:port, dns://name:port, srv://name or registry://service";
                return refuse(&path, &format!("`{endpoint}` is not {forms}"));
            }
            if !seen.insert(endpoint) {
                return refuse(&path, &format!("`{endpoint}` stands twice"));
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.drain) {
            return refuse("drain", "must be within 1s to 1h");
        }
        if self.connect_timeout.is_zero() {
            return refuse("connect_timeout", "must be above 0");
        }
        if self.slow_start > Duration::from_secs(3600) {
            return refuse("slow_start", "must be at most 1h");
        }
        if let Some(ejection) = &self.ejection {
            ejection.validate()?;
        }
        if let Some(breaker) = &self.breaker {
            breaker.validate()?;
        }
        self.caps.validate()?;
        self.retry.validate(self.protocol)?;
        if let Some(hedge) = &self.hedge {
            hedge.validate()?;
        }
        if self.host.as_ref().is_some_and(|host| host.parse::<Authority>().is_err()) {
            return refuse("host", "is not a host with an optional port");
        }
        if self.max_message == 0 {
            return refuse("max_message", "must be above 0");
        }
        let Some(health) = &self.health else { return Ok(()) };
        if health.interval.is_zero() {
            return refuse("health.interval", "must be above 0");
        }
        if health.timeout.is_zero() {
            return refuse("health.timeout", "must be above 0");
        }
        match (self.protocol, &health.path) {
            (Protocol::Grpc, Some(_)) => refuse("health.path", "gRPC is checked by grpc.health.v1, which has no path"),
            (Protocol::Http1 | Protocol::Http2, None) => refuse("health.path", "HTTP needs a path to GET"),
            (_, Some(path)) if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() => {
                refuse("health.path", "is not a path that starts with /")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::After;

    fn path_of(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config =
            Config::new("product", vec!["localhost:7001".to_owned(), "[::1]:7002".to_owned()], Protocol::Grpc);
        change(&mut config);
        config.validate().err().map(|error| error.path)
    }

    #[test]
    fn a_sound_configuration_is_taken() {
        assert_eq!(path_of(|_| ()), None);
        assert_eq!(path_of(|c| c.endpoints[1] = "dns://review.internal:7001".to_owned()), None);
        assert_eq!(path_of(|c| c.endpoints[1] = "srv://_grpc._tcp.review.internal".to_owned()), None);
        assert_eq!(path_of(|c| c.endpoints[1] = "registry://review".to_owned()), None);
        assert_eq!(path_of(|c| c.health = Some(Health::default())), None);
    }

    #[test]
    fn each_error_names_its_place() {
        assert_eq!(path_of(|c| c.endpoints.clear()).as_deref(), Some("endpoints"));
        assert_eq!(path_of(|c| c.endpoints[1] = "nowhere".to_owned()).as_deref(), Some("endpoints[1]"));
        assert_eq!(path_of(|c| c.endpoints[1] = "http://a:1/".to_owned()).as_deref(), Some("endpoints[1]"));
        assert_eq!(path_of(|c| c.endpoints[0] = "a:0".to_owned()).as_deref(), Some("endpoints[0]"));
        assert_eq!(path_of(|c| c.endpoints[0] = "dns://a".to_owned()).as_deref(), Some("endpoints[0]"));
        assert_eq!(path_of(|c| c.endpoints[1] = "srv://a:1".to_owned()).as_deref(), Some("endpoints[1]"));
        assert_eq!(path_of(|c| c.endpoints[1] = "registry://a b".to_owned()).as_deref(), Some("endpoints[1]"));
        assert_eq!(path_of(|c| c.endpoints[1] = c.endpoints[0].clone()).as_deref(), Some("endpoints[1]"));
        assert_eq!(path_of(|c| c.slow_start = Duration::from_secs(3601)).as_deref(), Some("slow_start"));
        let ejection = |change: fn(&mut Ejection)| path_of(|c| change(c.ejection.as_mut().unwrap()));
        assert_eq!(ejection(|e| e.failures = 0).as_deref(), Some("ejection.failures"));
        assert_eq!(ejection(|e| e.time = Duration::ZERO).as_deref(), Some("ejection.time"));
        assert_eq!(ejection(|e| e.longest = Duration::from_secs(29)).as_deref(), Some("ejection.longest"));
        assert_eq!(ejection(|e| e.percent = 101).as_deref(), Some("ejection.percent"));
        let breaker = |change: fn(&mut Breaker)| path_of(|c| change(c.breaker.as_mut().unwrap()));
        assert_eq!(breaker(|b| b.percent = 0).as_deref(), Some("breaker.percent"));
        assert_eq!(breaker(|b| b.requests = 0).as_deref(), Some("breaker.requests"));
        assert_eq!(breaker(|b| b.window = Duration::from_millis(9)).as_deref(), Some("breaker.window"));
        assert_eq!(breaker(|b| b.open = Duration::ZERO).as_deref(), Some("breaker.open"));
        assert_eq!(breaker(|b| b.ramp = Duration::MAX).as_deref(), Some("breaker.ramp"));
        assert_eq!(path_of(|c| c.caps.pending = 0).as_deref(), Some("caps.pending"));
        assert_eq!(path_of(|c| c.retry.attempts = 4).as_deref(), Some("retry.attempts"));
        assert_eq!(path_of(|c| c.hedge = Some(Hedge { after: After::P95, max: 9 })).as_deref(), Some("hedge.max"));
        assert_eq!(path_of(|c| c.drain = Duration::ZERO).as_deref(), Some("drain"));
        assert_eq!(path_of(|c| c.host = Some("a b".to_owned())).as_deref(), Some("host"));
        assert_eq!(path_of(|c| c.connect_timeout = Duration::ZERO).as_deref(), Some("connect_timeout"));
        assert_eq!(
            path_of(|c| c.health = Some(Health { path: Some("/livez".to_owned()), ..Health::default() })).as_deref(),
            Some("health.path")
        );
        assert_eq!(
            path_of(|c| {
                c.protocol = Protocol::Http1;
                c.health = Some(Health::default());
            })
            .as_deref(),
            Some("health.path")
        );
    }
}
