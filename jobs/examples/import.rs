//! Jobs on a bus and a database in a folder: `cargo run -p jobs --example import`.
//!
//! Creates an import of four tasks, has a worker do them, and prints what became of it. `docs/jobs.md` walks through it.

use std::time::Duration;

use database::Url;
use jobs::{Failure, Job, Jobs, Kind, Missed, NewJob, Options, Priority, Retry, Schedule, State, Worker};
use lifecycle::Shutdown;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Source {
    url: String,
}

// A kind says what a task takes and gives, and how it is tried. Both sides use it: what doesn't fit doesn't compile.
const FETCH: Kind<Source, Vec<String>> = Kind::new("fetch").timeout(Duration::from_secs(30)).retry(Retry::doubling(
    5,
    Duration::from_secs(1),
    Duration::from_secs(60),
));
const COUNT: Kind<(), usize> = Kind::new("count").concurrency(2);
const REPORT: Kind<(), String> = Kind::new("report");

async fn fetch(job: Job<Source>) -> Result<Vec<String>, Failure> {
    if !job.input.url.starts_with("https://") {
        return Err(Failure::fatal("only https")); // trying again wouldn't help
    }
    let mut lines = Vec::new();
    for page in 1..=3 {
        if job.ending().is_cancelled() {
            return Err(Failure::GivenBack); // stopped: begun anew when it is resumed
        }
        lines.push(format!("{} page {page}", job.input.url));
        job.progress(f64::from(page) / 3.0, &format!("page {page} of 3"));
    }
    Ok(lines)
}

async fn count(job: Job<()>) -> Result<usize, Failure> {
    let lines = job.result(&FETCH, "fetch")?;
    Ok(match job.task.as_str() {
        "words" => lines.iter().map(|line| line.split(' ').count()).sum(),
        _ => lines.len(),
    })
}

async fn report(job: Job<()>) -> Result<String, Failure> {
    Ok(format!("{} words in {} lines", job.result(&COUNT, "words")?, job.result(&COUNT, "lines")?))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("turnpike-jobs-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let bus = bus::sqlite::open(&folder.join("bus.db")).await?;
    let jobs = Jobs::open(bus, &Url::sqlite(folder.join("jobs.db")), Options::default()).await?;

    let worker = Worker::new(&jobs).register(FETCH, fetch).register(COUNT, count).register(REPORT, report);
    let shutdown = Shutdown::new();
    let working = tokio::spawn(worker.run(shutdown.clone()));

    let import = NewJob::new("import")
        .task("fetch", FETCH.task(&Source { url: "https://example.com".to_owned() }))
        .task("words", COUNT.task(&()).after(["fetch"]))
        .task("lines", COUNT.task(&()).after(["fetch"]))
        .task("report", REPORT.task(&()).after(["words", "lines"]))
        .priority(Priority::High)
        .unique("example.com");
    let id = jobs.create(import).await?.id;

    // A job of one task, every night at 03:30 UTC; after a night off, once.
    let nightly = Source { url: "https://example.com/nightly".to_owned() };
    jobs.schedule(&Schedule::new("nightly fetch", "30 3 * * *", FETCH, &nightly).missed(Missed::Once)).await?;

    let done = loop {
        let detail = jobs.get(id).await?;
        if detail.job.state.is_final() {
            break detail;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    anyhow::ensure!(done.job.state == State::Completed, "{done:?}");
    println!("{id}: {}", done.result(&REPORT, "report")?.unwrap_or_default());

    shutdown.begin(Duration::from_secs(10));
    working.await??;
    jobs.close().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
