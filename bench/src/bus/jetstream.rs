//! NATS JetStream with a stream in files, as its own client uses it. The server writes to disk what the system writes: it
//! can't confirm that an event is there.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::{Config, StorageType},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, future::try_join_all};

use super::{
    DATA,
    contestant::{Contestant, FILLERS, FILLING, IntoInnerResult as _, Publishing, at_rate},
};
use crate::{
    process::{Process, free_port, listening},
    statistics::Latency,
};

/// Messages of a page, when a reader catches up.
const PAGE: usize = 256;

/// Starts a server on core 0; its URL.
pub fn start(folder: &Path) -> anyhow::Result<(Process, String)> {
    let port = free_port()?;
    let store = folder.join("jetstream");
    std::fs::create_dir(&store)?;
    let (port_text, store) = (port.to_string(), store.display().to_string());
    let arguments = ["--addr", "127.0.0.1", "--port", &port_text, "--jetstream", "--store_dir", &store];
    let server = Process::start(0, Path::new("nats-server"), &arguments, &folder.join("nats.log"))?;
    listening(port, "nats-server")?;
    Ok((server, format!("nats://127.0.0.1:{port}")))
}

pub struct JetStream {
    context: jetstream::Context,
    groups: AtomicU64,
}

impl JetStream {
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let context = jetstream::new(async_nats::connect(url).await?);
        for name in ["publish", "deliver", "latency"] {
            stream(&context, name).await?;
        }
        Ok(Self { context, groups: AtomicU64::new(0) })
    }

    /// Stores so many messages, of a subject each.
    pub async fn fill(&self, keys: usize) -> anyhow::Result<()> {
        let subjects = vec!["keys.>".to_owned()];
        let config = Config { name: "keys".to_owned(), subjects, storage: StorageType::File, ..Config::default() };
        self.context.create_stream(config).await?;
        let data = Bytes::from("x".repeat(DATA));
        for first in (0..keys).step_by(FILLING.batch) {
            let mut acks = Vec::new();
            for key in first..(first + FILLING.batch).min(keys) {
                acks.push(self.context.publish(format!("keys.{key}"), data.clone()).await?);
            }
            for ack in acks {
                ack.await?;
            }
        }
        Ok(())
    }

    /// Makes so many durable consumers, which have fetched two messages and acknowledged one.
    pub async fn declare(&self, groups: usize) -> anyhow::Result<()> {
        let stream = self.context.get_stream("keys").await?;
        for group in 0..groups {
            let config = pull::Config {
                durable_name: Some(format!("group-{group}")),
                ack_policy: AckPolicy::Explicit,
                ..pull::Config::default()
            };
            let consumer = stream.create_consumer(config).await?;
            let mut messages = consumer.fetch().max_messages(2).messages().await?;
            let first = messages.next().await.context("nothing to fetch")?.map_err(|error| anyhow!("{error}"))?;
            first.ack().await.map_err(|error| anyhow!("{error}"))?;
        }
        Ok(())
    }

    async fn flood(&self, subject: &'static str, publishing: Publishing, time: Duration) -> anyhow::Result<u64> {
        let (end, done, data) = (Instant::now() + time, AtomicU64::new(0), Bytes::from("x".repeat(DATA)));
        let publishers = (0..publishing.in_flight).map(|_| async {
            while Instant::now() < end {
                let mut acks = Vec::with_capacity(publishing.batch);
                for _ in 0..publishing.batch {
                    acks.push(self.context.publish(subject, data.clone()).await?);
                }
                for ack in acks {
                    ack.await?;
                }
                done.fetch_add(publishing.batch as u64, Relaxed);
            }
            anyhow::Ok(())
        });
        try_join_all(publishers).await?;
        Ok(done.into_inner())
    }
}

