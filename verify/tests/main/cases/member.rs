//! F1 to F4: members die, end, share a name, are late, stand still.

use std::time::Duration;

use bus::{Bus, Group, Mode, Verb};
use nix::sys::signal::Signal;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use verify::{
    Site as _,
    contract::Stage,
    history::{Did, Harm, Settled, What},
    load::{Habit, Member, Plan, Team, Traffic, Witness, audit},
};

use super::{SOON, clock::acknowledge_all, handled, plan};
use crate::lab::{Child, Lab, Point, Role};

const EVENTS: usize = 40;

/// F1: killed before it begins, in the middle, and after the effect.
pub(super) async fn killed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let deaths =
        [(Point::Begun, Duration::ZERO), (Point::Never, Duration::from_millis(300)), (Point::Done, Duration::ZERO)];
    for (number, (point, slow)) in deaths.into_iter().enumerate() {
        let witness = stage.witness(lab.node().await?);
        publish(&witness, stage, number).await?;
        drop(witness);
        let role = Role::Handles { point, nth: 10, slow };
        let address = lab.address().await;
        let mut child = Child::start(stage, (lab.backend(), address), role, 1 + number as u64, None);
        if point == Point::Never {
            let begun = |child: &Child| child.entries().iter().any(|entry| is(&entry.what, Did::Started));
            testkit::eventually("it works", SOON, async || begun(&child).then_some(())).await;
            child.kill();
        }
        child.ended().await;
        died(lab, stage, child).await?;
    }
    finish(lab, stage).await
}

/// F2: told to end: it finishes what it began, gives back the rest, and nothing comes twice.
pub(super) async fn terminated(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    publish(&witness, stage, 0).await?;
    drop(witness);
    let role = Role::Handles { point: Point::Never, nth: 0, slow: Duration::from_millis(200) };
    let address = lab.address().await;
    let mut child = Child::start(stage, (lab.backend(), address), role, 1, None);
    let begun = |child: &Child| child.entries().iter().any(|entry| is(&entry.what, Did::Started));
    testkit::eventually("it works", SOON, async || begun(&child).then_some(())).await;
    child.signal(Signal::SIGTERM);
    child.ended().await;
    let entries = child.entries();
    let [begun, done] = [Did::Started, Did::Done].map(|did| entries.iter().filter(|e| is(&e.what, did)).count());
    child.tell(stage);
    anyhow::ensure!(begun == done, "{begun} were begun and {done} done");
    finish(lab, stage).await
}

/// F3: two replicas with one name, each of which takes itself for the only one.
pub(super) async fn namesakes(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    let mut plan = plan(stage, "p", 60)?;
    for team in &mut plan.teams {
        // Who is the one member of a partition is told by its name.
        team.namesakes = team.group.mode != Mode::Exclusive;
    }
    if lab.backend() == "sqlite" {
        return Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await;
    }
    for group in worked(stage)? {
        witness.declare(&group, false).await?;
    }
    let mut children = Vec::new();
    for number in 1..=2 {
        let role = Role::Works { member: "replica".to_owned() };
        children.push(Child::start(stage, (lab.backend(), lab.address().await), role, number, None));
    }
    let mut round = 0;
    while round < stage.times(3) || children.iter().any(|child| settled(child) == 0) {
        anyhow::ensure!(round < stage.times(30), "one of them never gets anything");
        more(&witness, stage, round).await?;
        idle(&witness, stage).await?;
        round += 1;
    }
    for mut child in children {
        child.signal(Signal::SIGTERM);
        child.ended().await;
        child.tell(stage);
    }
    witness.history.write(What::Rest);
    audit(&witness).await
}

