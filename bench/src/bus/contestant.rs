//! Who takes part, and Turnpike's bus as one of them.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bus::{Bus, Claim, Group, Mode, Settlement, Start, TailFrom, Tailed, Verb};
use events::{Envelope, Name};
use futures_util::future::try_join_all;

use super::DATA;
use crate::statistics::Latency;

#[async_trait]
pub trait Contestant: Send + Sync {
    fn name(&self) -> &'static str;
    /// Events a second, of so many publishers that each have one in flight.
    async fn publish(&self, in_flight: usize, time: Duration) -> anyhow::Result<f64>;
    /// Events a second, claimed and acknowledged in batches of so many.
    async fn deliver(&self, batch: usize, time: Duration) -> anyhow::Result<f64>;
    /// From just before a publish to its arrival at a reader, at so many a second.
    async fn latency(&self, rate: u32, time: Duration) -> anyhow::Result<Latency>;
}

/// How many publishers fill a log before it is delivered.
pub const FILLERS: usize = 100;

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
        let event = Envelope::new("/services/bench", queue.clone(), Name::new("PING")?).data(data);
        for outcome in self.bus.publish(vec![event]).await? {
            outcome?;
        }
        Ok(())
    }

    async fn flood(&self, queue: &Name, in_flight: usize, time: Duration) -> anyhow::Result<u64> {
        let (end, done) = (Instant::now() + time, AtomicU64::new(0));
        let publishers = (0..in_flight).map(|_| async {
            while Instant::now() < end {
                self.record(queue, padding()).await?;
                done.fetch_add(1, Relaxed);
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

    async fn publish(&self, in_flight: usize, time: Duration) -> anyhow::Result<f64> {
        let published = self.flood(&Name::new("PUBLISH")?, in_flight, time).await?;
        Ok(published as f64 / time.as_secs_f64())
    }

    async fn deliver(&self, batch: usize, time: Duration) -> anyhow::Result<f64> {
        let group = format!("bench-{}", self.groups.fetch_add(1, Relaxed));
        let mut declared = Group::new(&group, "DELIVER/*".parse()?, Mode::Parallel);
        declared.start = Start::Latest;
        self.record(&Name::new("DELIVER")?, padding()).await?;
        self.bus.declare_group(declared).await?;
        self.flood(&Name::new("DELIVER")?, FILLERS, time).await?;
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
        Ok(delivered as f64 / began.elapsed().as_secs_f64())
    }

    async fn latency(&self, rate: u32, time: Duration) -> anyhow::Result<Latency> {
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
        Latency::of(all)
    }
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
