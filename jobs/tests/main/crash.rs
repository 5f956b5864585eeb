//! A worker is killed in each window of an attempt; the child is this test binary, run for one ignored test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bus::Bus;
use database::Url;
use jobs::{ABORT_POINTS, Failure, Job, Jobs, Kind, Options, State, Worker};

use crate::{Running, Site, comes_to};

const DATABASE: &str = "TEST_DATABASE";
const BUS: &str = "TEST_BUS";
const EFFECTS: &str = "TEST_EFFECTS";

/// Writes a line into the file it is given.
const WRITE: Kind<PathBuf, u32> = Kind::new("write");

async fn write(job: Job<PathBuf>) -> Result<u32, Failure> {
    let before = fs::read_to_string(&job.input).unwrap_or_default();
    fs::write(&job.input, format!("{before}attempt {}\n", job.attempt))?;
    Ok(job.attempt)
}

async fn open(bus: &str, database: &str) -> (Bus, Jobs) {
    let bus = match bus.starts_with("redis://") {
        true => bus::redis::open(bus).await.unwrap(),
        false => bus::sqlite::open(Path::new(bus)).await.unwrap(),
    };
    let jobs = Jobs::open(bus.clone(), &Url(database.to_owned()), Options::default()).await.unwrap();
    (bus, jobs)
}

/// Killed before its start, or before anybody remembered that it was published, a task is done once; killed mid-way or after
/// its effect, it is begun again and charged; killed after its end was stored, it isn't.
#[tokio::test]
async fn a_worker_killed_in_any_window_leaves_the_right_state() {
    for shared in [false, true] {
        for (point, effects, outcomes) in [
            (ABORT_POINTS[0], 1, &["completed"][..]),
            (ABORT_POINTS[1], 1, &["lost", "completed"]),
            (ABORT_POINTS[2], 2, &["lost", "completed"]),
            (ABORT_POINTS[3], 1, &["completed"]),
        ] {
            let site = if shared { Site::shared().await } else { Site::sqlite().await };
            let (folder, url) = (&site.folder, site.url.0.clone());
            let bus = match &site.redis {
                Some(redis) => redis.url(),
                None => folder.path().join("shared.db").display().to_string(),
            };
            let written = folder.path().join("effects");
            let died = tokio::task::spawn_blocking({
                let (bus, url, written) = (bus.clone(), url.clone(), written.clone());
                move || {
                    Command::new(env::current_exe().unwrap())
                        .args(["--ignored", "--exact", "--nocapture", "crash::work_until_the_abort_point"])
                        .env("TURNPIKE_ABORT_AT", point)
                        .env(DATABASE, url)
                        .env(BUS, bus)
                        .env(EFFECTS, written)
                        .output()
                        .unwrap()
                }
            })
            .await
            .unwrap();
            let said = String::from_utf8_lossy(&died.stderr);
            assert!(said.contains(&format!("aborting at {point}")), "{said}");

            let (bus, jobs) = open(&bus, &url).await;
            let id = jobs.list(&jobs::Listing::default(), 2).await.unwrap().jobs[0].id;
            let worker = Running::start(Worker::new(&jobs).register(WRITE, write));
            let done = comes_to(&jobs, id, State::Completed).await;
            // A delivery that comes again after the end does nothing.
            testkit::eventually("all is settled", crate::SOON, async || {
                bus.groups().await.unwrap().iter().all(|group| group.lag == 0).then_some(())
            })
            .await;
            worker.drain().await;
            let effect = fs::read_to_string(&written).unwrap();
            assert_eq!(effect.lines().count(), effects, "{point}: {effect}");
            let was: Vec<_> = done.tasks[0].attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
            assert_eq!(was, outcomes, "{point}");
        }
    }
}

#[tokio::test]
#[ignore = "the process that the test above kills"]
async fn work_until_the_abort_point() {
    let (Ok(url), Ok(bus), Ok(written)) = (env::var(DATABASE), env::var(BUS), env::var(EFFECTS)) else {
        panic!("it is run by a_worker_killed_in_any_window_leaves_the_right_state")
    };
    let (_, jobs) = open(&bus, &url).await;
    let worker = Running::start(Worker::new(&jobs).register(WRITE, write));
    jobs.create(WRITE.job(&PathBuf::from(written))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    worker.drain().await;
}
