//! The roll of gateways that live: each signs it once a second. Who hasn't for three seconds isn't counted.

use std::{sync::LazyLock, time::Duration};

use redis::{AsyncCommands as _, RedisResult, Script};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Redis, keys};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often a Redis that is away, or late, is tried.
const RETRY: Duration = Duration::from_millis(100);

/// Signs the roll, strikes off who is silent, and counts the others; by the clock of Redis, which all have in common.
static SIGN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         redis.call('ZADD', KEYS[1], now, ARGV[1])
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 3000)
         redis.call('PEXPIRE', KEYS[1], 30000)
         return redis.call('ZCARD', KEYS[1])",
    )
});

/// Signs for a gateway. Returns how many are on the roll.
pub async fn sign(mut connection: redial::Redis, id: String) -> RedisResult<u32> {
    SIGN.key(keys::ROLL).arg(id).invoke_async(&mut connection).await
}

impl Redis {
    /// Keeps this gateway on the roll until told to stop, and finds out when a Redis that was away is back.
    pub async fn attend(&self, stop: &CancellationToken) {
        loop {
            let pause = if self.standing().limits_together { HEARTBEAT } else { RETRY };
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => {}
                // Not at once: one that answers heartbeats in time and limits too late would be asked in vain each time.
                () = self.doubt.notified() => continue,
            }
            self.beat().await;
        }
        let mut connection = self.connection.clone();
        let leaving = timeout(self.patience, connection.zrem::<_, _, ()>(keys::ROLL, &self.id)).await;
        tracing::debug!(?leaving, "off the roll of gateways");
    }
}
