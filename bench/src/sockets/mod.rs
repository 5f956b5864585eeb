//! Ten thousand WebSockets on one broker: what an idle one costs, how long one event takes until the last has it beside a bare
//! loop that writes the same bytes to as many sockets, and what becomes of them when their node dies and they all come back.
//!
//! Brokers, the bare loop and Redis have core 0, the clients core 1.

mod client;
mod server;

use std::{
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lifecycle::raise_open_files;
use principal::RootSecret;

use self::client::{Crowd, Door};
use crate::{
    bus::redis,
    process::{Process, free_port, listening},
    statistics::median,
};

pub use server::{Bare, Broker, bare, broker};

/// Where children find the secret that principals are signed by.
const SECRET: &str = "BENCH_ROOT_SECRET";
/// How long everybody may take to have what they wait for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Buffers that are given back by a timer are, by then.
const REST: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Run {
    /// Sockets.
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Events a contestant; the median over them is reported.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Bytes of an event's data.
    #[arg(long, default_value_t = 128)]
    data: usize,
}

pub fn main(run: &Run) -> anyhow::Result<()> {
    ensure!(run.sockets > 0 && run.rounds > 0, "at least one socket and one round");
    raise_open_files()?;
    let pinned = Command::new("taskset").args(["-cp", "1", &std::process::id().to_string()]).output()?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(contest(run))
}

async fn contest(run: &Run) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let secret = RootSecret::generate();
    let redis = redis(folder.path(), "sockets", "everysec")?;
    let first = Node::start(folder.path(), "first", &redis.1, &secret)?;
    let second = Node::start(folder.path(), "second", &redis.1, &secret)?;
    println!("{} sockets, {} bytes of data an event; servers on core 0, clients on core 1\n", run.sockets, run.data);

    let before = first.process.memory_kib()?;
    let began = Instant::now();
    let door = Arc::new(Door::new(vec![first.port, second.port], &secret));
    let crowd = Crowd::gather(run.sockets, door.clone(), PATIENCE).await?;
    let gathered = began.elapsed();
    tokio::time::sleep(REST).await;
    let idle = (first.process.memory_kib()? - before) / run.sockets as f64;

    let (mut last, mut cpu, mut frame) = (Vec::new(), Vec::new(), 0);
    for _ in 0..run.rounds {
        let (spent, began) = (first.process.cpu_micros()?, Instant::now());
        door.publish(first.port, run.data).await?;
        frame = crowd.all_told(PATIENCE).await?;
        last.push(began.elapsed().as_secs_f64() * 1e3);
        cpu.push((first.process.cpu_micros()? - spent) / run.sockets as f64);
    }
    tokio::time::sleep(REST).await;
    let told = (first.process.memory_kib()? - before) / run.sockets as f64;

    let storm = storm(run, &door, &crowd, first, &second).await?;
    // Both crowds at once would be more files than a process may have open.
    drop(crowd);
    let bare = bare_loop(run, folder.path(), frame).await?;
    let ratio = median(last.iter().copied()) / median(bare.iter().map(|(last, _)| *last));
    println!("{:<44} {:>12} {:>12}", "", "broker", "bare loop");
    println!("{:<44} {:>12.1}", "KiB an idle socket (goal: at most 20)", idle);
    println!("{:<44} {:>12.1}", "KiB a socket that was told events", told);
    println!("{:<44} {:>12.0}", "sockets opened a second", run.sockets as f64 / gathered.as_secs_f64());
    println!(
        "{:<44} {:>12.1} {:>12.1}   {ratio:.2} (goal: at most 2.0)",
        "ms until the last has an event",
        median(last.into_iter()),
        median(bare.iter().map(|(last, _)| *last)),
    );
    println!(
        "{:<44} {:>12.2} {:>12.2}",
        "CPU µs a socket and event",
        median(cpu.into_iter()),
        median(bare.iter().map(|(_, cpu)| *cpu)),
    );
    println!("\nthe node is killed, and all of them come to the other one");
    println!("{:<44} {:>12.1}", "s until the last has what came meanwhile", storm.back.as_secs_f64());
    println!("{:<44} {:>12}", "most refusals that one of them met (goal: 1)", storm.refused);
    Ok(())
}

/// What came of a node's death.
struct Storm {
    /// Until the last socket was told what came meanwhile.
    back: Duration,
    /// The most refusals in a row that one of them met.
    refused: u64,
}

/// The node of all sockets is killed; they come back to the other one, and read what came meanwhile.
async fn storm(run: &Run, door: &Door, crowd: &Crowd, first: Node, second: &Node) -> anyhow::Result<Storm> {
    let began = Instant::now();
    first.process.kill()?;
    door.publish(second.port, run.data).await?;
    crowd.all_told(PATIENCE).await?;
    let gaps = crowd.gaps.load(Relaxed);
    ensure!(gaps == 0, "{gaps} gaps were told, where nothing is missing");
    Ok(Storm { back: began.elapsed(), refused: crowd.most_refused.load(Relaxed) })
}

async fn bare_loop(run: &Run, folder: &Path, frame: usize) -> anyhow::Result<Vec<(f64, f64)>> {
    let port = free_port()?;
    let (port_text, bytes) = (port.to_string(), frame.to_string());
    let arguments = ["bare-sockets", "--port", &port_text, "--bytes", &bytes];
    let process = Process::start(0, &std::env::current_exe()?, &arguments, &folder.join("bare.log"))?;
    listening(port, "the bare loop")?;
    let crowd = Crowd::gather_bare(run.sockets, port, PATIENCE).await?;
    let mut all = Vec::new();
    for _ in 0..run.rounds {
        let (spent, began) = (process.cpu_micros()?, Instant::now());
        client::trigger(port).await?;
        crowd.all_told(PATIENCE).await?;
        let last = began.elapsed().as_secs_f64() * 1e3;
        all.push((last, (process.cpu_micros()? - spent) / run.sockets as f64));
    }
    Ok(all)
}

struct Node {
    process: Process,
    port: u16,
}

impl Node {
    fn start(folder: &Path, name: &str, redis: &str, secret: &RootSecret) -> anyhow::Result<Self> {
        let port = free_port()?;
        let text = port.to_string();
        let arguments = ["broker", "--port", &text, "--redis", redis];
        let program = std::env::current_exe()?;
        let log = folder.join(format!("{name}.log"));
        let process = Process::start_with(0, &program, &arguments, &log, &[(SECRET, &secret.encode())])?;
        listening(port, "the broker").with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self { process, port })
    }
}
