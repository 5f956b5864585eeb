//! The bus, on both backends, beside raw Redis doing the same, and an event's way into a browser; in one run.
//!
//! redis-server (append-only file, fsync every second) has core 0; the client, and with it the embedded bus, core 1.
//! Rounds interleave the contestants, in turned order; the table shows medians, and the median of each round's ratio to raw
//! Redis.

mod browser;
mod contestant;
mod raw;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, ensure};

use self::{
    contestant::{Contestant, Turnpike},
    raw::Raw,
};
use crate::{
    process::{Process, free_port, listening},
    statistics::{Latency, median},
};

/// Bytes of an event's data.
pub const DATA: usize = 512;

#[derive(clap::Args)]
pub struct Run {
    /// Rounds; the median over them is reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds a contestant, load and round.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// The executable that browsers are served by.
    #[arg(long, default_value = "target/dist/turnpike")]
    turnpike: std::path::PathBuf,
}

/// What was measured of one load.
#[derive(Clone, Copy, Debug)]
enum Figure {
    PerSecond(f64),
    Latency(Latency),
}

const LOADS: [&str; 4] =
    ["publish, 1 in flight", "publish, 100 in flight", "deliver + ack, 256 a batch", "publish → deliver, 1,000/s"];

pub fn main(run: &Run) -> anyhow::Result<()> {
    ensure!(run.rounds > 0 && run.seconds > 0, "at least one round of one second");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(contest(run))
}

async fn contest(run: &Run) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, url) = redis(folder.path(), "log")?;
    let contestants: [Box<dyn Contestant>; 3] = [
        Box::new(Raw::connect(&url).await?),
        Box::new(Turnpike::new("redis", bus::redis::open(&url).await?)),
        Box::new(Turnpike::new("sqlite", bus::sqlite::open(&folder.path().join("bus.db")).await?)),
    ];
    let time = Duration::from_secs(run.seconds);
    println!(
        "{} rounds of {} s; redis-server (AOF everysec) on core 0, the client on core 1\n",
        run.rounds, run.seconds
    );
    println!(
        "{:<28} {:>16} {:>16} {:>16} {:>11} {:>12}",
        "load", "raw Redis", "redis", "sqlite", "redis/raw", "sqlite/raw"
    );
    for load in LOADS {
        let mut rounds: BTreeMap<&str, Vec<Figure>> = BTreeMap::new();
        for round in 0..run.rounds {
            for turn in 0..contestants.len() {
                let contestant = &contestants[(round + turn) % contestants.len()];
                let figure = measure(load, contestant.as_ref(), time).await;
                let figure = figure.with_context(|| format!("{load} on {}", contestant.name()))?;
                rounds.entry(contestant.name()).or_default().push(figure);
            }
        }
        print_row(load, &rounds);
    }
    drop(contestants);
    drop(server);
    println!();
    // An empty one: a dashboard counts everything that a bus holds before it rests.
    let (_server, url) = redis(folder.path(), "system")?;
    browser::contest(run, folder.path(), &url, time).await
}

async fn measure(load: &str, contestant: &dyn Contestant, time: Duration) -> anyhow::Result<Figure> {
    Ok(match load {
        "publish, 1 in flight" => Figure::PerSecond(contestant.publish(1, time).await?),
        "publish, 100 in flight" => Figure::PerSecond(contestant.publish(100, time).await?),
        "deliver + ack, 256 a batch" => Figure::PerSecond(contestant.deliver(256, time).await?),
        _ => Figure::Latency(contestant.latency(1_000, time).await?),
    })
}

fn print_row(load: &str, rounds: &BTreeMap<&str, Vec<Figure>>) {
    let text = |name: &str| match rounds[name].first() {
        Some(Figure::PerSecond(_)) => format!("{:.0}/s", median(rounds[name].iter().map(Figure::value))),
        _ => {
            let of =
                |pick: fn(&Latency) -> f64| median(rounds[name].iter().filter_map(|figure| figure.latency().map(pick)));
            format!("{:.0} / {:.0} µs", of(|latency| latency.p50), of(|latency| latency.p99))
        }
    };
    let ratio =
        |name: &str| median(rounds[name].iter().zip(&rounds["raw"]).map(|(own, raw)| own.value() / raw.value()));
    println!(
        "{load:<28} {:>16} {:>16} {:>16} {:>11.2} {:>12.2}",
        text("raw"),
        text("redis"),
        text("sqlite"),
        ratio("redis"),
        ratio("sqlite")
    );
}

impl Figure {
    /// What ratios are of: events a second, or the median latency.
    fn value(&self) -> f64 {
        match self {
            Self::PerSecond(figure) => *figure,
            Self::Latency(latency) => latency.p50,
        }
    }

    fn latency(&self) -> Option<&Latency> {
        match self {
            Self::PerSecond(_) => None,
            Self::Latency(latency) => Some(latency),
        }
    }
}

fn redis(folder: &Path, name: &str) -> anyhow::Result<(Process, String)> {
    let port = free_port()?;
    let folder = folder.join(format!("redis-{name}"));
    std::fs::create_dir(&folder)?;
    let (port_text, dir) = (port.to_string(), folder.display().to_string());
    let arguments = [
        "--port",
        &port_text,
        "--bind",
        "127.0.0.1",
        "--dir",
        &dir,
        "--appendonly",
        "yes",
        "--save",
        "",
        "--appendfsync",
        "everysec",
    ];
    let server = Process::start(0, Path::new("redis-server"), &arguments, &folder.join("redis.log"))?;
    listening(port, "redis-server")?;
    Ok((server, format!("redis://127.0.0.1:{port}")))
}
