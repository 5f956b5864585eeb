//! The broker's bounds and rhythms, with defaults that `docs/broker.md` tells.

use std::time::Duration;

/// Public fields, so that a configuration file may set some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most streams, sockets and waiting polls at once; beyond, 503.
    pub connections: usize,
    /// The most that wait at once for an event to be delivered, be it their own or one they watch; beyond, 503.
    pub waiters: usize,
    /// The most queues that are followed at once by all clients together, those included that aren't there yet; beyond, 503.
    pub queues: usize,
    /// How long a client may take nothing of what is written to it; then its connection is cut.
    pub stall: Duration,
    /// How often an SSE stream says that it lives.
    pub heartbeat: Duration,
    /// How often an idle subscriber is told its place.
    pub cursor_every: Duration,
    /// A stream or socket ends after this long, give or take a tenth: load spreads over nodes again, and who was let in
    /// shows again that it still may.
    pub rotation: Duration,
    /// How long a long-poll waits unless it says so, and at most.
    pub wait: Duration,
    pub longest_wait: Duration,
    /// How long a WebSocket may take for its first frame.
    pub hello: Duration,
    /// How often a WebSocket is asked whether it lives; after two silent ones it is taken for dead.
    pub ping: Duration,
    /// The most bytes that wait for a socket; what comes then is read from the log later.
    pub send_queue: usize,
    /// Whether webhooks may be in private networks, and without TLS.
    pub allow_private_networks: bool,
    /// Certificates of authorities, in PEM, that webhooks' servers may be signed by, besides Mozilla's.
    pub webhook_authorities: Option<Vec<u8>>,
    /// Where clients reach the gateway, `https://example.com`: for the addresses that receivers of webhooks are given. None:
    /// they get the path alone.
    pub public_url: Option<String>,
    /// Over how long a drain spreads the departure of clients.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 20_000,
            waiters: 1024,
            queues: 4096,
            stall: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            cursor_every: Duration::from_secs(25),
            rotation: Duration::from_secs(600),
            wait: Duration::from_secs(25),
            longest_wait: Duration::from_secs(60),
            hello: Duration::from_secs(10),
            ping: Duration::from_secs(25),
            send_queue: 256 * 1024,
            allow_private_networks: false,
            webhook_authorities: None,
            public_url: None,
            drain: Duration::from_secs(20),
        }
    }
}
