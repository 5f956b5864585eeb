//! The faults, and the list of them.

mod owner;
mod power;

use std::{env, path::PathBuf, time::Duration};

use bus::{Bus, Group, Mode, PublishOptions};
use futures_util::future::LocalBoxFuture;
use testkit::Aof;
use verify::{
    Entry, Site,
    contract::{self, Case, Ran, Stage},
    load::{Habit, Plan, Team, Traffic, Witness},
};

use crate::lab::{Lab, Setup};

/// A case that breaks something.
pub(crate) struct Fault {
    pub(crate) case: Case,
    pub(crate) run: for<'a> fn(&'a Lab, &'a Stage) -> LocalBoxFuture<'a, anyhow::Result<()>>,
    /// The backends that can break so.
    pub(crate) on: &'static [&'static str],
    pub(crate) setup: fn() -> Setup,
}

const BOTH: &[&str] = &["redis", "sqlite"];
const REDIS: &[&str] = &["redis"];
const SQLITE: &[&str] = &["sqlite"];

pub(crate) fn faults() -> Vec<Fault> {
    let plain: fn() -> Setup = Setup::default;
    vec![
        Fault {
            case: Case {
                name: "F5-always",
                does: "Redis dies in traffic; it writes to disk before it answers",
                kills: "redis-server, kill -9",
            },
            run: |lab, stage| Box::pin(power::killed(lab, stage)),
            on: REDIS,
            setup: plain,
        },
        Fault {
            case: Case {
                name: "F5-everysec",
                does: "the power fails: what was written since a moment is gone, a command torn in the middle",
                kills: "redis-server, kill -9; the end of its append-only file",
            },
            run: |lab, stage| Box::pin(power::torn(lab, stage)),
            on: REDIS,
            setup: || Setup { aof: Aof::EverySecond, ..Setup::default() },
        },
        Fault {
            case: Case {
                name: "F5-none",
                does: "Redis dies and had written nothing: it begins anew, and says so",
                kills: "redis-server, kill -9, with everything in it",
            },
            run: |lab, stage| Box::pin(power::forgetful(lab, stage)),
            on: REDIS,
            setup: || Setup { aof: Aof::Off, ..Setup::default() },
        },
        Fault {
            case: Case {
                name: "F24-commit",
                does: "the file's owner dies while it commits, three times",
                kills: "the process that owns the file, kill -9",
            },
            run: |lab, stage| Box::pin(owner::killed(lab, stage)),
            on: SQLITE,
            setup: plain,
        },
    ]
}

/// The name of a case's test.
pub(crate) fn test_name(case: &str) -> String {
    case.to_lowercase().replace('-', "_")
}

/// Runs a case once, by its name; None: it isn't for this backend.
pub(crate) async fn run(name: &str, backend: &str, seed: u64, scale: u32) -> Option<Ran> {
    if let Some(case) = contract::CASES.iter().find(|case| case.case.name == name) {
        let lab = Lab::open(backend, &Setup::default()).await;
        return Some(case.run(&lab, seed, scale).await);
    }
    let faults = faults();
    let fault = faults.iter().find(|fault| fault.case.name == name).unwrap_or_else(|| panic!("no case {name}"));
    if !fault.on.contains(&backend) {
        return None;
    }
    let lab = Lab::open(backend, &(fault.setup)()).await;
    let stage = fault.case.begin(lab.backend(), seed, scale);
    let ended = (fault.run)(&lab, &stage).await;
    Some(fault.case.end(lab.backend(), &stage, ended))
}

/// Every case, by name.
pub(crate) fn names() -> Vec<&'static str> {
    let contract = contract::CASES.iter().map(|case| case.case.name);
    contract.chain(faults().iter().map(|fault| fault.case.name)).collect()
}

/// Where the history of a run that failed is kept.
pub(crate) fn keep(ran: &Ran) -> PathBuf {
    let folder = env::var_os("TURNPIKE_HISTORIES").map_or_else(env::temp_dir, PathBuf::from);
    let path = folder.join(format!("turnpike-{}-{}-{}.jsonl", ran.case.name, ran.backend, ran.seed));
    Entry::write_all(&ran.history, &path).unwrap();
    path
}

/// Runs the case of a test and demands that nothing is wrong.
pub(crate) async fn passes(test: &str, backend: &str) {
    let name = names().into_iter().find(|name| test_name(name) == test).unwrap_or_else(|| panic!("no case {test}"));
    let seed = env::var("TURNPIKE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let ran = run(name, backend, seed, 1).await.expect("a case for this backend");
    if !ran.is_good() {
        let path = keep(&ran);
        let violations: Vec<String> = ran.violations.iter().take(20).map(ToString::to_string).collect();
        panic!(
            "{name} on {backend}, seed {seed}: {:?}, {} violations; the history is {}\n{}",
            ran.failed,
            ran.violations.len(),
            path.display(),
            violations.join("\n")
        );
    }
}

/// A group of every mode, whose members have bad habits, while something breaks.
pub(crate) fn plan(stage: &Stage, publisher: &str, events: usize) -> anyhow::Result<Plan> {
    let habit = Habit { nacks: 5, releases: 3, refuses: 1, extends: 3, at_once: 6, ..Habit::default() };
    let mut wares = stage.wares(10)?;
    wares.publisher = publisher.to_owned();
    Ok(Plan {
        wares,
        publishers: 3,
        events: stage.times(events),
        batch: 4,
        pause: Duration::from_millis(15),
        options: PublishOptions::default(),
        teams: vec![
            Team::by_hand(stage.group("parallel", Mode::Parallel)?, 2, habit),
            Team::by_hand(stage.group("keyed", Mode::Keyed)?, 3, habit),
            Team::by_hand(stage.group("exclusive", Mode::Exclusive)?, 2, habit),
            Team::of_consumers(handled(stage), 2, Duration::from_millis(1)),
        ],
        readers: 2,
    })
}

/// The group whose members run handlers.
pub(crate) fn handled(stage: &Stage) -> Group {
    stage.group("handlers", Mode::Keyed).unwrap()
}

/// A child's load: it publishes for long, and is killed meanwhile.
pub(crate) async fn traffic(stage: &Stage, bus: Bus, round: usize) {
    let witness = Witness::new(bus.clone(), stage.history.clone());
    let mut plan = plan(stage, &format!("p{round}"), 100_000).unwrap();
    plan.readers = 0;
    Traffic::start(&witness, &[bus], &plan, stage.seed + round as u64).await.unwrap().rest().await.unwrap();
}

/// A child's load: it publishes until it is refused, settles what it has, and ends.
pub(crate) async fn fill(_stage: &Stage, _bus: Bus) {}
