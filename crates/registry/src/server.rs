//! Connections to Redis: one for each announcement and for each service that is followed, made again by whoever uses it.
//! News come on the same connection (RESP3), so that one that is cut is noticed by whoever waits for news.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use redial::Address;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    net::{UdpSocket, lookup_host},
    sync::mpsc,
};

use crate::{Announcement, Follower, Instance, Refused, announce, is_service, keys};

/// How long a connection, and an answer, is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// News that wait to be read; should there be more, the set is read anyway.
const NEWS: usize = 64;

/// A Redis in which services announce themselves. Clones share nothing but its address; nothing connects before it is
/// used.
#[derive(Clone)]
pub struct Registry {
    redis: Address,
}

/// What is told of a service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Something is different.
    Changed,
    Left(String),
    /// There will be no more news.
    Cut,
}

impl Registry {
    /// By an [`Address`], or a URL of one: `redis://host:port/db`, `rediss://` for TLS, Sentinels, a Cluster.
    ///
    /// # Errors
    /// If the URL is none: why, without the URL, which may hold a password.
    pub fn new<A>(redis: A) -> Result<Self, Refused>
    where
        A: TryInto<Address, Error: fmt::Display>,
    {
        let refused = |error: A::Error| Refused(format!("no URL such as redis://127.0.0.1:6379: {error}"));
        redis.try_into().map(|redis| Self { redis }).map_err(refused)
    }

    /// Announces an instance of a service, from now until it leaves, in a task of its own: that Redis is away is no error,
    /// it is tried again with each heartbeat.
    ///
    /// # Errors
    /// If the service's name or the instance is none.
    pub fn announce(&self, service: &str, instance: Instance) -> Result<Announcement, Refused> {
        check_service(service)?;
        instance.check()?;
        Ok(announce::start(self.clone(), service.to_owned(), instance))
    }

    /// Follows the instances of a service, while [`Follower::run`] runs.
    ///
    /// # Errors
    /// If the service's name is none.
    pub fn follow(&self, service: &str) -> Result<Follower, Refused> {
        check_service(service)?;
        Ok(Follower::new(self.clone(), service.to_owned()))
    }

    /// The address that this machine has on its way to Redis: one by which others may reach it, most likely.
    ///
    /// # Errors
    /// If there is no way there.
    pub async fn own_ip(&self) -> io::Result<IpAddr> {
        let (host, port) = self.redis.first_host();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name of Redis has no address");
        for redis in lookup_host((host, port)).await? {
            // Nothing is sent: it is only found out which way it would go.
            let any: SocketAddr =
                if redis.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().map_err(io::Error::other)?;
            let socket = UdpSocket::bind(any).await?;
            match socket.connect(redis).await.and_then(|()| socket.local_addr()) {
                Ok(own) => return Ok(own.ip()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to whoever has a service's keys.
    pub(crate) async fn connect(&self, service: &str) -> RedisResult<MultiplexedConnection> {
        self.redis.dial(&keys::instances(service), &settings()).await
    }

    /// A connection to whoever has a service's keys, which also hears its news.
    pub(crate) async fn listen(&self, service: &str) -> RedisResult<(MultiplexedConnection, mpsc::Receiver<News>)> {
        let (told, news) = mpsc::channel(NEWS);
        // Where it is full there is something to be read already.
        let settings = settings().set_push_sender(move |push| {
            if let Some(piece) = News::read(push) {
                _ = told.try_send(piece);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let mut connection = self.redis.dial(&keys::instances(service), &settings).await?;
        connection.subscribe(keys::news(service)).await?;
        Ok((connection, news))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.redis).finish()
    }
}

impl News {
    fn read(push: PushInfo) -> Option<Self> {
        match push.kind {
            PushKind::Disconnection => Some(Self::Cut),
            PushKind::Message => match push.data.into_iter().nth(1) {
                Some(Value::BulkString(said)) => {
                    let left = std::str::from_utf8(&said).ok().and_then(|said| said.strip_prefix("left "));
                    Some(left.map_or(Self::Changed, |id| Self::Left(id.to_owned())))
                }
                _ => Some(Self::Changed),
            },
            _ => None,
        }
    }
}

fn settings() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE))
}

fn check_service(name: &str) -> Result<(), Refused> {
    if is_service(name) {
        return Ok(());
    }
    Err(Refused(format!("`{name}` is not 1 to 64 of a-z, 0-9, `.`, `_` and `-`")))
}