/// F4: a process stands still with all that it has, past its leases, and goes on.
pub(super) async fn paused(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    if lab.backend() == "sqlite" {
        let (address, role) = (lab.address().await, Role::Load { events: 150 });
        let mut child = Child::start(stage, (lab.backend(), address), role, 1, None);
        for round in 1..=stage.times(2) {
            testkit::eventually("it works", SOON, async || (settled(&child) >= 30 * round).then_some(())).await;
            stand_still(&child).await;
        }
        child.ended().await;
        child.tell(stage);
        return Ok(());
    }
    let witness = stage.witness(lab.node().await?);
    for group in worked(stage)? {
        witness.declare(&group, false).await?;
    }
    let role = Role::Works { member: "paused".to_owned() };
    let mut child = Child::start(stage, (lab.backend(), lab.address().await), role, 1, None);
    let late = |child: &Child| {
        let lost = |what: &What| matches!(what, What::SettleAnswered { settled: Settled::LeaseLost, .. });
        child.entries().iter().filter(|entry| lost(&entry.what)).count()
    };
    let mut round = 0;
    while round < stage.times(2) || late(&child) == 0 {
        anyhow::ensure!(round < stage.times(20), "what it held was never somebody else's");
        more(&witness, stage, round).await?;
        testkit::eventually("it holds something", SOON, async || (held(&child) > 0).then_some(())).await;
        child.signal(Signal::SIGSTOP);
        witness.harmed("paused", Harm::Member { member: "paused".into() });
        for group in worked(stage)? {
            acknowledge_all(&witness, &group.name).await?;
        }
        child.signal(Signal::SIGCONT);
        testkit::eventually("it has settled all that it had", SOON, async || (held(&child) == 0).then_some(())).await;
        witness.healed("paused");
        round += 1;
    }
    child.signal(Signal::SIGTERM);
    child.ended().await;
    child.tell(stage);
    witness.history.write(What::Rest);
    audit(&witness).await
}

/// F4: members acknowledge when their leases are over.
pub(super) async fn late(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    // By hand: it is late for certain, and somebody else has it by then.
    let group = stage.group("late", Mode::Parallel)?;
    witness.declare(&group, false).await?;
    witness.publish("q", vec![stage.event("late", "k")?], bus::PublishOptions::default()).await?;
    let late = next(&witness, &group.name, "paused").await?;
    tokio::time::sleep(group.lease).await;
    let taken = next(&witness, &group.name, "other").await?;
    let settled = witness.settle(&group.name, late, Verb::Ack).await?;
    witness.settle(&group.name, taken, Verb::Ack).await?;
    anyhow::ensure!(settled == Settled::LeaseLost, "a stale token settles");
    let habit = Habit { late: 4, forgets: 2, extends: 10, at_once: 4, ..Habit::default() };
    let plan = Plan {
        teams: vec![
            Team::by_hand(stage.group("parallel", Mode::Parallel)?, 4, habit),
            Team::by_hand(stage.group("keyed", Mode::Keyed)?, 4, habit),
            Team::by_hand(stage.group("exclusive", Mode::Exclusive)?, 2, habit),
            Team::by_hand(group, 1, Habit { at_once: 8, ..Habit::default() }),
        ],
        ..plan(stage, "p", 30)?
    };
    Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await
}

async fn next(witness: &Witness, group: &str, member: &str) -> anyhow::Result<bus::Token> {
    let token = testkit::eventually("it is delivered", SOON, async || {
        witness.claim(group, member, 1).await.ok()?.leased.first().map(|leased| leased.token)
    });
    Ok(token.await)
}

async fn publish(witness: &Witness, stage: &Stage, round: usize) -> anyhow::Result<()> {
    witness.declare(&handled(stage), true).await?;
    for number in 0..stage.times(EVENTS) {
        let event = stage.event(&format!("{round}-{number}"), &format!("k{number}"))?;
        witness.publish("p", vec![event], bus::PublishOptions::default()).await?;
    }
    Ok(())
}

