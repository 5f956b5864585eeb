//! One client's share of an endpoint: its connections to it, and how busy it finds it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use http::{HeaderMap, Request, Response, StatusCode};

use crate::{
    Body, Protocol, balance, caps::Share, config::IDLE, connect::Connector, endpoint::Shared, error::Failure, http1,
    http2, load::Load, standing::Event, verdict,
};

pub(crate) struct Lane {
    pub endpoint: Arc<Shared>,
    pub load: Load,
    pub connector: Connector,
    /// The endpoint as a number.
    pub mark: u64,
    protocol: Protocol,
    /// None: what becomes of its requests says nothing of the endpoint, and no cap holds, since they are health checks.
    share: Option<Arc<Share>>,
    pool: Pool,
    is_swept: AtomicBool,
}

enum Pool {
    Http1(http1::Pool),
    Http2(Arc<http2::Pool>),
}

impl Lane {
    pub fn new(connector: Connector, protocol: Protocol, share: Option<Arc<Share>>) -> Arc<Self> {
        Arc::new(Self {
            endpoint: Arc::clone(&connector.endpoint),
            load: Load::new(Instant::now()),
            mark: balance::mark(&connector.endpoint.address),
            connector,
            protocol,
            share,
            pool: match protocol {
                Protocol::Http1 => Pool::Http1(http1::Pool::default()),
                Protocol::Http2 | Protocol::Grpc => Pool::Http2(Arc::default()),
            },
            is_swept: AtomicBool::new(false),
        })
    }

    /// One try. The request leaves `slot` when it is handed to a connection, and is back in it where the connection
    /// gave it back unsent. `patience`: when it is the endpoint's fault that there is no answer.
    pub async fn send(
        self: &Arc<Self>,
        slot: &mut Option<Request<Body>>,
        now: Instant,
        patience: Option<Instant>,
    ) -> Result<Response<Body>, Failure> {
        let under_way = UnderWay::begin(self, now, patience)?;
        let answer = match &self.pool {
            Pool::Http1(pool) => http1::send(under_way, pool, slot).await,
            Pool::Http2(pool) => http2::send(under_way, pool, slot).await,
        };
        if let Err(failure) = &answer
            && let Some(event) = verdict::of_failure(self.protocol, failure.cause)
        {
            self.tell(event, &failure.detail, Instant::now());
        }
        answer
    }

    /// Lets the endpoint know what became of a try.
    pub fn tell(&self, event: Event, why: &str, now: Instant) {
        if self.share.is_some() {
            self.endpoint.after(event, why, now);
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
    pub fn for_test(endpoint: Arc<Shared>) -> Arc<Self> {
        let (limits, timeout) = (Arc::<crate::caps::Limits>::default(), std::time::Duration::from_secs(1));
        let share = Some(limits.share());
        Self::new(Connector { endpoint, limits, timeout, tls: None }, Protocol::Http1, share)
    }
}

/// A request under way in a lane, until its response's body has ended.
pub(crate) struct UnderWay {
    pub lane: Arc<Lane>,
    pub started: Instant,
    /// From when on it is the endpoint's fault that there is no answer.
    patience: Option<Instant>,
    is_answered: bool,
}

impl UnderWay {
    fn begin(lane: &Arc<Lane>, now: Instant, patience: Option<Instant>) -> Result<Self, Failure> {
        if let Some(share) = &lane.share {
            share.take()?;
        }
        lane.load.begin();
        Ok(Self { lane: Arc::clone(lane), started: now, patience, is_answered: false })
    }

    /// The time it took to connect is no latency of the service's.
    pub fn connected(&mut self) {
        self.started = Instant::now();
    }

    /// The response's head is here: that is the latency that counts, a body may be as long as it likes.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        let (now, lane) = (Instant::now(), &self.lane);
        let took = now.saturating_duration_since(self.started);
        self.is_answered = true;
        if verdict::of_head(lane.protocol, status, headers) == Event::Answered {
            lane.load.observe(took, now);
            if lane.share.is_some() {
                lane.endpoint.answered(now);
            }
            return;
        }
        lane.load.observe_failure(took, now);
        lane.tell(Event::Failed, &format!("it answered {}", verdict::said(status, headers)), now);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_answered {
            let now = Instant::now();
            self.lane.load.observe_at_least(now.saturating_duration_since(self.started), now);
            if self.patience.is_some_and(|patience| patience <= now) {
                self.lane.tell(Event::Failed, "no answer within the deadline", now);
            }
        }
        self.lane.load.end();
        if let Some(share) = &self.lane.share {
            share.give_back();
        }
    }
}
