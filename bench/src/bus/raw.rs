//! Redis as a client without a bus would use it: XADD, XREADGROUP and XACK, XREAD.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::{
    AsyncCommands as _, AsyncConnectionConfig, Client, IntoConnectionInfo as _,
    aio::MultiplexedConnection,
    streams::{StreamReadOptions, StreamReadReply},
};

use super::{
    DATA,
    contestant::{Contestant, FILLERS, FILLING, IntoInnerResult as _, Publishing, at_rate},
};
use crate::statistics::Latency;

/// Entries of a page, when a reader catches up.
const PAGE: usize = 256;

pub struct Raw {
    client: Client,
    shared: MultiplexedConnection,
    groups: AtomicU64,
    /// It writes each command to disk before it answers.
    always: bool,
}

impl Raw {
    pub async fn connect(url: &str, always: bool) -> anyhow::Result<Self> {
        let info = url.into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        let shared = connection(&client).await?;
        Ok(Self { client, shared, groups: AtomicU64::new(0), always })
    }

    async fn flood(&self, stream: &str, publishing: Publishing, time: Duration) -> anyhow::Result<u64> {
        let (end, done, data) = (Instant::now() + time, AtomicU64::new(0), "x".repeat(DATA));
        let publishers = (0..publishing.in_flight).map(|_| async {
            let mut connection = self.shared.clone();
            while Instant::now() < end {
                add(&mut connection, stream, &data, publishing.batch).await?;
                done.fetch_add(publishing.batch as u64, Relaxed);
            }
            anyhow::Ok(())
        });
        try_join_all(publishers).await?;
        Ok(done.into_inner())
    }
}

/// Adds so many entries, by one pipeline.
async fn add(connection: &mut MultiplexedConnection, stream: &str, data: &str, batch: usize) -> anyhow::Result<()> {
    if batch == 1 {
        let _: String = connection.xadd(stream, "*", &[("d", data)]).await?;
        return Ok(());
    }
    let mut pipeline = redis::pipe();
    for _ in 0..batch {
        pipeline.xadd(stream, "*", &[("d", data)]).ignore();
    }
    let () = pipeline.query_async(connection).await?;
    Ok(())
}

/// One that waits as long as it takes.
async fn connection(client: &Client) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> &'static str {
        "raw Redis"
    }

    async fn publish(&self, publishing: Publishing, time: Duration) -> anyhow::Result<Option<f64>> {
        if publishing.fsynced && !self.always {
            return Ok(None);
        }
        Ok(Some(self.flood("raw:publish", publishing, time).await? as f64 / time.as_secs_f64()))
    }

    async fn deliver(&self, batch: usize, time: Duration) -> anyhow::Result<Option<f64>> {
        let group = format!("bench-{}", self.groups.fetch_add(1, Relaxed));
        let mut connection = connection(&self.client).await?;
        let () = connection.xgroup_create_mkstream("raw:deliver", &group, "$").await?;
        self.flood("raw:deliver", Publishing { in_flight: FILLERS, batch: 1, fsynced: false }, time).await?;
        let options = StreamReadOptions::default().group(&group, "bench").count(batch);
        let (began, mut delivered) = (Instant::now(), 0);
        while began.elapsed() < time {
            let reply: Option<StreamReadReply> = connection.xread_options(&["raw:deliver"], &[">"], &options).await?;
            let Some(stream) = reply.and_then(|reply| reply.keys.into_iter().next()) else { break };
            let ids: Vec<&str> = stream.ids.iter().map(|entry| entry.id.as_str()).collect();
            delivered += ids.len();
            let _: u64 = connection.xack("raw:deliver", &group, &ids).await?;
        }
        Ok(Some(delivered as f64 / began.elapsed().as_secs_f64()))
    }

    async fn latency(&self, rate: u32, time: Duration) -> anyhow::Result<Option<Latency>> {
        let mut reader = connection(&self.client).await?;
        let zero = Instant::now();
        let count = u64::from(rate) * time.as_secs();
        let mut last: String = self.shared.clone().xadd("raw:latency", "*", &[("d", "0")]).await?;
        let options = StreamReadOptions::default().block(5_000).count(100);
        let reading = async {
            let mut all = Vec::new();
            while (all.len() as u64) < count {
                let reply: Option<StreamReadReply> =
                    reader.xread_options(&["raw:latency"], &[last.as_str()], &options).await?;
                let stream = reply.and_then(|reply| reply.keys.into_iter().next()).context("nothing came")?;
                for entry in stream.ids {
                    let sent: String = entry.get("d").context("an entry without data")?;
                    let sent = sent.trim_start_matches('x').parse().context("an entry of something else")?;
                    all.push(zero.elapsed().saturating_sub(Duration::from_nanos(sent)));
                    last = entry.id;
                }
            }
            anyhow::Ok(all)
        };
        let publishing = at_rate(rate, count, |_| {
            let mut connection = self.shared.clone();
            let data = format!("{:x>DATA$}", zero.elapsed().as_nanos());
            async move {
                let _: String = connection.xadd("raw:latency", "*", &[("d", data)]).await?;
                Ok(())
            }
        });
        let (all, ()) = tokio::try_join!(tokio::time::timeout(time * 5, reading).into_inner_result(), publishing)?;
        Ok(Some(Latency::of(all)?))
    }

    async fn catch_up(&self, events: usize) -> anyhow::Result<Option<f64>> {
        let stream = "raw:catch-up";
        let mut connection = connection(&self.client).await?;
        let data = "x".repeat(DATA);
        for _ in (0..events).step_by(FILLING.batch) {
            add(&mut connection, stream, &data, FILLING.batch).await?;
        }
        let options = StreamReadOptions::default().count(PAGE);
        let (began, mut read, mut last) = (Instant::now(), 0, "0".to_owned());
        while read < events {
            let reply: Option<StreamReadReply> =
                connection.xread_options(&[stream], &[last.as_str()], &options).await?;
            let page = reply.and_then(|reply| reply.keys.into_iter().next()).context("the stream ended early")?;
            read += page.ids.len();
            last = page.ids.last().map(|entry| entry.id.clone()).context("a page without entries")?;
        }
        let rate = read as f64 / began.elapsed().as_secs_f64();
        let _: u64 = connection.del(stream).await?;
        Ok(Some(rate))
    }
}
