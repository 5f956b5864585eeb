//! What is known of open connections, for operators.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::Version;
use parking_lot::Mutex;

use super::watchdog::Watchdog;
use crate::{layers::request_id::Peer, metrics::METRICS};

/// Who speaks on a connection, and what: known with its first request.
pub struct Known {
    pub client: IpAddr,
    pub protocol: &'static str,
    pub secure: bool,
    pub since: Instant,
}

impl Known {
    pub fn of(peer: &Peer, version: Version) -> Self {
        let protocol = if version == Version::HTTP_2 { "h2" } else { "http/1.1" };
        METRICS.protocol_begun(protocol);
        Self { client: peer.address.ip(), protocol, secure: peer.secure, since: Instant::now() }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        METRICS.protocol_ended(self.protocol);
    }
}

/// The connections of all cores.
#[derive(Default)]
pub struct Connections(Mutex<Vec<Arc<Watchdog>>>);

impl Connections {
    /// Those that one more core looks after.
    pub fn add(&self, core: &Arc<Watchdog>) {
        self.0.lock().push(Arc::clone(core));
    }

    /// Shows each to `visit`; None: it has not made a request yet.
    pub fn each(&self, mut visit: impl FnMut(Option<&Known>)) {
        for core in &*self.0.lock() {
            core.each(|activity| visit(activity.known()));
        }
    }
}
