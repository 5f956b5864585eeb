//! What gateways share, in one Redis (a server, the primary that Sentinels name, or a Cluster): sessions
//! (`auth::session`), rate limits (`limit`), idempotency keys (`idempotency`), and the roll of those that live (`roll`).
//!
//! Cores never do the connection's work: it lives on the shared runtime, and a core only waits for an answer, never longer
//! than it was told to. A Redis that failed to answer is not asked again until a heartbeat got through: nobody waits for
//! what is known to be away. What that means for a request is for each part to say.

pub mod keys;
mod roll;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use redial::{Address, Patience};
use redis::{Cmd, FromRedisValue, RedisResult};
use tokio::{runtime::Handle, sync::Notify, time::timeout};

use crate::{
    config,
    error::{Error, ErrorKind},
    metrics::METRICS,
};

/// How long a connection is worked on. It goes on when whoever needed it waits no longer.
const CONNECT: Duration = Duration::from_secs(2);

/// The Redis that gateways share.
pub struct Redis {
    connection: redial::Redis,
    runtime: Handle,
    /// The most that anything waits.
    patience: Duration,
    /// The most that a rate limit waits.
    limit_patience: Duration,
    /// This gateway on the roll.
    id: String,
    /// It answered the last time.
    reachable: AtomicBool,
    /// It did so as soon as rate limits need it.
    prompt: AtomicBool,
    /// On the roll at the last heartbeat, this one included.
    gateways: AtomicU32,
    /// It has just failed: a heartbeat should find out whether it is back.
    doubt: Notify,
}

/// What operators see of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Standing {
    pub reachable: bool,
    /// Whether rate limits are counted together; if not, each gateway enforces its share.
    pub limits_together: bool,
    /// Gateways that live, this one included, as far as is known.
    pub gateways: u32,
}

/// Redis gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("the Redis that gateways share: {0}")]
pub struct Away(String);

impl Away {
    /// For the client: this can't be done now.
    pub fn refusal(self, detail: &'static str) -> Error {
        Error::new(ErrorKind::Unavailable, detail)
            .cause(self)
            .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

/// One command as a question for [`Redis::ask`].
pub fn command<T: FromRedisValue>(
    command: Cmd,
) -> impl Fn(redial::Redis) -> BoxFuture<'static, RedisResult<T>> + Send + 'static {
    move |mut redis| {
        let command = command.clone();
        Box::pin(async move { command.query_async(&mut redis).await })
    }
}

impl Redis {
    /// The Redis of the configuration. Must be called on the shared runtime. It need not answer yet.
    pub async fn open(address: Address, config: &config::Shared) -> Arc<Self> {
        // The heartbeat tries again, and meanwhile nobody waits for a connection.
        let patience = Patience { connect: CONNECT, answer: config.timeout, attempts: 1 };
        let redis = Arc::new(Self {
            connection: redial::Redis::new(address, patience),
            runtime: Handle::current(),
            patience: config.timeout,
            limit_patience: config.limit_timeout.min(config.timeout),
            id: format!("{:032x}", rand::random::<u128>()),
            reachable: AtomicBool::new(true),
            prompt: AtomicBool::new(true),
            gateways: AtomicU32::new(1),
            doubt: Notify::new(),
        });
        redis.beat().await;
        redis
    }

    /// Asks something, and waits for the answer as long as anything may. What is asked must be harmless twice: a connection
    /// that has ended since it was last used shows only when it is.
    pub async fn ask<T, Q, F>(&self, question: Q) -> Result<T, Away>
    where
        T: Send + 'static,
        Q: Fn(redial::Redis) -> F + Send + 'static,
        F: Future<Output = RedisResult<T>> + Send + 'static,
    {
        if !self.reachable.load(Relaxed) {
            return Err(Away("it did not answer the last time".to_owned()));
        }
        let connection = self.connection.clone();
        self.wait_for(async move {
            match question(connection.clone()).await {
                Err(error) if error.is_io_error() && !error.is_timeout() => question(connection).await,
                answer => answer,
            }
        })
        .await
    }

    /// The same for a rate limit, which waits only as long as a request may be held up by it.
    pub async fn ask_promptly<T, Q, F>(&self, question: Q) -> Result<T, Away>
    where
        T: Send + 'static,
        Q: Fn(redial::Redis) -> F + Send + 'static,
        F: Future<Output = RedisResult<T>> + Send + 'static,
    {
        if !self.prompt.load(Relaxed) {
            return Err(Away("it did not answer in time the last time".to_owned()));
        }
        match timeout(self.limit_patience, self.ask(question)).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = format!("no answer within {:?}", self.limit_patience);
                self.late(&why);
                Err(Away(why))
            }
        }
    }

