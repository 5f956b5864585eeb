//! Following the instances of a service: what comes and goes is told at once, and read again every second, should a
//! message be lost.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use redis::{RedisResult, Script, aio::MultiplexedConnection};
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until},
};

use crate::{
    Instance, Registry, keys,
    known::{Known, Listing},
    server::News,
};

const POLL: Duration = Duration::from_secs(1);
/// What is wrong where nobody beats and nobody has left.
const HUSH: &str = "no instance is heard any more: can they reach Redis?";
/// After Redis could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// All of a service in one piece.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         return {
             time[1] * 1000 + math.floor(time[2] / 1000),
             redis.call('HGET', KEYS[2], 'epoch'),
             redis.call('HGETALL', KEYS[2]),
             redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'),
         }",
    )
});

/// Follows the instances of one service.
pub struct Follower {
    registry: Registry,
    service: String,
}

/// What is known of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By their address.
    pub instances: Vec<Instance>,
    /// When Redis was last read; none: never.
    pub read_at: Option<SystemTime>,
    /// Why it can't be read now.
    pub error: Option<String>,
}

impl Follower {
    pub(crate) fn new(registry: Registry, service: String) -> Self {
        Self { registry, service }
    }

    /// Tells of every change, and every reading, until it is dropped.
    pub async fn run(&self, mut tell: impl FnMut(Standing)) -> Infallible {
        let (mut known, mut standing) = (Known::default(), Standing::default());
        loop {
            let Err(error) = self.listen(&mut known, &mut standing, &mut tell).await;
            known.lost();
            let error = error.to_string();
            if standing.error.is_none() {
                let instances = standing.instances.len();
                tracing::warn!(service = self.service, instances, error, "the registry is away: what is known stays");
            }
            standing.error = Some(error);
            tell(standing.clone());
            sleep(RETRY).await;
        }
    }

    /// Until the connection breaks.
    async fn listen(
        &self,
        known: &mut Known,
        standing: &mut Standing,
        tell: &mut impl FnMut(Standing),
    ) -> RedisResult<Infallible> {
        let (mut connection, mut news) = self.registry.listen(&self.service).await?;
        loop {
            let listing = self.list(&mut connection).await?;
            known.read(listing, Instant::now());
            let error = known.is_in_doubt().then(|| HUSH.to_owned());
            let before = std::mem::replace(&mut standing.error, error);
            match (before, &standing.error) {
                (Some(_), None) => tracing::info!(service = self.service, "the registry tells again who is there"),
                (before, Some(error)) if before.as_ref() != Some(error) => {
                    let instances = standing.instances.len();
                    tracing::warn!(service = self.service, instances, error, "what is known stays for a while");
                }
                _ => {}
            }
            standing.read_at = Some(SystemTime::now());
            standing.instances = known.instances().cloned().collect();
            tell(standing.clone());

            let poll = Instant::now() + POLL;
            let wake = known.next().map_or(poll, |next| next.min(poll));
            let mut piece = tokio::select! {
                () = sleep_until(wake.into()) => None,
                piece = news.recv() => Some(piece.unwrap_or(News::Cut)),
            };
            // Whatever has come together is read together.
            while let Some(heard) = piece {
                self.heard(heard, known, standing, tell)?;
                piece = next(&mut news);
            }
        }
    }

    fn heard(
        &self,
        piece: News,
        known: &mut Known,
        standing: &mut Standing,
        tell: &mut impl FnMut(Standing),
    ) -> RedisResult<()> {
        match piece {
            News::Changed => {}
            // Not a round trip later.
            News::Left(id) => {
                if known.left(&id) {
                    standing.instances = known.instances().cloned().collect();
                    tell(standing.clone());
                }
            }
            News::Cut => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
        }
        Ok(())
    }

    async fn list(&self, connection: &mut MultiplexedConnection) -> RedisResult<Listing> {
        type Listed = (u64, Option<String>, HashMap<String, String>, Vec<(String, f64)>);
        let (now, epoch, mut about, beats): Listed =
            LIST.key(keys::beats(&self.service)).key(keys::instances(&self.service)).invoke_async(connection).await?;
        let instances = beats.into_iter().filter_map(|(address, until)| {
            let instance = Instance::from_json(&about.remove(&address)?)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds, as written")]
            (instance.address == address).then_some((instance, until as u64))
        });
        Ok(Listing { now, epoch, instances: instances.collect() })
    }
}

fn next(news: &mut mpsc::Receiver<News>) -> Option<News> {
    match news.try_recv() {
        Ok(piece) => Some(piece),
        Err(mpsc::error::TryRecvError::Empty) => None,
        Err(mpsc::error::TryRecvError::Disconnected) => Some(News::Cut),
    }
}