/// A child's end, as a fault of the history: before it whatever the child was doing, after it whoever comes.
async fn died(lab: &Lab, stage: &Stage, child: Child) -> anyhow::Result<()> {
    child.tell(stage);
    let witness = stage.witness(lab.node().await?);
    witness.harmed("child", Harm::Member { member: "child".into() });
    witness.harmed("child", Harm::Restart);
    witness.healed("child");
    Ok(())
}

/// Others take over.
async fn finish(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let bus = lab.node().await?;
    let witness = stage.witness(bus.clone());
    let team = Team::of_consumers(handled(stage), 2, Duration::ZERO);
    let plan = Plan { teams: vec![team], ..plan(stage, "last", 10)? };
    Traffic::start(&witness, &[bus], &plan, stage.seed).await?.rest().await
}

/// A child's load: it works by hand until it is told to end.
pub(crate) async fn work(stage: &Stage, bus: Bus, name: &str) {
    let (calm, stop) = (watch::Sender::new(false), CancellationToken::new());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let mut working = JoinSet::new();
    for group in worked(stage).unwrap() {
        let member = Member {
            witness: stage.witness(bus.clone()),
            mode: group.mode,
            lease: group.lease,
            name: name.to_owned(),
            habit: Habit { at_once: 8, slow: Duration::from_millis(20), ..Habit::default() },
            rng: stage.rng(&format!("{}-{}", group.name, std::process::id())),
            calm: calm.subscribe(),
            stop: stop.clone(),
            group: group.name,
        };
        working.spawn(member.run());
    }
    terminate.recv().await;
    stop.cancel();
    working.join_all().await;
}

/// A child's load: everybody at once, until all of it is settled and looked at.
pub(crate) async fn load(stage: &Stage, bus: Bus, events: usize) {
    let witness = stage.witness(bus.clone());
    let plan = plan(stage, "p", events).unwrap();
    Traffic::start(&witness, &[bus], &plan, stage.seed).await.unwrap().rest().await.unwrap();
}

/// The groups in which children work by hand.
fn worked(stage: &Stage) -> anyhow::Result<[Group; 2]> {
    Ok([stage.group("parallel", Mode::Parallel)?, stage.group("keyed", Mode::Keyed)?])
}

async fn more(witness: &Witness, stage: &Stage, round: usize) -> anyhow::Result<()> {
    let wares = stage.wares(1)?;
    let events = (0..EVENTS).map(|n| wares.event(&format!("{round}-{n}"), &format!("k{}", n % 10), n)).collect();
    for outcome in witness.publish("p", events, bus::PublishOptions::default()).await? {
        outcome?;
    }
    Ok(())
}

/// Longer than a lease, and than what the machine may take to notice.
async fn stand_still(child: &Child) {
    child.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    child.signal(Signal::SIGCONT);
}

/// Waits until nothing is left for the groups in which children work.
async fn idle(witness: &Witness, stage: &Stage) -> anyhow::Result<()> {
    let names = worked(stage)?.map(|group| group.name);
    testkit::eventually("everything is worked off", 2 * SOON, async || {
        let groups = witness.bus.groups().await.ok()?;
        groups.iter().filter(|group| names.contains(&group.name)).all(|group| group.lag == 0).then_some(())
    })
    .await;
    Ok(())
}

/// How many deliveries a child has settled.
fn settled(child: &Child) -> usize {
    let done = |what: &What| matches!(what, What::SettleAnswered { settled: Settled::Done, .. });
    child.entries().iter().filter(|entry| done(&entry.what)).count()
}

/// How many it has, and didn't begin to settle.
fn held(child: &Child) -> usize {
    let entries = child.entries();
    let count = |is: fn(&What) -> bool| entries.iter().filter(|entry| is(&entry.what)).count();
    let had = count(|what| matches!(what, What::Delivered { .. }));
    had.saturating_sub(count(|what| matches!(what, What::SettleAnswered { .. })))
}

fn is(what: &What, did: Did) -> bool {
    matches!(what, What::Handled { did: other, .. } if *other == did)
}
