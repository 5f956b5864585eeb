//! The faults, and the list of them.

mod abandoned;
mod clock;
mod equal;
mod hostile;
mod later;
mod level;
mod link;
mod member;
mod metric;
mod mqtt;
mod outbox;
mod owner;
mod poison;
mod power;
mod presence;
mod receipt;
mod redis;
mod storm;
mod tabs;
mod webhook;

use std::{env, path::PathBuf, time::Duration};

use bus::{Bus, Group, Mode, PublishOptions};
use futures_util::future::LocalBoxFuture;
use testkit::{Aof, Fault as Broken, Way};
use verify::{
    Entry, Site,
    contract::{self, Case, Ran, Stage},
    load::{Habit, Plan, Team, Traffic, Witness},
};

use crate::lab::{Lab, Setup};
pub(crate) use level::loads;
pub(crate) use member::{load, work};
pub(crate) use metric::tell;
use metric::{Metric, Watch};
pub(crate) use outbox::relay;
pub(crate) use receipt::give;

/// A case that breaks something.
pub(crate) struct Fault {
    pub(crate) case: Case,
    pub(crate) run: Run,
    /// The backends that can break so.
    pub(crate) on: &'static [&'static str],
    pub(crate) setup: fn() -> Setup,
    /// What must move by it.
    metrics: Vec<Metric>,
    /// It is for whoever has the time: a soak.
    pub(crate) is_long: bool,
}

/// How long something may take that should be soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

const LINEAGES: &str = "turnpike_bus_lineage_changes_total";
const EXPIRED: &str = "turnpike_bus_lease_expired_total";
const FAILED: &str = "turnpike_bus_publish_total result=failed";
const DUPLICATES: &str = "turnpike_bus_duplicate_total";
const DEAD: &str = "turnpike_bus_delivery_total outcome=dead";
const DROPPED: &str = "turnpike_bus_delivery_total outcome=lost";
const REFUSED: &str = "turnpike_bus_publish_total result=refused";
const POSTPONED: &str = "turnpike_webhook_attempt_total class=postponed";
const GONE: &str = "turnpike_webhook_disabled_total reason=gone";
const TIMEOUT: &str = "turnpike_webhook_attempt_total class=timeout";
const UNREACHABLE: &str = "turnpike_webhook_attempt_total class=unreachable";
const SPARED: &str = "turnpike_webhook_rest_total";
const LATE: &str = "turnpike_webhook_late_ack_total outcome=done";
const DUE: &str = "turnpike_bus_publish_total result=due";
const CLOSED: &str = "turnpike_broker_close_total code=4500";
const SILENT: &str = "turnpike_broker_close_total code=4002";
const OFFLINE: &str = "turnpike_bus_presence_transitions_total event=offline";

const BOTH: &[&str] = &["redis", "sqlite"];
const REDIS: &[&str] = &["redis"];
const SQLITE: &[&str] = &["sqlite"];

/// What F9 does to the network, and F10 to the answers.
const NETWORK: &[(Way, Broken)] = &[
    (Way::Out, Broken::Delay(Duration::from_millis(200))),
    (Way::Back, Broken::Throttle(4_000)),
    (Way::Out, Broken::Swallow),
    (Way::Out, Broken::CutAfter(5_000)),
];
const ANSWERS: &[(Way, Broken)] = &[(Way::Back, Broken::Swallow), (Way::Back, Broken::CutAfter(3_000))];

type Run = for<'a> fn(&'a Lab, &'a Stage) -> LocalBoxFuture<'a, anyhow::Result<()>>;

