//! Who takes part, and Turnpike's bus as one of them.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::bail;
use async_trait::async_trait;
use bus::{Bus, Claim, Confirm, Group, Mode, PublishOptions, Settlement, Start, TailFrom, Tailed, Verb};
use events::{Envelope, Name};
use futures_util::future::try_join_all;

use super::DATA;
use crate::statistics::Latency;

/// How publishers publish.
#[derive(Clone, Copy, Debug)]
pub struct Publishing {
    /// Publishers that each wait for their answer before they go on.
    pub in_flight: usize,
    /// Events of a publish.
    pub batch: usize,
    /// Answered once it is on disk.
    pub fsynced: bool,
}

/// What a contestant can't do it says by None.
#[async_trait]
pub trait Contestant: Send + Sync {
    fn name(&self) -> &'static str;
    /// Events a second.
    async fn publish(&self, publishing: Publishing, time: Duration) -> anyhow::Result<Option<f64>>;
    /// Events a second, claimed and acknowledged in batches of so many.
    async fn deliver(&self, batch: usize, time: Duration) -> anyhow::Result<Option<f64>>;
    /// From just before a publish to its arrival at a reader, at so many a second.
    async fn latency(&self, rate: u32, time: Duration) -> anyhow::Result<Option<Latency>>;
    /// Events a second of a reader that begins with the oldest of so many.
    async fn catch_up(&self, events: usize) -> anyhow::Result<Option<f64>>;
}

/// How many publishers fill a log before it is delivered.
pub const FILLERS: usize = 100;
/// How a log is filled before somebody catches up with it.
pub const FILLING: Publishing = Publishing { in_flight: 4, batch: 250, fsynced: false };

pub struct Turnpike {
    name: &'static str,
    bus: Bus,
    groups: AtomicU64,
}

impl Turnpike {
    pub fn new(name: &'static str, bus: Bus) -> Self {
        Self { name, bus, groups: AtomicU64::new(0) }
    }

    async fn record(&self, queue: &Name, data: serde_json::Value) -> anyhow::Result<()> {
        self.publish_all(vec![event(queue, data)?], Confirm::Stored).await
    }

    async fn publish_all(&self, events: Vec<Envelope>, confirm: Confirm) -> anyhow::Result<()> {
        let options = PublishOptions { confirm, ..PublishOptions::default() };
        for outcome in self.bus.publish_with(events, options).await? {
            outcome?;
        }
        Ok(())
    }

    /// Publishes for some time; how many.
    async fn flood(&self, queue: &Name, publishing: Publishing, time: Duration) -> anyhow::Result<u64> {
        let (end, done) = (Instant::now() + time, AtomicU64::new(0));
        let confirm = if publishing.fsynced { Confirm::Fsynced } else { Confirm::Stored };
        let publishers = (0..publishing.in_flight).map(|_| async {
            while Instant::now() < end {
                let events = (0..publishing.batch).map(|_| event(queue, padding())).collect::<anyhow::Result<_>>()?;
                self.publish_all(events, confirm).await?;
                done.fetch_add(publishing.batch as u64, Relaxed);
            }
            anyhow::Ok(())
        });
        try_join_all(publishers).await?;
        Ok(done.into_inner())
    }
}

#[async_trait]
impl Contestant for Turnpike {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn publish(&self, publishing: Publishing, time: Duration) -> anyhow::Result<Option<f64>> {
        let published = self.flood(&Name::new("PUBLISH")?, publishing, time).await?;
        Ok(Some(published as f64 / time.as_secs_f64()))
    }

    async fn deliver(&self, batch: usize, time: Duration) -> anyhow::Result<Option<f64>> {
        let group = format!("bench-{}", self.groups.fetch_add(1, Relaxed));
        let mut declared = Group::new(&group, "DELIVER/*".parse()?, Mode::Parallel);
        declared.start = Start::Latest;
        let queue = Name::new("DELIVER")?;
        self.record(&queue, padding()).await?;
        self.bus.declare_group(declared).await?;
        self.flood(&queue, Publishing { in_flight: FILLERS, batch: 1, fsynced: false }, time).await?;
        let claim = Claim { group: group.clone(), member: "bench".to_owned(), max: batch, bytes: 4 << 20 };
        let (began, mut delivered) = (Instant::now(), 0);
        while began.elapsed() < time {
            let claimed = self.bus.claim(claim.clone()).await?;
            if claimed.leased.is_empty() {
                break;
            }
            delivered += claimed.leased.len();
            let acks =
                claimed.leased.iter().map(|leased| Settlement { token: leased.token, verb: Verb::Ack }).collect();
            for settled in self.bus.settle(&group, acks).await? {
                settled?;
            }
        }
        Ok(Some(delivered as f64 / began.elapsed().as_secs_f64()))
    }

