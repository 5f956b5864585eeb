//! The contract, case by case: what must hold while nothing is broken on purpose. Each takes seconds of real time, and
//! needs a [`Site`] alone.

mod delivery;
mod hand;
mod keep;
mod later;
mod place;
mod publish;
mod receipt;
mod stage;
mod traffic;
mod version;

use futures_util::future::BoxFuture;

use crate::{
    Site, Violation, check,
    history::{Entry, History, What},
};

pub use stage::Stage;

/// What every case tells of itself.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// As the list of cases calls it: `C4`.
    pub name: &'static str,
    pub does: &'static str,
    /// What is killed, cut or filled up.
    pub kills: &'static str,
}

/// A case of the contract: it needs a site alone.
pub struct Contract {
    pub case: Case,
    pub run: for<'a> fn(&'a (dyn Site + 'a), &'a Stage) -> BoxFuture<'a, anyhow::Result<()>>,
}

/// One case, run once.
pub struct Ran {
    pub case: Case,
    pub backend: &'static str,
    pub seed: u64,
    pub history: Vec<Entry>,
    pub violations: Vec<Violation>,
    /// What the case itself expected and didn't find.
    pub failed: Option<String>,
}

const fn case(
    name: &'static str,
    does: &'static str,
    run: for<'a> fn(&'a (dyn Site + 'a), &'a Stage) -> BoxFuture<'a, anyhow::Result<()>>,
) -> Contract {
    Contract { case: Case { name, does, kills: "nothing" }, run }
}

/// The cases of the contract.
pub const CASES: &[Contract] = &[
    case("C1", "publish, ack, fan-out: every group gets every event, in every mode", |site, stage| {
        Box::pin(traffic::fan_out(site, stage))
    }),
    case("C2", "order: a key's events stay in theirs, over partitions, failures and retries", |site, stage| {
        Box::pin(publish::order(site, stage))
    }),
    case("C3", "dedupe: two nodes publish the same ids at once", |site, stage| Box::pin(publish::dedupe(site, stage))),
    case("C4", "nack: the schedule and its jitter, a delay of one's own, the last attempt", |site, stage| {
        Box::pin(delivery::nack(site, stage))
    }),
    case("C5", "release: given back uncharged, by hand and by a consumer that ends at work", |site, stage| {
        Box::pin(delivery::release(site, stage))
    }),
    case("C6", "extend: a handler longer than its lease keeps it", |site, stage| {
        Box::pin(delivery::extend(site, stage))
    }),
    case("C7", "dead letters: redriven to their group alone, or discarded", |site, stage| {
        Box::pin(delivery::dead(site, stage))
    }),
    case("C8", "seek: where a group begins and is moved to, and the dry run", |site, stage| {
        Box::pin(place::seek(site, stage))
    }),
    case("C9", "filters, of groups and readers", |site, stage| Box::pin(place::filters(site, stage))),
    case("C10", "later: at its time, in order; taken back, also at the last moment", |site, stage| {
        Box::pin(later::scheduled(site, stage))
    }),
    case("C11", "synchronous publish: nobody there, a faster consumer, a failure", |site, stage| {
        Box::pin(publish::synchronous(site, stage))
    }),
    case("C11-receipt", "asynchronous publish: one receipt each, whoever gives it, and a true one", |site, stage| {
        Box::pin(receipt::receipts(site, stage))
    }),
    case("C12", "every standing of an event with a group", |site, stage| Box::pin(place::standings(site, stage))),
    case("C16", "expected version: of racing writers one wins, and the others are told", |site, stage| {
        Box::pin(version::race(site, stage))
    }),
    case("C17", "expiry, in the log and between attempts", |site, stage| Box::pin(publish::expiry(site, stage))),
    case("C18-reject", "a full queue refuses until there is room", |site, stage| Box::pin(keep::rejects(site, stage))),
    case("C18-drop", "a full queue drops its oldest, and says who lost what", |site, stage| {
        Box::pin(keep::drops(site, stage))
    }),
];

impl Contract {
    /// Runs it on a site and judges its history.
    pub async fn run(&self, site: &dyn Site, seed: u64, scale: u32) -> Ran {
        let stage = self.case.begin(site.backend(), seed, scale);
        let ended = (self.run)(site, &stage).await;
        self.case.end(site.backend(), &stage, ended)
    }
}

impl Case {
    /// A stage of its own, with a history that says what runs.
    pub fn begin(&self, backend: &str, seed: u64, scale: u32) -> Stage {
        let history = History::new();
        history.write(What::Case { name: self.name.to_owned(), backend: backend.to_owned(), seed });
        Stage::new(self.name, history, seed, scale)
    }

    /// Judges what it wrote.
    pub fn end(&self, backend: &'static str, stage: &Stage, ended: anyhow::Result<()>) -> Ran {
        let history = stage.history.entries();
        let (violations, failed) = (check(&history), ended.err().map(|error| format!("{error:#}")));
        Ran { case: *self, backend, seed: stage.seed, history, violations, failed }
    }
}

impl Ran {
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.failed.is_none()
    }
}
