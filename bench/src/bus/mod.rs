//! The bus, on both backends, beside the engines that they stand on and beside NATS JetStream, and an event's way into a
//! browser; in one run.
//!
//! Servers (append-only file, fsync every second; for what must be on disk another one that flushes always) have core 0;
//! the client, and with it the embedded bus, core 1. Rounds interleave the contestants, in turned order; the table shows
//! medians, and the median of each round's ratio.

mod bare;
mod browser;
mod contestant;
mod jetstream;
mod memory;
mod raw;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, ensure};

use self::{
    contestant::{Contestant, Publishing, Turnpike},
    jetstream::JetStream,
    raw::Raw,
};
use crate::{
    process::{Process, free_port, listening, own_cpu_micros},
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
    /// Only the loads whose name holds this (`memory` and `browser` are loads as well).
    #[arg(long, default_value = "")]
    only: String,
    /// Events that a reader catches up with.
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// The executable that browsers are served by.
    #[arg(long, default_value = "target/dist/turnpike")]
    turnpike: std::path::PathBuf,
}

/// What was measured of one load.
#[derive(Clone, Copy, Debug)]
enum Figure {
    PerSecond(f64, Option<Cpu>),
    Latency(Latency),
}

/// CPU time an event, in microseconds: of this process, and of the contestant's server.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    client: f64,
    server: f64,
}

/// Who takes part, and its server.
struct Entrant<'a> {
    contestant: Box<dyn Contestant>,
    server: Option<&'a Process>,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Publish(Publishing),
    Deliver { batch: usize },
    Latency { rate: u32 },
    CatchUp,
}

struct Load {
    name: &'static str,
    work: Work,
}

const fn publish(name: &'static str, in_flight: usize, batch: usize) -> Load {
    Load { name, work: Work::Publish(Publishing { in_flight, batch, fsynced: false }) }
}

const fn fsynced(name: &'static str, in_flight: usize, batch: usize) -> Load {
    Load { name, work: Work::Publish(Publishing { in_flight, batch, fsynced: true }) }
}

/// Against servers that write to disk once a second.
const LOADS: [Load; 7] = [
    publish("publish, 1 in flight", 1, 1),
    publish("publish, 100 in flight", 100, 1),
    publish("publish 10, 10 in flight", 10, 10),
    publish("publish 100, 4 in flight", 4, 100),
    Load { name: "deliver + ack, 256 a batch", work: Work::Deliver { batch: 256 } },
    Load { name: "publish → deliver, 1,000/s", work: Work::Latency { rate: 1_000 } },
    Load { name: "catch-up", work: Work::CatchUp },
];

/// Against servers that write to disk before they answer.
const ON_DISK: [Load; 3] = [
    fsynced("fsynced, 1 in flight", 1, 1),
    fsynced("fsynced, 64 in flight", 64, 1),
    fsynced("fsynced 100, 4 in flight", 4, 100),
];

pub fn main(run: &Run) -> anyhow::Result<()> {
    ensure!(run.rounds > 0 && run.seconds > 0, "at least one round of one second");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(contests(run))
}

async fn contests(run: &Run) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    println!("{} rounds of {} s; servers on core 0, the client on core 1\n", run.rounds, run.seconds);
    stored(run, folder.path()).await?;
    on_disk(run, folder.path()).await?;
    if "memory".contains(&run.only) {
        let (_one, raw) = redis(folder.path(), "memory-raw", "everysec")?;
        let (_other, server) = redis(folder.path(), "memory-bus", "everysec")?;
        memory::contest(folder.path(), &raw, &server).await?;
        println!();
    }
    if "browser".contains(&run.only) {
        // An empty one: a dashboard counts everything that a bus holds before it rests.
        let (_server, url) = redis(folder.path(), "system", "everysec")?;
        browser::contest(run, folder.path(), &url, Duration::from_secs(run.seconds)).await?;
    }
    Ok(())
}

