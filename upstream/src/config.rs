use std::time::Duration;

/// Which protocol the endpoints speak.
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
    /// `host:port`, at least one.
    pub endpoints: Vec<String>,
    pub protocol: Protocol,
    /// Default 1 s.
    pub connect_timeout: Duration,
    /// None: no active checks. gRPC: grpc.health.v1; HTTP: GET of the path.
    pub health: Option<Health>,
    /// Retries beside the first try, 0 to 3; default 1.
    pub retries: u32,
}

/// Active checks: defaults every 5 s (1 s while unhealthy), timeout 1 s, 2 successes up, 3 failures down.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub interval: Duration,
    pub timeout: Duration,
    pub path: Option<String>,
}

impl Config {
    pub fn new(name: &str, endpoints: Vec<String>, protocol: Protocol) -> Self {
        Self {
            name: name.to_owned(),
            endpoints,
            protocol,
            connect_timeout: Duration::from_secs(1),
            health: None,
            retries: 1,
        }
    }
}
