//! F19: relays die between publishing and remembering it, stand still in the middle of a batch, and see everything deleted.
//! What the outbox says in the end is the history of its publishing, in the order of its rows: no fault excuses it.

use std::time::Duration;

use bus::{Bus, Mode};
use database::{Database, Url};
use events::Address;
use nix::sys::signal::Signal;
use outbox::{Event, Relay};
use tempfile::TempDir;
use testkit::{Fault as Broken, Way};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use verify::{
    Site as _,
    contract::Stage,
    history::{Answer, Harm, Level, Sent, What},
    load::{Habit, Plan, Team, Traffic, Witness},
};

use super::{SOON, plan};
use crate::lab::{Child, Lab, Role};

const SOURCE: &str = "/services/verify";
const DEATHS: usize = 3;
const ROWS: usize = 20;
/// How far a relay's clock is ahead that takes over: the other one's lease is over by it, and its own isn't too far ahead.
const TAKES_OVER: time::Duration = time::Duration::seconds(10);
const DAYS: time::Duration = time::Duration::days(3);

/// F19: it dies when it has published something and before it knows; whoever comes next publishes that again.
pub(super) async fn killed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let service = Service::open(stage).await?;
    for round in 0..stage.times(DEATHS) {
        service.append(stage, &format!("r{round}"), ROWS).await?;
        let (address, role) = (lab.address().await, Role::Relays { database: service.path(), dies: true });
        let mut child = Child::start(stage, (lab.backend(), address), role, 1 + round as u64, None);
        child.ended().await;
        child.tell(stage);
        let known = service.sent().await?;
        let bus = lab.node().await?;
        let held = held(&bus, stage).await;
        anyhow::ensure!(held > Some(known), "it knew all that it had published: {known} of {held:?}");
        let relay = Working::start(&service, bus, TAKES_OVER);
        service.all_sent().await;
        relay.drain().await?;
    }
    let bus = lab.node().await?;
    let witness = stage.witness(bus.clone());
    let traffic = Traffic::start(&witness, std::slice::from_ref(&bus), &consumed(stage)?, stage.seed).await?;
    let relay = Working::start(&service, bus, TAKES_OVER);
    service.append(stage, "last", ROWS).await?;
    service.all_sent().await;
    relay.drain().await?;
    service.tell(&witness).await?;
    traffic.rest().await
}

/// F19: its answers are under way when it stands still; by the time it goes on, another one has done its work.
pub(super) async fn paused(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let redis = lab.redis();
    // Past the network through which it sees the bus.
    let direct = bus::redis::open(&redis.direct().await).await?;
    let witness = stage.witness(direct.clone());
    let traffic = Traffic::start(&witness, std::slice::from_ref(&direct), &consumed(stage)?, stage.seed).await?;
    let service = Service::open(stage).await?;
    let role = Role::Relays { database: service.path(), dies: false };
    let mut child = Child::start(stage, (lab.backend(), lab.address().await), role, 1, None);
    for round in 0..stage.times(2) {
        service.append(stage, &format!("a{round}"), ROWS).await?;
        service.all_sent().await;
        let known = service.sent().await?;
        redis.proxy.as_ref().unwrap().set(Way::Back, Broken::Delay(Duration::from_secs(2)));
        service.append(stage, &format!("b{round}"), ROWS).await?;
        // The bus has some of it, and its answer is still under way.
        testkit::eventually("it has published", SOON, async || (held(&direct, stage).await? > known).then_some(()))
            .await;
        child.signal(Signal::SIGSTOP);
        anyhow::ensure!(service.sent().await? == known, "it knows already that it has published");
        redis.proxy.as_ref().unwrap().set_both(Broken::None);
        service.append(stage, &format!("c{round}"), ROWS).await?;
        let other = Working::start(&service, direct.clone(), TAKES_OVER);
        service.all_sent().await;
        child.signal(Signal::SIGCONT);
        service.append(stage, &format!("d{round}"), ROWS).await?;
        service.all_sent().await;
        other.drain().await?;
    }
    // It is its turn again.
    service.append(stage, "e", ROWS).await?;
    service.all_sent().await;
    child.signal(Signal::SIGTERM);
    child.ended().await;
    child.tell(stage);
    service.tell(&witness).await?;
    traffic.rest().await
}

/// F19: what a group didn't get for three days, it gets after everything was deleted, from the outbox.
pub(super) async fn flushed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    let behind = stage.group("behind", Mode::Keyed)?;
    witness.declare(&behind, false).await?;
    let service = Service::open(stage).await?;
    let relay = Working::start(&service, nodes[0].clone(), -DAYS);
    service.append(stage, "old", 3 * ROWS).await?;
    service.all_sent().await;
    relay.drain().await?;
    let first = witness.claim(&behind.name, "away", 5).await?.leased;
    witness.acknowledge(&behind.name, &first).await?;

    let mut plan = consumed(stage)?;
    plan.teams.push(Team::by_hand(behind, 2, Habit { at_once: 4, ..Habit::default() }));
    let relay = Working::start(&service, nodes[1].clone(), time::Duration::ZERO);
    service.append(stage, "new", ROWS).await?;
    service.all_sent().await;
    witness.harmed("flush", Harm::Outage);
    witness.harmed("flush", Harm::Rollback { since: 0 });
    lab.redis().command(&["FLUSHALL"]).await;
    witness.healed("flush");
    let traffic = Traffic::start(&witness, &nodes, &plan, stage.seed).await?;
    testkit::eventually("everything is there again", SOON, async || {
        (held(&nodes[0], stage).await? >= 4 * ROWS).then_some(())
    })
    .await;
    witness.excused_no_more().await;
    service.append(stage, "after", ROWS).await?;
    service.all_sent().await;
    relay.drain().await?;
    service.tell(&witness).await?;
    traffic.rest().await
}