fn fault(name: &'static str, does: &'static str, kills: &'static str, on: &'static [&'static str], run: Run) -> Fault {
    let case = Case { name, does, kills };
    Fault { case, run, on, setup: Setup::default, metrics: Vec::new(), is_long: false }
}

impl Fault {
    fn with(self, setup: fn() -> Setup) -> Self {
        Self { setup, ..self }
    }

    /// A metric that must move.
    fn moves(self, on: &'static [&'static str], name: &'static str) -> Self {
        self.moves_beyond(on, name, 0.0)
    }

    /// One that moves so far anyway.
    fn moves_beyond(mut self, on: &'static [&'static str], name: &'static str, anyway: f64) -> Self {
        self.metrics.push(Metric { on, name, anyway });
        self
    }

    /// On either backend a lineage begins; on Redis also with the queue's only partition.
    fn begins_a_lineage(self) -> Self {
        self.moves_beyond(REDIS, LINEAGES, 1.0).moves(SQLITE, LINEAGES)
    }

    fn metrics(&self, backend: &str) -> impl Iterator<Item = Metric> {
        self.metrics.iter().copied().filter(move |metric| metric.on.contains(&backend))
    }

    fn long(self) -> Self {
        Self { is_long: true, ..self }
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    let proxied = || Setup { proxied: true, ..Setup::default() };
    let clock = || Setup { clock: true, ..Setup::default() };
    vec![
        fault(
            "C13",
            "presence: several devices of a user at two nodes come, are cut, and say goodbye",
            "nothing",
            BOTH,
            |lab, stage| Box::pin(presence::devices(lab, stage)),
        )
        .with(clock),
        fault(
            "C14",
            "readers by WebSocket, SSE and long-poll see the same, whatever dies",
            "nodes, connections, the log",
            BOTH,
            |lab, stage| Box::pin(equal::equal(lab, stage)),
        )
        .begins_a_lineage(),
        fault(
            "C14-gap",
            "readers are away while the queue forgets, and are told exactly what they can't have",
            "every node; what is old",
            BOTH,
            |lab, stage| Box::pin(equal::trimmed(lab, stage)),
        )
        .moves(BOTH, "turnpike_broker_gap_total reason=retention"),
        fault(
            "C14-flush",
            "everything is deleted while readers follow, on each transport",
            "all keys, FLUSHALL",
            REDIS,
            |lab, stage| Box::pin(equal::flushed(lab, stage)),
        )
        .moves(REDIS, "turnpike_broker_gap_total reason=reset"),
        fault(
            "C15",
            "webhooks: signatures, a change of keys, events that are put off or acknowledged later",
            "nothing",
            BOTH,
            |lab, stage| Box::pin(webhook::delivered(lab, stage)),
        )
        .with(clock)
        .moves(BOTH, POSTPONED)
        .moves(BOTH, LATE),
        fault(
            "C15-gone",
            "webhooks: an endpoint ends, is enabled again, and has missed nothing",
            "nothing",
            BOTH,
            |lab, stage| Box::pin(webhook::gone(lab, stage)),
        )
        .with(clock)
        .moves(BOTH, GONE),
        fault(
            "C18-abandoned",
            "a group that nobody claims for loses its hold, is told what it lost, and goes on",
            "nothing",
            BOTH,
            |lab, stage| Box::pin(abandoned::loses_its_hold(lab, stage)),
        )
        .with(clock)
        .moves(BOTH, DROPPED),
        fault("C19", "hostile frames and cursors, beside honest readers", "nothing", BOTH, |lab, stage| {
            Box::pin(hostile::clients(lab, stage))
        })
        .moves(BOTH, CLOSED),
        fault(
            "F1",
            "a consumer dies before it begins, at work, and after the effect",
            "a consumer's process, kill -9 and abort",
            BOTH,
            |lab, stage| Box::pin(member::killed(lab, stage)),
        )
        .moves(BOTH, EXPIRED),
        fault(
            "F1-receipt",
            "whoever gives receipts dies at it; somebody else gives the others",
            "a giver's process, kill -9",
            REDIS,
            |lab, stage| Box::pin(receipt::killed(lab, stage)),
        )
        .with(clock)
        .moves(REDIS, "turnpike_bus_receipt_total outcome=completed"),
        fault("F2", "a consumer is told to end at work", "a consumer's process, SIGTERM", BOTH, |lab, stage| {
            Box::pin(member::terminated(lab, stage))
        })
        .moves(BOTH, "turnpike_bus_delivery_total outcome=acked"),
        fault("F3", "two replicas have one name; on Redis as two processes", "nothing", BOTH, |lab, stage| {
            Box::pin(member::namesakes(lab, stage))
        }),
        fault("F4", "members are late past their leases, and ack late", "leases, by time", BOTH, |lab, stage| {
            Box::pin(member::late(lab, stage))
        })
        .moves(BOTH, EXPIRED),
        fault(
            "F4-paused",
            "a member stands still past its lease, and goes on; of a file, the owner does",
            "a process, SIGSTOP and SIGCONT",
            BOTH,
            |lab, stage| Box::pin(member::paused(lab, stage)),
        )
        .moves(BOTH, EXPIRED),
        fault(
            "F5-always",
            "Redis dies in traffic; it writes to disk before it answers",
            "redis-server, kill -9",
            REDIS,
            |lab, stage| Box::pin(power::killed(lab, stage)),
        )
        .begins_a_lineage(),
        fault(
            "F5-everysec",
            "the power fails: what was written since a moment is gone, a command torn in the middle",
            "redis-server, kill -9; the end of its append-only file",
            REDIS,
            |lab, stage| Box::pin(power::torn(lab, stage)),
        )
        .with(|| Setup { aof: Aof::EverySecond, ..Setup::default() })
        .begins_a_lineage(),
        fault(
            "F5-none",
            "Redis dies and had written nothing: it begins anew, and says so",
            "redis-server, kill -9, with everything in it",
            REDIS,
            |lab, stage| Box::pin(power::forgetful(lab, stage)),
        )
        .with(|| Setup { aof: Aof::Off, ..Setup::default() })
        .moves(REDIS, "turnpike_bus_gap_total reason=reset"),
        fault(
            "F6-redis",
            "Redis hangs, and is restarted",
            "redis-server, SIGSTOP and a restart",
            REDIS,
            |lab, stage| Box::pin(redis::restarted(lab, stage)),
        )
        .begins_a_lineage(),
        fault("F6-sqlite", "the file is closed and opened again", "the handle", SQLITE, |lab, stage| {
            Box::pin(owner::reopened(lab, stage))
        })
        .begins_a_lineage(),
        fault("F7-flush", "everything is deleted in traffic", "all keys, FLUSHALL", REDIS, |lab, stage| {
            Box::pin(redis::flushed(lab, stage))
        })
        .moves(REDIS, "turnpike_bus_gap_total reason=reset"),
        fault("F7-keys", "each key is deleted in traffic", "each key, DEL", REDIS, |lab, stage| {
            Box::pin(redis::deleted(lab, stage))
        })
        .begins_a_lineage(),
        fault(
            "F7-later",
            "what waits for its time is deleted: its order, itself, both, and with everything else",
            "the keys `:w` and `:we`, DEL; all keys, FLUSHALL",
            REDIS,
            |lab, stage| Box::pin(later::deleted(lab, stage)),
        )
        .moves(REDIS, "turnpike_bus_publish_total result=lost"),
        fault(
            "F7-view",
            "each key's last event is deleted while writers expect versions",
            "the key `:v`, DEL",
            REDIS,
            |lab, stage| Box::pin(redis::forgotten_versions(lab, stage)),
        ),
        fault("F7-scripts", "the scripts are forgotten in traffic", "scripts, SCRIPT FLUSH", REDIS, |lab, stage| {
            Box::pin(redis::scripts(lab, stage))
        }),
        fault(
            "F8",
            "a replica that missed a hundred is promoted; the old primary is back, and a connection that knows only it",
            "the replication, then the primary, kill -9",
            REDIS,
            |lab, stage| Box::pin(redis::forked(lab, stage, redis::Link::Cut)),
        )
        .begins_a_lineage(),
        fault(
            "F8-delayed",
            "a replica that is seconds behind is promoted; what is confirmed as replicated outlives it",
            "the replication's speed, then the primary, kill -9",
            REDIS,
            |lab, stage| Box::pin(redis::forked(lab, stage, redis::Link::Delayed)),
        )
        .begins_a_lineage(),
        fault("F9", "the network delays, is half open, trickles, resets", "the network", REDIS, |lab, stage| {
            Box::pin(redis::network(lab, stage, NETWORK))
        })
        .with(proxied)
        .moves(REDIS, FAILED),
        fault(
            "F9-client",
            "clients are behind a network that delays, trickles, is half open, resets; others aren't",
            "the network to a node",
            BOTH,
            |lab, stage| Box::pin(link::network(lab, stage)),
        )
        .moves(BOTH, SILENT),
        fault(
            "F9-webhook",
            "each endpoint is behind a network that delays, trickles, is half open, or resets",
            "the network",
            BOTH,
            |lab, stage| Box::pin(webhook::network(lab, stage)),
        )
        .with(clock)
        .moves(BOTH, TIMEOUT)
        .moves(BOTH, UNREACHABLE),
        fault("F10", "answers are lost after the write", "the way back", REDIS, |lab, stage| {
            Box::pin(redis::network(lab, stage, ANSWERS))
        })
        .with(proxied)
        .moves(REDIS, DUPLICATES),
        fault("F11", "consumers are slow, and the network is", "the network's width", REDIS, |lab, stage| {
            Box::pin(redis::slow(lab, stage))
        })
        .with(proxied),
        fault(
            "F11-socket",
            "a client takes nothing of what it is sent, and reads it later",
            "nothing",
            BOTH,
            |lab, stage| Box::pin(link::slow(lab, stage)),
        ),
        fault("F12", "handlers fail, panic and never end", "handlers", BOTH, |lab, stage| {
            Box::pin(poison::handlers(lab, stage))
        })
        .moves(BOTH, DEAD),
        fault(
            "F12-abort",
            "an event kills whoever handles it",
            "a consumer's process, three times",
            BOTH,
            |lab, stage| Box::pin(poison::aborts(lab, stage)),
        )
        .moves(BOTH, DEAD),
        fault("F13", "the clock steps an hour forwards and back", "the clock", BOTH, |lab, stage| {
            Box::pin(clock::steps(lab, stage))
        })
        .with(clock)
        .moves(BOTH, EXPIRED),
        fault("F14-memory", "no memory is left", "maxmemory", REDIS, |lab, stage| Box::pin(redis::full(lab, stage)))
            .moves(REDIS, FAILED),
        fault("F14-disk", "the disk is full", "the room of the file, or of Redis's", BOTH, |lab, stage| {
            Box::pin(async move {
                if lab.backend() == "redis" { redis::disk(lab, stage).await } else { owner::full(lab, stage).await }
            })
        })
        .with(|| Setup { aof: Aof::EverySecond, ..Setup::default() })
        .moves(BOTH, FAILED),
        fault("F15", "a node dies, and all who followed by it come again at once", "a node", BOTH, |lab, stage| {
            Box::pin(storm::reconnecting(lab, stage, 150))
        }),
        fault("F15-all", "the same, with 10,000 who follow", "a node", BOTH, |lab, stage| {
            Box::pin(storm::reconnecting(lab, stage, 10_000))
        })
        .long(),
        fault(
            "F16",
            "a node dies with many present, some of whom go over to another one in time",
            "a node",
            BOTH,
            |lab, stage| Box::pin(presence::killed(lab, stage, 60)),
        )
        .with(clock)
        .moves(BOTH, OFFLINE),
        fault("F16-all", "the same, with 1,000 present", "a node", BOTH, |lab, stage| {
            Box::pin(presence::killed(lab, stage, 1_000))
        })
        .with(clock)
        .moves(BOTH, OFFLINE)
        .long(),
        fault(
            "F18",
            "an endpoint is down for six hours, is disabled, and enabled again",
            "an endpoint's server, and what is behind it",
            BOTH,
            |lab, stage| Box::pin(webhook::outage(lab, stage)),
        )
        .with(clock)
        .moves(BOTH, SPARED)
        .moves(BOTH, UNREACHABLE),
        fault(
            "F19-killed",
            "a relay dies between publishing and remembering it, again and again",
            "a relay's process, abort",
            BOTH,
            |lab, stage| Box::pin(outbox::killed(lab, stage)),
        )
        .moves(BOTH, DUPLICATES),
        fault(
            "F19-paused",
            "a relay stands still in the middle of a batch; another one takes over; it goes on",
            "a relay's process, SIGSTOP and SIGCONT",
            REDIS,
            |lab, stage| Box::pin(outbox::paused(lab, stage)),
        )
        .with(proxied)
        .moves(REDIS, DUPLICATES),
        fault(
            "F19-flush",
            "everything is deleted while a group is three days behind: relays publish it again",
            "all keys, FLUSHALL",
            REDIS,
            |lab, stage| Box::pin(outbox::flushed(lab, stage)),
        )
        .moves(REDIS, "turnpike_outbox_resent_total"),
        fault(
            "F20",
            "whoever takes MQTT messages stands still, another one takes over, and it goes on",
            "a dispatcher: its process, SIGSTOP and SIGCONT; of a file, its thread",
            BOTH,
            |lab, stage| Box::pin(mqtt::ex_leader(lab, stage)),
        )
        .with(clock)
        .moves(BOTH, REFUSED),
        fault("F22", "trimming races claims, and a group that is away", "what is old", BOTH, |lab, stage| {
            Box::pin(clock::trims(lab, stage))
        })
        .with(clock),
        fault(
            "F23",
            "the end of the journal is torn, or its bytes are flipped",
            "the owner, kill -9; bytes of the WAL",
            SQLITE,
            |lab, stage| Box::pin(owner::damaged(lab, stage)),
        )
        .begins_a_lineage(),
        fault("F24-commit", "the file's owner dies while it commits", "the owner, kill -9", SQLITE, |lab, stage| {
            Box::pin(owner::killed(lab, stage))
        })
        .begins_a_lineage(),
        fault(
            "F24-copy",
            "an old copy of the file is put back",
            "the owner, kill -9; what came since the copy",
            SQLITE,
            |lab, stage| Box::pin(owner::restored(lab, stage)),
        )
        .begins_a_lineage(),
        fault("F25", "many retries are due in one moment", "nothing", BOTH, |lab, stage| {
            Box::pin(clock::due_at_once(lab, stage))
        })
        .moves(BOTH, "turnpike_bus_delivery_total outcome=retried"),
        fault("F25-due", "many events are due in one moment, and every node sees it", "nothing", BOTH, |lab, stage| {
            Box::pin(later::due_at_once(lab, stage, stage.times(1_500).min(100_000)))
        })
        .moves(BOTH, DUE),
        fault(
            "F25-all",
            "100,000 events are due in one moment, and every node sees it",
            "nothing",
            BOTH,
            |lab, stage| Box::pin(later::due_at_once(lab, stage, 100_000)),
        )
        .moves(BOTH, DUE)
        .long(),
        fault("F26", "one id from three tabs at two nodes, at once, over and over", "nothing", BOTH, |lab, stage| {
            Box::pin(tabs::at_once(lab, stage))
        })
        .moves(BOTH, DUPLICATES),
        fault(
            "I10",
            "load after load: connections, descriptors, memory and keys come back to what they were",
            "on Redis every connection, twenty times",
            BOTH,
            |lab, stage| Box::pin(level::rounds(lab, stage)),
        )
        .with(proxied),
    ]
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
    let watch = Watch::begin(fault.metrics(backend), &stage);
    let ended = (fault.run)(&lab, &stage).await;
    if ended.is_ok() {
        watch.end(&stage);
    }
    Some(fault.case.end(lab.backend(), &stage, ended))
}

