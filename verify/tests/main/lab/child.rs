//! A process that may be killed: this program once more, told by its environment what to do.

use std::{
    env,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bus::{Bus, Consumer, Delivery, Failure, Handler};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use verify::{
    Entry, History,
    contract::Stage,
    load::{Handling, Witness, rng},
};

use crate::cases;

/// What it is told by.
const TOLD: &str = "TURNPIKE_VERIFY_CHILD";

/// What a child does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// A load of a case that never ends.
    Traffic { round: usize },
    /// A load of a case, until all of it is settled and looked at.
    Load { events: usize },
    /// Loads of a case, one after the other; what the process holds is the same after the last as after the first.
    Loads { times: usize },
    /// Works by hand in two groups, under this name, until it is told to end.
    Works { member: String },
    /// Gives receipts.
    Gives,
    /// Publishes what an outbox holds; dies with the first of it, or ends when it is told to.
    Relays { database: PathBuf, dies: bool },
    /// Dispatches what comes by MQTT, until it is told to end.
    Dispatches { settings: String },
    /// Handles a group's events, and dies at a point of the `nth`; drains when it is told to end.
    Handles { point: Point, nth: usize, slow: Duration },
    /// Publishes until it is refused, settles what it can, and ends.
    Fills,
}

/// Where it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Point {
    Never,
    /// It has the delivery, and did nothing.
    Begun,
    /// The effect is there, the bus doesn't know.
    Done,
}

#[derive(Serialize, Deserialize)]
struct Told {
    role: Role,
    backend: String,
    address: String,
    history: PathBuf,
    began_at: u64,
    ops: u64,
    case: String,
    seed: u64,
    scale: u32,
}

/// A running child. Dropped, it is killed.
pub(crate) struct Child {
    process: process::Child,
    history: PathBuf,
    _folder: TempDir,
}

impl Child {
    /// Starts one on the bus at an address. `limit`: the most KiB of a file that it may write.
    pub(crate) fn start(
        stage: &Stage,
        (backend, address): (&str, String),
        role: Role,
        number: u64,
        limit: Option<u64>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let history = folder.path().join("history.jsonl");
        let told = Told {
            role,
            backend: backend.to_owned(),
            address,
            history: history.clone(),
            began_at: stage.history.began_at(),
            ops: number * 1_000_000_000,
            case: stage.case().to_owned(),
            seed: stage.seed,
            scale: stage.scale,
        };
        let dies = matches!(told.role, Role::Relays { dies: true, .. });
        let program = env::current_exe().unwrap();
        // A limit that is met is an error, not a death.
        let limited = limit.map(|limit| format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\""));
        let mut command = match &limited {
            Some(script) => {
                let mut command = Command::new("bash");
                command.args(["-c", script, "bash"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(["--ignored", "--exact", "--nocapture", "a_process_that_is_killed"])
            .env(TOLD, serde_json::to_string(&told).unwrap())
            .envs(dies.then_some(("TURNPIKE_ABORT_AT", "outbox.published")))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { process: command.spawn().unwrap(), history, _folder: folder }
    }

    /// What it wrote so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        if self.history.exists() { Entry::read_all(&self.history).unwrap() } else { Vec::new() }
    }

    /// Kills it as the machine would (SIGKILL).
    pub(crate) fn kill(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) {
        testkit::eventually("the child ends", Duration::from_secs(60), || {
            let ended = self.process.try_wait().unwrap().map(|_| ());
            async move { ended }
        })
        .await;
    }

    /// What it wrote goes into the case's history.
    pub(crate) fn tell(mut self, stage: &Stage) {
        self.kill();
        stage.history.join(self.entries());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Does what a child is told to; not told anything, it isn't one.
pub(crate) async fn act() -> bool {
    let Ok(told) = env::var(TOLD) else { return false };
    let told: Told = serde_json::from_str(&told).unwrap();
    let history = History::joining(told.began_at, told.ops, &told.history).unwrap();
    let bus = match told.backend.as_str() {
        "redis" => bus::redis::open(&told.address).await.unwrap(),
        _ => bus::sqlite::open(Path::new(&told.address)).await.unwrap(),
    };
    let stage = Stage::new(told.case.leak(), history, told.seed, told.scale);
    match told.role {
        Role::Traffic { round } => cases::traffic(&stage, bus, round).await,
        Role::Load { events } => cases::load(&stage, bus, events).await,
        Role::Loads { times } => cases::loads(&stage, bus, times).await,
        Role::Works { member } => cases::work(&stage, bus, &member).await,
        Role::Gives => cases::give(bus, CancellationToken::new()).await,
        Role::Relays { database, .. } => cases::relay(bus, &database).await,
        Role::Dispatches { settings } => super::dispatcher::dispatch(bus, &settings).await,
        Role::Handles { point, nth, slow } => handle(&stage, bus, point, nth, slow).await,
        Role::Fills => cases::fill(&stage, bus).await,
    }
    cases::tell(&stage, &told.backend);
    true
}

async fn handle(stage: &Stage, bus: Bus, point: Point, nth: usize, slow: Duration) {
    let group = cases::handled(stage);
    let witness = Witness::new(bus, stage.history.clone());
    let member = format!("child-{}", process::id());
    let handling = Handling {
        history: stage.history.clone(),
        group: group.name.clone(),
        rng: Mutex::new(rng(stage.seed, &member)),
        member,
        effects: verify::load::Effects::default(),
        slow,
        fails: 0,
        panics: 0,
    };
    let dying = Dying { handling, point, left: Mutex::new(nth) };
    let drain = CancellationToken::new();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let consuming = Consumer::new(witness.bus, group, Arc::new(dying)).run(drain.clone(), CancellationToken::new());
    let drains = async {
        terminate.recv().await;
        drain.cancel();
        std::future::pending().await
    };
    tokio::select! {
        ended = consuming => ended.unwrap(),
        () = drains => {}
    }
}

struct Dying {
    handling: Handling,
    point: Point,
    left: Mutex<usize>,
}

#[async_trait]
impl Handler for Dying {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let last = {
            let mut left = self.left.lock();
            *left = left.saturating_sub(1);
            *left == 0
        };
        if last && self.point == Point::Begun {
            process::abort();
        }
        let handled = self.handling.handle(delivery).await;
        if last && self.point == Point::Done {
            process::abort();
        }
        handled
    }
}