async fn stored(run: &Run, folder: &Path) -> anyhow::Result<()> {
    let (raw_server, raw) = redis(folder, "raw", "everysec")?;
    let (server, url) = redis(folder, "log", "everysec")?;
    let folder = folder.join("stored");
    std::fs::create_dir(&folder)?;
    let (nats_server, nats) = jetstream::start(&folder)?;
    let entrant = |contestant, server| Entrant { contestant, server };
    let entrants = [
        entrant(Box::new(Raw::connect(&raw, false).await?) as Box<dyn Contestant>, Some(&raw_server)),
        entrant(Box::new(Turnpike::new("redis", bus::redis::open(&url).await?)), Some(&server)),
        entrant(Box::new(bare::Sqlite::open(&folder)?), None),
        entrant(Box::new(Turnpike::new("sqlite", bus::sqlite::open(&folder.join("bus.db")).await?)), None),
        entrant(Box::new(JetStream::connect(&nats).await?), Some(&nats_server)),
    ];
    table(run, &LOADS, &entrants).await
}

async fn on_disk(run: &Run, folder: &Path) -> anyhow::Result<()> {
    let (raw_server, raw) = redis(folder, "raw-always", "always")?;
    let (server, url) = redis(folder, "log-always", "always")?;
    let folder = folder.join("on-disk");
    std::fs::create_dir(&folder)?;
    let entrant = |contestant, server| Entrant { contestant, server };
    let entrants = [
        entrant(Box::new(Raw::connect(&raw, true).await?) as Box<dyn Contestant>, Some(&raw_server)),
        entrant(Box::new(Turnpike::new("redis", bus::redis::open(&url).await?)), Some(&server)),
        entrant(Box::new(bare::Sqlite::open(&folder)?), None),
        entrant(Box::new(Turnpike::new("sqlite", bus::sqlite::open(&folder.join("bus.db")).await?)), None),
    ];
    table(run, &ON_DISK, &entrants).await?;
    if ON_DISK.iter().any(|load| load.name.contains(&run.only)) {
        let rounds = (0..run.rounds).map(|_| bare::fdatasync(&folder, Duration::from_secs(run.seconds)));
        let rounds = rounds.collect::<anyhow::Result<Vec<_>>>()?;
        println!("a file, fdatasync after each event: {:.0}/s\n", median(rounds.into_iter()));
    }
    Ok(())
}

/// Each load, all contestants in turn.
async fn table(run: &Run, loads: &[Load], entrants: &[Entrant<'_>]) -> anyhow::Result<()> {
    let loads: Vec<&Load> = loads.iter().filter(|load| load.name.contains(&run.only)).collect();
    if loads.is_empty() {
        return Ok(());
    }
    print!("{:<28}", "load");
    entrants.iter().for_each(|entrant| print!(" {:>16}", entrant.contestant.name()));
    println!(" {:>11} {:>11} {:>12} {:>16}", "redis/raw", "sqlite/raw", "sqlite/bare", "redis/JetStream");
    for load in loads {
        let mut rounds: BTreeMap<&str, Vec<Figure>> = BTreeMap::new();
        // To fill a log takes longer than to read it.
        let count = if matches!(load.work, Work::CatchUp) { 1 } else { run.rounds };
        for round in 0..count {
            for turn in 0..entrants.len() {
                let entrant = &entrants[(round + turn) % entrants.len()];
                let name = entrant.contestant.name();
                let figure = measure(run, load.work, entrant).await;
                let figure = figure.with_context(|| format!("{} on {name}", load.name))?;
                rounds.entry(name).or_default().extend(figure);
            }
        }
        print_row(load.name, entrants, &rounds);
    }
    println!();
    Ok(())
}

async fn measure(run: &Run, work: Work, entrant: &Entrant<'_>) -> anyhow::Result<Option<Figure>> {
    let (contestant, time) = (&entrant.contestant, Duration::from_secs(run.seconds));
    let per_second = |figure| Figure::PerSecond(figure, None);
    Ok(match work {
        Work::Publish(publishing) => {
            let before = entrant.cpu_micros()?;
            let figure = contestant.publish(publishing, time).await?;
            let after = entrant.cpu_micros()?;
            figure.map(|figure| {
                let events = figure * time.as_secs_f64();
                let cpu = Cpu { client: (after.0 - before.0) / events, server: (after.1 - before.1) / events };
                Figure::PerSecond(figure, Some(cpu))
            })
        }
        Work::Deliver { batch } => contestant.deliver(batch, time).await?.map(per_second),
        Work::Latency { rate } => contestant.latency(rate, time).await?.map(Figure::Latency),
        Work::CatchUp => contestant.catch_up(run.events).await?.map(per_second),
    })
}

impl Entrant<'_> {
    /// CPU time so far: of this process, and of the server.
    fn cpu_micros(&self) -> anyhow::Result<(f64, f64)> {
        Ok((own_cpu_micros()?, self.server.map(Process::cpu_micros).transpose()?.unwrap_or(0.0)))
    }
}