async fn stream(context: &jetstream::Context, name: &str) -> anyhow::Result<jetstream::stream::Stream> {
    let config = Config {
        name: name.to_owned(),
        subjects: vec![name.to_owned()],
        storage: StorageType::File,
        ..Config::default()
    };
    Ok(context.create_stream(config).await?)
}

#[async_trait]
impl Contestant for JetStream {
    fn name(&self) -> &'static str {
        "JetStream"
    }

    async fn publish(&self, publishing: Publishing, time: Duration) -> anyhow::Result<Option<f64>> {
        if publishing.fsynced {
            return Ok(None);
        }
        Ok(Some(self.flood("publish", publishing, time).await? as f64 / time.as_secs_f64()))
    }

    async fn deliver(&self, batch: usize, time: Duration) -> anyhow::Result<Option<f64>> {
        let group = format!("bench-{}", self.groups.fetch_add(1, Relaxed));
        let stream = self.context.get_stream("deliver").await?;
        let config = pull::Config {
            durable_name: Some(group),
            ack_policy: AckPolicy::Explicit,
            deliver_policy: DeliverPolicy::New,
            max_ack_pending: -1,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let filled = self.flood("deliver", Publishing { in_flight: FILLERS, batch: 1, fsynced: false }, time).await?;
        let (began, mut delivered) = (Instant::now(), 0_u64);
        while began.elapsed() < time && delivered < filled {
            let mut messages = consumer.fetch().max_messages(batch).messages().await?;
            let before = delivered;
            while let Some(message) = messages.next().await {
                message.map_err(|error| anyhow!("{error}"))?.ack().await.map_err(|error| anyhow!("{error}"))?;
                delivered += 1;
            }
            if delivered == before {
                break;
            }
        }
        Ok(Some(delivered as f64 / began.elapsed().as_secs_f64()))
    }

    async fn latency(&self, rate: u32, time: Duration) -> anyhow::Result<Option<Latency>> {
        let stream = self.context.get_stream("latency").await?;
        let config = pull::OrderedConfig { deliver_policy: DeliverPolicy::New, ..pull::OrderedConfig::default() };
        let mut messages = stream.create_consumer(config).await?.messages().await?;
        let zero = Instant::now();
        let count = u64::from(rate) * time.as_secs();
        let reading = async {
            let mut all = Vec::new();
            while (all.len() as u64) < count {
                let message = messages.next().await.context("the reader ended")??;
                let sent = std::str::from_utf8(&message.payload)?.trim_start_matches('x').parse()?;
                all.push(zero.elapsed().saturating_sub(Duration::from_nanos(sent)));
            }
            anyhow::Ok(all)
        };
        let publishing = at_rate(rate, count, |_| {
            let data = format!("{:x>DATA$}", zero.elapsed().as_nanos());
            async move {
                self.context.publish("latency", data.into()).await?.await?;
                Ok(())
            }
        });
        let (all, ()) = tokio::try_join!(tokio::time::timeout(time * 5, reading).into_inner_result(), publishing)?;
        Ok(Some(Latency::of(all)?))
    }

    async fn catch_up(&self, events: usize) -> anyhow::Result<Option<f64>> {
        let stream = stream(&self.context, "catch-up").await?;
        let data = Bytes::from("x".repeat(DATA));
        for first in (0..events).step_by(FILLING.batch) {
            let mut acks = Vec::new();
            for _ in first..(first + FILLING.batch).min(events) {
                acks.push(self.context.publish("catch-up", data.clone()).await?);
            }
            for ack in acks {
                ack.await?;
            }
        }
        let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await?;
        let mut messages = consumer.stream().max_messages_per_batch(PAGE * 4).messages().await?;
        let (began, mut read) = (Instant::now(), 0);
        while read < events {
            messages.next().await.context("the stream ended early")??;
            read += 1;
        }
        let rate = read as f64 / began.elapsed().as_secs_f64();
        ensure!(self.context.delete_stream("catch-up").await?.success, "the stream stays");
        Ok(Some(rate))
    }
}