    async fn latency(&self, rate: u32, time: Duration) -> anyhow::Result<Option<Latency>> {
        let queue = Name::new("LATENCY")?;
        self.record(&queue, padding()).await?;
        let mut tail = self.bus.tail("LATENCY/*".parse()?, TailFrom::Latest).await?;
        let zero = Instant::now();
        let count = u64::from(rate) * time.as_secs();
        let reading = async {
            let mut all = Vec::new();
            while (all.len() as u64) < count {
                if let Tailed::Event { envelope, .. } = tail.next().await?
                    && let Some(sent) = envelope.json().and_then(|data| data["sent"].as_u64())
                {
                    all.push(zero.elapsed().saturating_sub(Duration::from_nanos(sent)));
                }
            }
            anyhow::Ok(all)
        };
        let publishing = at_rate(rate, count, |_| {
            let sent = u64::try_from(zero.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.record(&queue, serde_json::json!({ "sent": sent, "padding": "x".repeat(DATA - 40) }))
        });
        let (all, ()) = tokio::try_join!(tokio::time::timeout(time * 5, reading).into_inner_result(), publishing)?;
        Ok(Some(Latency::of(all)?))
    }

    async fn catch_up(&self, events: usize) -> anyhow::Result<Option<f64>> {
        let queue = Name::new("CATCH-UP")?;
        let fillers = (0..FILLING.in_flight).map(|filler| {
            let queue = &queue;
            async move {
                for _ in (filler * FILLING.batch..events).step_by(FILLING.in_flight * FILLING.batch) {
                    let batch = (0..FILLING.batch).map(|_| event(queue, padding())).collect::<anyhow::Result<_>>()?;
                    self.publish_all(batch, Confirm::Stored).await?;
                }
                anyhow::Ok(())
            }
        });
        try_join_all(fillers).await?;
        let mut tail = self.bus.tail("CATCH-UP/*".parse()?, TailFrom::Earliest).await?;
        let (began, mut read) = (Instant::now(), 0_usize);
        loop {
            match tail.next().await? {
                Tailed::Event { .. } => read += 1,
                Tailed::Gap(gap) => bail!("a gap where nothing was lost: {gap:?}"),
                Tailed::CaughtUp => break,
            }
        }
        anyhow::ensure!(read >= events, "{read} of {events} events were read");
        Ok(Some(read as f64 / began.elapsed().as_secs_f64()))
    }
}

fn event(queue: &Name, data: serde_json::Value) -> anyhow::Result<Envelope> {
    Ok(Envelope::new("/services/bench", queue.clone(), Name::new("PING")?).data(data))
}

/// An open loop: what is slow doesn't slow down what comes after it.
pub async fn at_rate<F>(rate: u32, count: u64, publish: impl Fn(u64) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let began = tokio::time::Instant::now();
    let one = |number: u64| {
        let (publish, due) = (&publish, began + Duration::from_secs(1).mul_f64(number as f64 / f64::from(rate)));
        async move {
            tokio::time::sleep_until(due).await;
            publish(number).await
        }
    };
    try_join_all((0..count).map(one)).await?;
    Ok(())
}

pub fn padding() -> serde_json::Value {
    serde_json::json!({ "padding": "x".repeat(DATA - 14) })
}

/// A bound on a result, flattened.
pub trait IntoInnerResult<T> {
    fn into_inner_result(self) -> impl Future<Output = anyhow::Result<T>>;
}

impl<T, F: Future<Output = anyhow::Result<T>>> IntoInnerResult<T> for tokio::time::Timeout<F> {
    async fn into_inner_result(self) -> anyhow::Result<T> {
        self.await.map_err(|_| anyhow::anyhow!("not everything arrived in time"))?
    }
}
