//! The connection to the server: shared, pipelining, made again when it breaks. Whatever goes wrong is
//! [`Error::Unavailable`] with a short reason: whoever asked may ask again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError,
    ServerErrorKind, Value,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::script::Script;
use crate::{Error, metrics};

/// The longest a connection, and an answer, is waited for.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
/// How often a silent connection is probed; after two it is given up.
const PROBE: Duration = Duration::from_secs(5);
/// Attempts at a new connection before those who wait are told; whoever asks next begins anew.
const ATTEMPTS: usize = 4;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);
/// How often a script is called that somebody keeps flushing.
const LOADS: usize = 4;

pub(super) struct Server {
    client: Client,
    connection: ConnectionManager,
}

impl Server {
    /// # Errors
    /// If the URL is none, or nobody answers there.
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let info = url.into_connection_info().context("the URL of Redis")?;
        let tcp = settings(info.tcp_settings().clone());
        let client = Client::open(info.set_tcp_settings(tcp)).context("the URL of Redis")?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER))
            .set_number_of_retries(ATTEMPTS)
            .set_max_delay(BETWEEN_ATTEMPTS)
            .set_pipeline_buffer_size(1024);
        let connection = client.get_connection_manager_with_config(config).await.context("Redis doesn't answer")?;
        Ok(Self { client, connection })
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Error> {
        self.attempt(cmd).await.map_err(|error| unavailable(&error))
    }

    /// None where the server knows no such command, or allows it to others only.
    pub(super) async fn ask_if_allowed<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<Option<T>, Error> {
        match self.attempt(cmd).await {
            Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => Ok(None),
            answer => answer.map(Some).map_err(|error| unavailable(&error)),
        }
    }

    /// Several commands in one round trip, their answers in their order.
    pub(super) async fn ask_all<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, Error> {
        let began = Instant::now();
        let answer = pipeline.query_async(&mut self.connection.clone()).await;
        metrics::redis_round_trip(began.elapsed());
        answer.map_err(|error| unavailable(&error))
    }

    /// Calls a script, which is loaded if the server doesn't know it.
    pub(super) async fn call(&self, script: &Script, call: &Cmd) -> Result<Value, Error> {
        let mut attempt = 1;
        loop {
            match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) if is_unknown_script(&error) && attempt < LOADS => {
                    self.ask::<Value>(&script.load()).await?;
                    attempt += 1;
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
    }

    /// A connection of its own that hears what is said on a channel.
    pub(super) async fn listen(&self, channel: &str) -> Result<PubSub, RedisError> {
        let mut listener = self.client.get_async_pubsub().await?;
        listener.subscribe(channel).await?;
        Ok(listener)
    }

    /// The server that has a key, as far as it matters whether two are on the same one.
    #[expect(clippy::unused_self, reason = "there is one server")]
    pub(super) fn node_of(&self, _key: &str) -> String {
        String::new()
    }

    /// A connection of its own to the server that has a key: for what must be asked on the same one, or waits.
    pub(super) async fn own(&self, _key: &str) -> Result<MultiplexedConnection, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn attempt<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, RedisError> {
        let began = Instant::now();
        let answer = cmd.query_async(&mut self.connection.clone()).await;
        metrics::redis_round_trip(began.elapsed());
        answer
    }
}

fn settings(tcp: TcpSettings) -> TcpSettings {
    // A machine that is gone answers nothing, not even that: without probes its connections would stay for long.
    let probes = TcpKeepalive::new().with_time(PROBE).with_interval(PROBE);
    // A small command mustn't wait for a bigger packet.
    let tcp = tcp.set_nodelay(true).set_keepalive(probes);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(2 * PROBE);
    tcp
}

pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

pub(super) fn unavailable(error: &RedisError) -> Error {
    let reason = match error.code() {
        Some("OOM") => {
            "redis is out of memory: it takes nothing new until something is settled, trimmed or deleted".to_owned()
        }
        Some("READONLY") => "redis is a replica now".to_owned(),
        Some("LOADING") => "redis is loading its data".to_owned(),
        Some(_) => format!("redis refuses: {error}"),
        None => format!("redis doesn't answer: {error}"),
    };
    Error::Unavailable(reason)
}

/// An answer that isn't what the script gives.
pub(super) fn unexpected() -> Error {
    Error::Unavailable("redis gave an answer that makes no sense".to_owned())
}
