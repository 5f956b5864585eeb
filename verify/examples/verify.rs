//! Runs cases for as long as it is told, and tells what came of them as a table; `verify/soak` is its shortest call.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "servers and children are a test's")]

#[path = "../tests/main/cases/mod.rs"]
mod cases;
#[path = "../tests/main/lab/mod.rs"]
mod lab;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use clap::Parser;
use verify::Report;

/// The bus's contract and faults, again and again. Ends with 1 where something was wrong.
#[derive(Parser)]
struct Arguments {
    /// `redis`, `sqlite`; both unless given.
    #[arg(long)]
    backend: Option<String>,
    /// Cases, by name or by what their names begin with: `C4,F5`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each.
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// Rounds begin until this time is over, whatever --repeat says: `3600s`.
    #[arg(long = "for", env = "TURNPIKE_SOAK", value_parser = seconds)]
    time: Option<Duration>,
    /// The first round's; each round has another, one higher.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How much is published: so many times as much as in an everyday run.
    #[arg(long, default_value_t = 1)]
    scale: u32,
    /// So many cases at once.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Where the table goes besides the standard output.
    #[arg(long)]
    report: Option<PathBuf>,
    /// A round of several: where its report goes. Each is a process of its own, so that what a process keeps of all cases
    /// (series of metrics, above all) is no more than a round's.
    #[arg(long, hide = true)]
    round: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    digits.parse().map(Duration::from_secs).map_err(|_| format!("{text:?} is no time such as 3600s"))
}

fn main() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if runtime().block_on(lab::act()) {
        return;
    }
    let arguments = Arguments::parse();
    let wanted = |backend: &&'static str| arguments.backend.as_deref().is_none_or(|only| only == *backend);
    let backends: Vec<&'static str> = ["redis", "sqlite"].into_iter().filter(wanted).collect();
    let chosen = |name: &str| {
        let is = |only: &String| name == only || name.starts_with(&format!("{only}-"));
        arguments.only.is_empty() || arguments.only.iter().any(is)
    };
    // A soak has the time; so has whoever names a case.
    let long = arguments.time.is_some() || !arguments.only.is_empty();
    let names: Vec<&'static str> = cases::names(long).into_iter().filter(|name| chosen(name)).collect();
    let end = arguments.time.map(|time| Instant::now() + time);
    let mut report = Report::default();
    for round in 0.. {
        let over = end.map_or(round >= arguments.repeat, |end| Instant::now() >= end);
        if over || (arguments.round.is_some() && round > 0) {
            break;
        }
        let seed = arguments.seed + round;
        if arguments.round.is_none() && (end.is_some() || arguments.repeat > 1) {
            report.join(apart(&arguments, seed, end));
            if let Some(path) = &arguments.report {
                fs::write(path, report.to_string()).unwrap();
            }
            continue;
        }
        // Those that run at once are different ones: metrics tell cases apart by their queues, not by what they run on.
        let jobs: Vec<_> =
            backends.iter().flat_map(|backend| names.iter().map(move |name| (*name, *backend))).collect();
        for jobs in jobs.chunks(arguments.at_once.max(1)) {
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            let scale = arguments.scale;
            let running: Vec<_> = jobs
                .iter()
                .map(|&(name, backend)| {
                    std::thread::spawn(move || runtime().block_on(cases::run(name, backend, seed, scale)))
                })
                .collect();
            for (thread, (name, backend)) in running.into_iter().zip(jobs) {
                match thread.join() {
                    Ok(None) => {}
                    Ok(Some(ran)) => {
                        if !ran.is_good() {
                            println!("{name} on {backend}, seed {seed}: see {}", cases::keep(&ran).display());
                        }
                        report.add(&ran);
                    }
                    // Its message is on the standard error.
                    Err(_) => report.faults.push(format!("{name} on {backend}, seed {seed}: it panicked")),
                }
            }
        }
    }
    if let Some(path) = &arguments.round {
        fs::write(path, serde_json::to_vec(&report).unwrap()).unwrap();
        return;
    }
    if let Some(path) = &arguments.report {
        fs::write(path, report.to_string()).unwrap();
    }
    println!("{report}");
    std::process::exit(i32::from(!report.is_good()));
}

/// One round, as a process of its own.
fn apart(arguments: &Arguments, seed: u64, end: Option<Instant>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("round.json");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_remove("TURNPIKE_SOAK").arg("--round").arg(&path).args(["--seed", &seed.to_string()]);
    command.args(["--scale", &arguments.scale.to_string(), "--at-once", &arguments.at_once.to_string()]);
    command.args(arguments.backend.iter().flat_map(|backend| ["--backend", backend]));
    if !arguments.only.is_empty() {
        command.args(["--only", &arguments.only.join(",")]);
    }
    if let Some(end) = end {
        let left = end.saturating_duration_since(Instant::now()).as_secs().max(1);
        command.args(["--for", &format!("{left}s")]);
    }
    let status = command.status().unwrap();
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).unwrap(),
        Err(_) => Report { rows: Vec::new(), faults: vec![format!("the round with seed {seed} ended with {status}")] },
    }
}
