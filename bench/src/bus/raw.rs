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
    contestant::{Contestant, FILLERS, IntoInnerResult as _, at_rate},
};
use crate::statistics::Latency;

pub struct Raw {
    client: Client,
    shared: MultiplexedConnection,
    groups: AtomicU64,
}

impl Raw {
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let info = url.into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        let shared = connection(&client).await?;
        Ok(Self { client, shared, groups: AtomicU64::new(0) })
    }

    async fn flood(&self, stream: &str, in_flight: usize, time: Duration) -> anyhow::Result<u64> {
        let (end, done, data) = (Instant::now() + time, AtomicU64::new(0), "x".repeat(DATA));
        let publishers = (0..in_flight).map(|_| async {
            let mut connection = self.shared.clone();
            while Instant::now() < end {
                let _: String = connection.xadd(stream, "*", &[("d", &data)]).await?;
                done.fetch_add(1, Relaxed);
            }
            anyhow::Ok(())
        });
        try_join_all(publishers).await?;
        Ok(done.into_inner())
    }
}

/// One that waits as long as it takes.
async fn connection(client: &Client) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    async fn publish(&self, in_flight: usize, time: Duration) -> anyhow::Result<f64> {
        Ok(self.flood("raw:publish", in_flight, time).await? as f64 / time.as_secs_f64())
    }

    async fn deliver(&self, batch: usize, time: Duration) -> anyhow::Result<f64> {
        let group = format!("bench-{}", self.groups.fetch_add(1, Relaxed));
        let mut connection = connection(&self.client).await?;
        let () = connection.xgroup_create_mkstream("raw:deliver", &group, "$").await?;
        self.flood("raw:deliver", FILLERS, time).await?;
        let options = StreamReadOptions::default().group(&group, "bench").count(batch);
        let (began, mut delivered) = (Instant::now(), 0);
        while began.elapsed() < time {
            let reply: Option<StreamReadReply> = connection.xread_options(&["raw:deliver"], &[">"], &options).await?;
            let Some(stream) = reply.and_then(|reply| reply.keys.into_iter().next()) else { break };
            let ids: Vec<&str> = stream.ids.iter().map(|entry| entry.id.as_str()).collect();
            delivered += ids.len();
            let _: u64 = connection.xack("raw:deliver", &group, &ids).await?;
        }
        Ok(delivered as f64 / began.elapsed().as_secs_f64())
    }

    async fn latency(&self, rate: u32, time: Duration) -> anyhow::Result<Latency> {
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
        Latency::of(all)
    }
}
