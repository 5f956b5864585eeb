//! What it costs that users are online: Redis's time, commands and memory while nobody comes or goes, and how long it takes to
//! come, to join a room that everybody is in, and to look who is there; on Redis beside the embedded bus.
//!
//! Redis has core 0; the one node, and with it the embedded bus, core 1.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bus::{
    Attendance, Attending, Bus, Room,
    presence::{Told, presence},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lifecycle::Shutdown;
use redis::aio::MultiplexedConnection;

use crate::{
    bus::redis as redis_server,
    process::{Process, own_cpu_micros},
    statistics::median,
};

/// Users that are asked about at once.
const ASKED: usize = 256;
/// Looks at the same; the median is reported.
const LOOKS: usize = 20;
/// How long everybody may take to be there.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub struct Run {
    /// Users, with a connection each.
    #[arg(long, default_value_t = 10_000)]
    users: usize,
    /// Seconds in which nobody comes or goes; all is told again every ten.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// A server, where there is one.
struct Server {
    process: Process,
    asking: MultiplexedConnection,
}

/// What a second of presence costs.
struct Second {
    /// CPU time, in milliseconds: of the server, of the node.
    server: f64,
    node: f64,
    scripts: f64,
    /// What those do, and every other command.
    commands: f64,
}

pub fn main(run: &Run) -> anyhow::Result<()> {
    ensure!(run.users >= ASKED && run.seconds > 0, "at least {ASKED} users and a second");
    let pinned = Command::new("taskset").args(["-cp", "1", &std::process::id().to_string()]).output()?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let (process, url) = redis_server(folder.path(), "presence", "everysec")?;
        let asking = ::redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
        println!("{} users, a connection each; nobody comes or goes for {} s\n", run.users, run.seconds);
        measure(run, "on Redis", bus::redis::open(&url).await?, Some(Server { process, asking })).await?;
        measure(run, "embedded", bus::sqlite::open(&folder.path().join("bus.db")).await?, None).await
    })
}

async fn measure(run: &Run, name: &str, bus: Bus, mut server: Option<Server>) -> anyhow::Result<()> {
    let (attendance, shutdown) = (Attendance::new(bus.clone()), Shutdown::new());
    tokio::spawn(attendance.clone().run(shutdown.draining().clone()));
    let users: Vec<String> = (0..run.users).map(|number| format!("customers/{number:08}")).collect();
    let connection = |user: &str| format!("c_{}", user.replace('/', "_"));
    println!("{name}");

    let began = Instant::now();
    let here: Vec<Attending> = users.iter().map(|user| attendance.come(user, &connection(user))).collect();
    until_there(&bus, run.users).await?;
    line("s until all are online", began.elapsed().as_secs_f64());
    if let Some(server) = &mut server {
        line("bytes of Redis a user, besides the log", state(&mut server.asking).await? / run.users as f64);
    }
    let steady = second(run, &mut server).await?;
    line("ms of the node a second", steady.node);
    if server.is_some() {
        line("ms of Redis a second", steady.server);
        line("scripts a second", steady.scripts);
        line("commands a second, those of scripts included", steady.commands);
    }
    line("ms to see 256 who are online", look(&bus, &users[..ASKED]).await?);
    let away: Vec<String> = (0..ASKED).map(|number| format!("nobody/{number}")).collect();
    line("ms to see 256 who never were", look(&bus, &away).await?);

    let room: Room = "bench/hall".parse()?;
    let began = Instant::now();
    let joining = stream::iter(&users).map(|user| {
        let (attendance, room) = (&attendance, &room);
        let connection = connection(user);
        async move { attendance.join(&connection, room).await }
    });
    joining.buffer_unordered(ASKED).try_collect::<()>().await?;
    line("s until all are in one room", began.elapsed().as_secs_f64());
    let mut first = Vec::new();
    for _ in 0..LOOKS {
        let began = Instant::now();
        bus.members(&room, None, ASKED).await?;
        first.push(began.elapsed().as_secs_f64() * 1e3);
    }
    line("ms to see the first 256 in it", median(first.into_iter()));
    let (began, mut after) = (Instant::now(), None);
    loop {
        after = bus.members(&room, after.as_deref(), 1000).await?.next;
        if after.is_none() {
            break;
        }
    }
    line("ms to see all in it, 1,000 a page", began.elapsed().as_secs_f64() * 1e3);
    drop(here);
    shutdown.begin(Duration::ZERO);
    println!();
    Ok(())
}

fn line(what: &str, figure: f64) {
    println!("  {what:<46} {figure:>12.2}");
}

async fn until_there(bus: &Bus, users: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let asking = Told { node: "bench".to_owned(), steps: Vec::new() };
        if bus.attend(&presence(), 0, asking).await?.there >= users as u64 {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "not all came in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A second's cost while nobody comes or goes.
async fn second(run: &Run, server: &mut Option<Server>) -> anyhow::Result<Second> {
    let cpu = |server: &Option<Server>| server.as_ref().map_or(Ok(0.0), |server| server.process.cpu_micros());
    if let Some(server) = server {
        let () = ::redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut server.asking).await?;
    }
    let (had, own) = (cpu(server)?, own_cpu_micros()?);
    tokio::time::sleep(Duration::from_secs(run.seconds)).await;
    let seconds = run.seconds as f64;
    let (server_time, node) = ((cpu(server)? - had) / 1e3 / seconds, (own_cpu_micros()? - own) / 1e3 / seconds);
    let (mut scripts, mut commands) = (0.0, 0.0);
    if let Some(server) = server {
        let info: String = ::redis::cmd("INFO").arg("commandstats").query_async(&mut server.asking).await?;
        for (name, calls) in info.lines().filter_map(calls) {
            commands += calls;
            scripts += if name == "evalsha" { calls } else { 0.0 };
        }
    }
    Ok(Second { server: server_time, node, scripts: scripts / seconds, commands: commands / seconds })
}

/// A line of `INFO commandstats`: a command, and how often it was called.
fn calls(line: &str) -> Option<(&str, f64)> {
    let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    Some((name, figures.split(',').next()?.parse().ok()?))
}

/// Bytes of what is known of who is there.
async fn state(server: &mut MultiplexedConnection) -> anyhow::Result<f64> {
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*}:a:*").query_async(server).await?;
    ensure!(!keys.is_empty(), "nobody is there");
    let mut bytes = 0.0;
    for key in keys {
        let usage = ::redis::cmd("MEMORY").arg("USAGE").arg(&key).arg("SAMPLES").arg(0).query_async(server).await;
        let usage: Option<f64> = usage.with_context(|| format!("MEMORY USAGE {key}"))?;
        bytes += usage.unwrap_or_default();
    }
    Ok(bytes)
}

/// Milliseconds until it is known whether users are online.
async fn look(bus: &Bus, users: &[String]) -> anyhow::Result<f64> {
    let mut all = Vec::new();
    for _ in 0..LOOKS {
        let began = Instant::now();
        bus.online(users).await?;
        all.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(all.into_iter()))
}