/// Works as a child, until it dies or is told to end.
pub(crate) async fn relay(bus: Bus, database: &std::path::Path) {
    let database = open(database).await.unwrap();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let drain = CancellationToken::new();
    let relaying = Relay::new(database, bus, SOURCE).run(drain.clone());
    let drains = async {
        terminate.recv().await;
        drain.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = relaying => ended.unwrap(),
        () = drains => {}
    }
}

/// Who consumes what the outbox tells; nobody else publishes.
fn consumed(stage: &Stage) -> anyhow::Result<Plan> {
    Ok(Plan { publishers: 0, ..plan(stage, "p", 0)? })
}

/// How many events the case's queue holds.
async fn held(bus: &Bus, stage: &Stage) -> Option<usize> {
    let page = bus.read(&stage.queue().unwrap(), 0, u64::MAX >> 1, 1).await.ok()?;
    usize::try_from(page.next - page.floor).ok()
}

async fn open(path: &std::path::Path) -> Result<Database, database::Error> {
    Database::open(&Url::sqlite(path), "verify", &[outbox::migration(1)]).await
}

/// A service's database.
struct Service {
    folder: TempDir,
    database: Database,
}

impl Service {
    async fn open(stage: &Stage) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("turnpike-{}-", stage.case())).tempdir()?;
        let database = open(&folder.path().join("service.db")).await?;
        Ok(Self { folder, database })
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("service.db")
    }

    /// Commits so many events, three a transaction.
    async fn append(&self, stage: &Stage, name: &str, count: usize) -> anyhow::Result<()> {
        for first in (0..count).step_by(3) {
            let mut tx = self.database.begin().await?;
            for number in first..count.min(first + 3) {
                let address: Address = format!("{}/CREATE", stage.queue()?).parse()?;
                let event = Event {
                    address,
                    subject: format!("k{}", number % 7),
                    data: serde_json::Value::Null,
                    id: Some(format!("{name}-{number}")),
                    causation_id: None,
                    correlation_id: None,
                    owner: None,
                };
                outbox::append(&mut tx, SOURCE, event).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// How many rows it knows to be on the bus.
    async fn sent(&self) -> anyhow::Result<usize> {
        Ok(self.database.query("SELECT seq FROM outbox WHERE sent_at IS NOT NULL", &[]).await?.len())
    }

    async fn all_sent(&self) {
        testkit::eventually("the outbox is empty", 2 * SOON, async || {
            let unsent = "SELECT seq FROM outbox WHERE sent_at IS NULL LIMIT 1";
            self.database.query(unsent, &[]).await.ok()?.is_empty().then_some(())
        })
        .await;
    }

    /// Writes down where it has its rows, in their order, as one publish.
    async fn tell(&self, witness: &Witness) -> anyhow::Result<()> {
        let sql = "SELECT id, queue, event, key, sent_partition, sent_position FROM outbox ORDER BY seq";
        let (mut sent, mut answers) = (Vec::new(), Vec::new());
        for row in self.database.query(sql, &[]).await? {
            let (partition, position): (i64, i64) = (row.get("sent_partition")?, row.get("sent_position")?);
            let (id, queue, event, key) = (row.get("id")?, row.get("queue")?, row.get("event")?, row.get("key")?);
            sent.push(Sent { id, queue, event, key, ..Sent::default() });
            let (partition, position) = (u32::try_from(partition)?, Some(position.cast_unsigned()));
            answers.push(Answer::Recorded { partition, position, duplicate: false });
        }
        let (op, publisher) = (witness.history.op(), "outbox".to_owned());
        witness.history.write(What::PublishAsked { op, publisher, level: Level::Stored, sent });
        witness.history.write(What::PublishAnswered { op, answers });
        Ok(())
    }
}

/// A relay in this process, until it is drained.
struct Working {
    drain: CancellationToken,
    relay: JoinHandle<anyhow::Result<()>>,
}

impl Working {
    /// `ahead`: by how much its clock is.
    fn start(service: &Service, bus: Bus, ahead: time::Duration) -> Self {
        let drain = CancellationToken::new();
        let relay = Relay::new(service.database.clone(), bus, SOURCE);
        let relay = relay.clock(move || time::OffsetDateTime::now_utc() + ahead);
        Self { relay: tokio::spawn(relay.run(drain.clone())), drain }
    }

    async fn drain(self) -> anyhow::Result<()> {
        self.drain.cancel();
        self.relay.await?
    }
}