/// Every case, by name; `long`: also those for whoever has the time.
pub(crate) fn names(long: bool) -> Vec<&'static str> {
    let contract = contract::CASES.iter().map(|case| case.case.name);
    let faults = faults().into_iter().filter(|fault| long || !fault.is_long);
    contract.chain(faults.map(|fault| fault.case.name)).collect()
}

/// Where the history of a run that failed is kept.
pub(crate) fn keep(ran: &Ran) -> PathBuf {
    let folder = env::var_os("TURNPIKE_HISTORIES").map_or_else(env::temp_dir, PathBuf::from);
    let path = folder.join(format!("turnpike-{}-{}-{}.jsonl", ran.case.name, ran.backend, ran.seed));
    Entry::write_all(&ran.history, &path).unwrap();
    path
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

/// A child's load: it publishes until it is refused, and some more; settles what it can, and ends.
pub(crate) async fn fill(stage: &Stage, bus: Bus) {
    let witness = Witness::new(bus, stage.history.clone());
    let group = stage.group("parallel", Mode::Parallel).unwrap();
    witness.declare(&group, false).await.unwrap();
    let mut refused = 0;
    for number in 0..100_000 {
        let mut event = stage.event(&format!("fill-{number}"), "k").unwrap();
        event.data = Some(events::Data::Binary(vec![b'x'; 2_000]));
        refused += usize::from(witness.publish("fill", vec![event], PublishOptions::default()).await.is_err());
        if refused == 10 {
            break;
        }
    }
    for leased in witness.claim(&group.name, "filler", 5).await.map(|claimed| claimed.leased).unwrap_or_default() {
        _ = witness.settle(&group.name, leased.token, bus::Verb::Ack).await;
    }
}