fn print_row(load: &str, entrants: &[Entrant<'_>], rounds: &BTreeMap<&str, Vec<Figure>>) {
    let of = |name: &str| rounds.get(name).map(Vec::as_slice).unwrap_or_default();
    let text = |name: &str| match of(name).first() {
        None => String::new(),
        Some(Figure::PerSecond(..)) => format!("{:.0}/s", median(of(name).iter().map(Figure::value))),
        Some(Figure::Latency(_)) => {
            let of =
                |pick: fn(&Latency) -> f64| median(of(name).iter().filter_map(|figure| figure.latency().map(pick)));
            format!("{:.0} / {:.0} µs", of(|latency| latency.p50), of(|latency| latency.p99))
        }
    };
    let ratio = |own: &str, other: &str| match (of(own).is_empty(), of(other).is_empty()) {
        (false, false) => {
            let ratios = of(own).iter().zip(of(other)).map(|(own, other)| own.value() / other.value());
            format!("{:.2}", median(ratios))
        }
        _ => String::new(),
    };
    print!("{load:<28}");
    entrants.iter().for_each(|entrant| print!(" {:>16}", text(entrant.contestant.name())));
    println!(
        " {:>11} {:>11} {:>12} {:>16}",
        ratio("redis", "raw Redis"),
        ratio("sqlite", "raw Redis"),
        ratio("sqlite", "bare SQLite"),
        ratio("redis", "JetStream")
    );
    let cpu = |name: &str| {
        let each = |pick: fn(&Cpu) -> f64| median(of(name).iter().filter_map(Figure::cpu).map(pick));
        match of(name).iter().any(|figure| figure.cpu().is_some()) {
            true => format!("{:.1} + {:.1}", each(|cpu| cpu.client), each(|cpu| cpu.server)),
            false => String::new(),
        }
    };
    if rounds.values().flatten().any(|figure| figure.cpu().is_some()) {
        print!("{:<28}", "  CPU µs: client + server");
        entrants.iter().for_each(|entrant| print!(" {:>16}", cpu(entrant.contestant.name())));
        println!();
    }
}

impl Figure {
    /// What ratios are of: events a second, or the median latency.
    fn value(&self) -> f64 {
        match self {
            Self::PerSecond(figure, _) => *figure,
            Self::Latency(latency) => latency.p50,
        }
    }

    fn latency(&self) -> Option<&Latency> {
        match self {
            Self::PerSecond(..) => None,
            Self::Latency(latency) => Some(latency),
        }
    }

    fn cpu(&self) -> Option<&Cpu> {
        match self {
            Self::PerSecond(_, cpu) => cpu.as_ref(),
            Self::Latency(_) => None,
        }
    }
}

/// `flushes`: when it writes its file to disk.
/// A server with an append-only file. It isn't written anew meanwhile: in whose turn that falls is chance, and it takes the
/// core that all servers share.
pub fn redis(folder: &Path, name: &str, flushes: &str) -> anyhow::Result<(Process, String)> {
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
        flushes,
        "--auto-aof-rewrite-percentage",
        "0",
    ];
    let server = Process::start(0, Path::new("redis-server"), &arguments, &folder.join("redis.log"))?;
    listening(port, "redis-server")?;
    Ok((server, format!("redis://127.0.0.1:{port}")))
}
