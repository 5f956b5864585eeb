//! An instance's announcement: a heartbeat a second until it leaves.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;
use redis::{RedisResult, Script, aio::MultiplexedConnection};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{HEARTBEAT, INSTANCES, Instance, LIFETIME, Registry, keys};

/// Who leaves waits no longer than this for Redis: those who follow find out by the silence.
const FAREWELL: Duration = Duration::from_secs(1);

/// Alive until so much later, by the clock of Redis, which all have in common. Who is silent makes room only when there is
/// none, or after a minute: those who follow tell the silent from those that left. 0: there is no room.
static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local beats, instances, news = KEYS[1], KEYS[2], KEYS[3]
         local address, about, lifetime, most, epoch = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
         local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         local function forget(before)
             for _, silent in ipairs(redis.call('ZRANGEBYSCORE', beats, '-inf', before)) do
                 redis.call('ZREM', beats, silent)
                 redis.call('HDEL', instances, silent)
             end
         end
         forget(now - 60000)
         local alive = redis.call('ZSCORE', beats, address)
         if not alive and redis.call('ZCARD', beats) >= most then
             forget(now)
             if redis.call('ZCARD', beats) >= most then return 0 end
         end
         redis.call('HSETNX', instances, 'epoch', epoch)
         redis.call('ZADD', beats, now + lifetime, address)
         local before = redis.call('HGET', instances, address)
         if before ~= about then redis.call('HSET', instances, address, about) end
         redis.call('PEXPIRE', beats, 86400000)
         redis.call('PEXPIRE', instances, 86400000)
         if before ~= about or not alive or tonumber(alive) <= now then redis.call('PUBLISH', news, 'joined') end
         return 1",
    )
});

/// Gone, unless another process has the address meanwhile. Told even where Redis has forgotten it.
static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local known = redis.call('HGET', KEYS[2], ARGV[1])
         if known and known ~= ARGV[2] then return 0 end
         redis.call('ZREM', KEYS[1], ARGV[1])
         redis.call('HDEL', KEYS[2], ARGV[1])
         redis.call('PUBLISH', KEYS[3], 'left ' .. ARGV[3])
         return 1",
    )
});

/// An instance that is announced. Dropped, it leaves in the background.
pub struct Announcement {
    leave: CancellationToken,
    task: Option<JoinHandle<()>>,
    standing: Arc<Mutex<Announcing>>,
}

/// How an announcement stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Announcing {
    /// The last heartbeat was heard.
    pub announced: bool,
    /// Why it wasn't.
    pub error: Option<String>,
}

impl Announcement {
    pub fn standing(&self) -> Announcing {
        self.standing.lock().clone()
    }

    /// Takes it back, at once. Ends when Redis knows, or after a second.
    pub async fn leave(mut self) {
        self.leave.cancel();
        if let Some(task) = self.task.take() {
            // A beat that is under way comes before.
            _ = timeout(2 * FAREWELL, task).await;
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

struct Voice {
    registry: Registry,
    service: String,
    instance: Instance,
    about: String,
    connection: Option<MultiplexedConnection>,
    standing: Arc<Mutex<Announcing>>,
}

pub(crate) fn start(registry: Registry, service: String, instance: Instance) -> Announcement {
    let (leave, standing) = (CancellationToken::new(), Arc::<Mutex<Announcing>>::default());
    let about = instance.to_json();
    let voice = Voice { registry, service, instance, about, connection: None, standing: Arc::clone(&standing) };
    let task = tokio::spawn(voice.speak(leave.clone()));
    Announcement { leave, task: Some(task), standing }
}

impl Voice {
    async fn speak(mut self, leave: CancellationToken) {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = leave.cancelled() => break,
                _ = beats.tick() => {}
            }
            match self.beat().await {
                Ok(true) => self.stands(None),
                Ok(false) => self.stands(Some(format!("the service has {INSTANCES} instances already"))),
                Err(error) => self.stands(Some(error.to_string())),
            }
        }
        match timeout(FAREWELL, self.leave()).await {
            Ok(Ok(())) => {
                tracing::info!(service = self.service, address = self.instance.address, "no longer announced")
            }
            Ok(Err(error)) => self.could_not_leave(&error.to_string()),
            Err(_) => self.could_not_leave("no answer in time"),
        }
    }

    async fn beat(&mut self) -> RedisResult<bool> {
        let mut connection = self.connection().await?;
        let heard: RedisResult<u32> = BEAT
            .key(keys::beats(&self.service))
            .key(keys::instances(&self.service))
            .key(keys::news(&self.service))
            .arg(&self.instance.address)
            .arg(&self.about)
            .arg(LIFETIME.as_millis().to_string())
            .arg(INSTANCES)
            // Whoever speaks first after Redis has lost its memory says which memory this is.
            .arg(format!("{:032x}", rand::random::<u128>()))
            .invoke_async(&mut connection)
            .await;
        let heard = heard?;
        self.connection = Some(connection);
        Ok(heard == 1)
    }

    async fn leave(&mut self) -> RedisResult<()> {
        let mut connection = self.connection().await?;
        LEAVE
            .key(keys::beats(&self.service))
            .key(keys::instances(&self.service))
            .key(keys::news(&self.service))
            .arg(&self.instance.address)
            .arg(&self.about)
            .arg(&self.instance.id)
            .invoke_async(&mut connection)
            .await
    }

    /// Taken out: only one that has answered is put back.
    async fn connection(&mut self) -> RedisResult<MultiplexedConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.registry.connect(&self.service).await,
        }
    }

    fn stands(&self, error: Option<String>) {
        let next = Announcing { announced: error.is_none(), error };
        let before = std::mem::replace(&mut *self.standing.lock(), next.clone());
        let (service, address) = (&self.service, &self.instance.address);
        match &next.error {
            None if !before.announced => tracing::info!(service, address, "announced"),
            Some(error) if before.error.is_none() => {
                tracing::warn!(service, address, error, "can't be announced; it is tried again every second");
            }
            _ => {}
        }
    }

    fn could_not_leave(&self, error: &str) {
        let (service, address) = (&self.service, &self.instance.address);
        tracing::warn!(service, address, error, "could not say that it leaves; its silence will");
    }
}