    /// How many gateways live, this one included.
    pub fn gateways(&self) -> u32 {
        self.gateways.load(Relaxed)
    }

    pub fn standing(&self) -> Standing {
        Standing {
            reachable: self.reachable.load(Relaxed),
            limits_together: self.prompt.load(Relaxed),
            gateways: self.gateways(),
        }
    }

    fn lost(&self, why: String) -> Away {
        if self.reachable.swap(false, Relaxed) {
            METRICS.shared_reachable(false);
            tracing::warn!(why, "the Redis that gateways share is away: sessions and idempotency keys are refused");
        }
        self.late(&why);
        Away(why)
    }

    fn late(&self, why: &str) {
        if self.prompt.swap(false, Relaxed) {
            METRICS.limits_together(false);
            let gateways = self.gateways();
            tracing::warn!(
                why,
                gateways,
                "rate limits are no longer counted together: this gateway enforces its share"
            );
            self.doubt.notify_one();
        }
    }

    fn found(&self, gateways: u32, took: Duration) {
        // Where Redis was away, others may not have signed yet: who was there before counts until the next heartbeat.
        let others = if self.reachable.load(Relaxed) { 1 } else { self.gateways() };
        self.gateways.store(gateways.max(others), Relaxed);
        if !self.reachable.swap(true, Relaxed) {
            tracing::info!("the Redis that gateways share answers again");
        }
        METRICS.shared_reachable(true);
        if took > self.limit_patience {
            self.late(&format!("it took {took:?} to answer"));
        } else if !self.prompt.swap(true, Relaxed) {
            tracing::info!(gateways, "rate limits are counted together again");
        }
        METRICS.limits_together(self.prompt.load(Relaxed));
    }

    /// A heartbeat: on the roll, and whether Redis answers.
    async fn beat(&self) {
        let started = Instant::now();
        if let Ok(gateways) = self.wait_for(roll::sign(self.connection.clone(), self.id.clone())).await {
            self.found(gateways, started.elapsed());
        }
    }

    /// Waits for an answer as long as anything may. Who waits no longer leaves it to come to its end, so that a connection
    /// on which nothing answers is left.
    async fn wait_for<T: Send + 'static>(
        &self,
        answer: impl Future<Output = RedisResult<T>> + Send + 'static,
    ) -> Result<T, Away> {
        match timeout(self.patience, self.runtime.spawn(answer)).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(self.lost(error.to_string())),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost(format!("no answer within {:?}", self.patience))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_was_there_before_redis_went_away_counts_until_it_had_time_to_sign_again() {
        let address = Address::parse("redis://127.0.0.1:1").unwrap();
        let redis = Redis::open(address, &config::Shared::default()).await;
        assert!(!redis.standing().reachable);
        redis.found(3, Duration::ZERO);
        assert_eq!(redis.gateways(), 3);
        redis.lost("for a test".to_owned());
        redis.found(1, Duration::ZERO);
        assert_eq!(redis.gateways(), 3, "the first to sign again");
        redis.found(2, Duration::ZERO);
        assert_eq!(redis.gateways(), 2, "one has left meanwhile");
    }
}
