//! One client's share of an endpoint: its connections to it, and how busy it finds it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use http::{Request, Response};

use crate::{
    Body, Protocol, config::IDLE, connect::Connector, endpoint::Shared, error::Failure, http1, http2, load::Load,
};

pub(crate) struct Lane {
    pub endpoint: Arc<Shared>,
    pub load: Load,
    pub connector: Connector,
    pool: Pool,
    is_swept: AtomicBool,
}

enum Pool {
    Http1(http1::Pool),
    Http2(Arc<http2::Pool>),
}

impl Lane {
    pub fn new(connector: Connector, protocol: Protocol) -> Arc<Self> {
        Arc::new(Self {
            endpoint: Arc::clone(&connector.endpoint),
            load: Load::new(Instant::now()),
            connector,
            pool: match protocol {
                Protocol::Http1 => Pool::Http1(http1::Pool::default()),
                Protocol::Http2 | Protocol::Grpc => Pool::Http2(Arc::default()),
            },
            is_swept: AtomicBool::new(false),
        })
    }

    /// One try. The request leaves `slot` when it is handed to a connection, and is back in it where the connection
    /// gave it back unsent.
    pub async fn send(
        self: &Arc<Self>,
        slot: &mut Option<Request<Body>>,
        now: Instant,
    ) -> Result<Response<Body>, Failure> {
        let under_way = UnderWay::begin(self, now);
        match &self.pool {
            Pool::Http1(pool) => http1::send(under_way, pool, slot).await,
            Pool::Http2(pool) => http2::send(under_way, pool, slot).await,
        }
    }

    /// The pool of HTTP/1.1 connections, where that is what the endpoint speaks.
    pub fn http1(&self) -> Option<&http1::Pool> {
        match &self.pool {
            Pool::Http1(pool) => Some(pool),
            Pool::Http2(_) => None,
        }
    }

    /// It gets no new requests: what is idle is closed now, and what is under way when it has ended.
    pub fn retire(&self) {
        match &self.pool {
            Pool::Http1(pool) => pool.retire(),
            Pool::Http2(pool) => pool.retire(),
        }
    }

    /// Closes connections that stay idle, from the first connection on and as long as the lane lives.
    pub fn keep_swept(self: &Arc<Self>) {
        if self.is_swept.swap(true, Relaxed) {
            return;
        }
        let lane = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE / 3).await;
                let Some(lane) = lane.upgrade() else { return };
                match &lane.pool {
                    Pool::Http1(pool) => pool.sweep(Instant::now()),
                    Pool::Http2(pool) => pool.sweep(Instant::now()),
                }
            }
        });
    }

    #[cfg(test)]
    pub fn for_test(address: &str) -> Arc<Self> {
        let endpoint = Arc::new(Shared::new("test", address).unwrap());
        let connector = Connector { endpoint, limits: Arc::default(), timeout: std::time::Duration::from_secs(1), tls: None };
        Self::new(connector, Protocol::Http1)
    }
}

/// A request under way in a lane, until its response's body has ended.
pub(crate) struct UnderWay {
    pub lane: Arc<Lane>,
    pub started: Instant,
    is_answered: bool,
}

impl UnderWay {
    fn begin(lane: &Arc<Lane>, now: Instant) -> Self {
        lane.load.begin();
        Self { lane: Arc::clone(lane), started: now, is_answered: false }
    }

    /// The time it took to connect is no latency of the service's.
    pub fn connected(&mut self) {
        self.started = Instant::now();
    }

    /// The response's head is here: that is the latency that counts, a body may be as long as it likes.
    pub fn answered(&mut self) {
        let now = Instant::now();
        self.lane.load.observe(now.saturating_duration_since(self.started), now);
        self.is_answered = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_answered {
            let now = Instant::now();
            self.lane.load.observe_at_least(now.saturating_duration_since(self.started), now);
        }
        self.lane.load.end();
    }
}
