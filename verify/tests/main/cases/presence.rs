//! C13, F16: who comes and who goes, by several devices, at several nodes, of which one dies: it is told once each, and nobody
//! who moved in time is told to be gone (I12).

use std::{collections::BTreeMap, time::Duration};

use broker::Settings;
use events::Name;
use futures_util::{StreamExt as _, stream};
use rand::Rng as _;
use serde_json::json;
use testkit::wire::Wire;
use time::Duration as Step;
use tokio::task::JoinHandle;
use verify::{
    Site as _,
    contract::Stage,
    history::{Frame, Harm, History, What},
    load::{Witness, audit_queue},
};

use super::SOON;
use crate::lab::{Brokers, Fleet, Following, Lab, Reader, Stepping, Transport};

const USERS: usize = 5;
/// What each does, one after the other.
const MOVES: usize = 6;
const DEVICES: usize = 3;

/// The clock goes four times as fast: whoever tells that it lives, every second, still does so in time.
const TICK: Duration = Duration::from_millis(100);
const LEAP: Step = Step::milliseconds(300);

/// Of which one dies.
const NODES: usize = 3;
/// Connected at once, at most.
const AT_ONCE: usize = 50;
/// Asked about at once, at most.
const ASKED: usize = 200;

const WATCHERS: [Transport; 2] = [Transport::WebSocket, Transport::Sse];

/// A connection of a user.
struct Device {
    user: String,
    name: String,
    wire: Wire,
}

/// C13: users come, are cut and say goodbye, by several devices at two nodes.
pub(super) async fn devices(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let fleet = Fleet::start(lab, patient(), 2, stage.seed).await?;
    let watchers = watch(stage, &fleet, 0);
    let time = Haste::begin(lab.clock().clone(), stage.history.clone());
    let users = (0..stage.times(USERS)).map(|number| roam(&witness, stage, &fleet, number));
    let devices: Vec<Device> = futures_util::future::try_join_all(users).await?.into_iter().flatten().collect();
    settle(&witness, stage, &devices, &watchers).await?;
    drop(time);
    finish(&witness).await
}

/// F16: a node dies with so many present, of whom every third comes to another node in time.
pub(super) async fn killed(lab: &Lab, stage: &Stage, count: usize) -> anyhow::Result<()> {
    let mut fleet = Fleet::start(lab, patient(), NODES, stage.seed).await?;
    let watchers = watch(stage, &fleet, 1);
    let here = crowd(stage, &fleet, 0, (0..count).collect()).await;
    testkit::eventually("all are told to be online", 2 * SOON, async || {
        let online =
            |what: &What| matches!(what, What::Frame { frame: Frame::Event(seen), .. } if seen.event == "ONLINE");
        (stage.history.count(online) >= (count + watchers.len()) * watchers.len()).then_some(())
    })
    .await;
    here.iter().for_each(|device| device.goes(stage, false));
    stage.history.write(What::Harmed { by: "node".into(), harm: Harm::Outage });
    fleet.kill(0).await?;
    if lab.backend() == "sqlite" {
        // One process has the file: with it go all its brokers.
        for number in 1..NODES {
            fleet.kill(number).await?;
        }
        lab.sqlite().close();
        for number in 1..NODES {
            fleet.replace(lab, number).await?;
        }
    }
    stage.history.write(What::Healed { by: "node".into() });
    drop(here);
    let moved = crowd(stage, &fleet, 1, (0..count).step_by(3).collect()).await;
    let witness = stage.witness(lab.node().await?);
    let there: Vec<String> = moved.iter().map(|device| device.user.clone()).chain(WATCHERS.map(watcher)).collect();
    testkit::eventually("they are there", SOON, async || {
        for names in there.chunks(ASKED) {
            let shown = witness.bus.online(names).await.ok()?;
            shown.iter().all(|shown| shown.connections > 0).then_some(())?;
        }
        Some(())
    })
    .await;
    let time = Haste::begin(lab.clock().clone(), stage.history.clone());
    settle(&witness, stage, &moved, &watchers).await?;
    drop(time);
    finish(&witness).await
}

/// Of each user one device, at a node.
async fn crowd(stage: &Stage, fleet: &Fleet, node: usize, users: Vec<usize>) -> Vec<Device> {
    let coming = users.into_iter().map(|number| {
        let user = format!("{}/{number}", stage.case());
        Device::come(stage, &fleet.brokers, fleet.address(node), user, format!("{number}-{node}"))
    });
    stream::iter(coming).buffer_unordered(AT_ONCE).collect().await
}

/// What one user does; the devices it has in the end.
async fn roam(witness: &Witness, stage: &Stage, fleet: &Fleet, number: usize) -> anyhow::Result<Vec<Device>> {
    let user = format!("{}/{number}", stage.case());
    let mut rng = stage.rng(&user);
    let mut devices: Vec<Device> = Vec::new();
    for turn in 0..MOVES {
        let comes = devices.is_empty() || (devices.len() < DEVICES && rng.random_bool(0.4));
        if comes {
            let at = fleet.address(rng.random_range(0..2));
            devices.push(Device::come(stage, &fleet.brokers, at, user.clone(), format!("{number}-{turn}")).await);
        } else {
            let device = devices.remove(rng.random_range(0..devices.len()));
            device.leave(stage, rng.random()).await?;
        }
        // Who comes and is cut in one moment was never there, as far as the bus is told.
        counts(witness, &user, devices.len()).await;
        tokio::time::sleep(TICK * rng.random_range(0..8)).await;
    }
    // The last ones are cut, say goodbye, go over to the other node, or stay.
    match number % 4 {
        0 | 1 => {
            for device in devices.drain(..) {
                device.leave(stage, number.is_multiple_of(4)).await?;
            }
        }
        2 => {
            for device in devices.drain(..) {
                device.leave(stage, false).await?;
            }
            let at = fleet.address(rng.random_range(0..2));
            devices.push(Device::come(stage, &fleet.brokers, at, user.clone(), format!("{number}-moved")).await);
            counts(witness, &user, 1).await;
        }
        _ => {}
    }
    Ok(devices)
}

/// Waits until the bus knows of so many connections of a user.
async fn counts(witness: &Witness, user: &str, connections: usize) {
    testkit::eventually("it is known", SOON, async || {
        let shown = witness.bus.online(&[user.to_owned()]).await.ok()?;
        (shown[0].connections == connections).then_some(())
    })
    .await;
}

/// Waits until the bus has it as it is: these are there, and nobody else; and everybody who watches was told.
async fn settle(witness: &Witness, stage: &Stage, there: &[Device], watchers: &[Reader]) -> anyhow::Result<()> {
    let mut users: BTreeMap<String, bool> = BTreeMap::new();
    for entry in stage.history.entries() {
        if let What::Comes { user, .. } = entry.what {
            let is_there = there.iter().any(|device| device.user == user) || user.starts_with("watcher");
            users.insert(user, is_there);
        }
    }
    let names: Vec<String> = users.keys().cloned().collect();
    testkit::eventually("it is so", 2 * SOON, async || {
        for names in names.chunks(ASKED) {
            let shown = witness.bus.online(names).await.ok()?;
            if shown.iter().any(|shown| users[&shown.user] != shown.online) {
                return None;
            }
        }
        Some(())
    })
    .await;
    let head = witness.bus.read(&presence(), 0, u64::MAX >> 1, 1).await?.next - 1;
    Reader::all_have(watchers, head).await;
    Ok(())
}

async fn finish(witness: &Witness) -> anyhow::Result<()> {
    witness.history.write(What::Rest);
    audit_queue(witness, &presence()).await
}

/// Those who follow what is told of others, on two transports, at a node; they are there, too.
fn watch(stage: &Stage, fleet: &Fleet, node: usize) -> Vec<Reader> {
    let watchers = WATCHERS.into_iter().enumerate();
    watchers
        .map(|(number, transport)| {
            let user = watcher(transport);
            let (at, caller) = (fleet.front(node + number).address(), fleet.brokers.reader(&user));
            let following = Following::new(presence(), at, caller);
            stage.history.write(What::Comes { user: user.clone(), connection: user.clone() });
            Reader::start(&stage.history, &user, transport, following)
        })
        .collect()
}

/// Devices that nobody reads don't answer pings.
fn patient() -> Brokers {
    Brokers::with(Settings { heartbeat: Duration::from_millis(400), ..Settings::default() })
}

fn watcher(transport: Transport) -> String {
    format!("watcher/{transport:?}")
}

fn presence() -> Name {
    bus::presence::presence()
}

impl Device {
    async fn come(stage: &Stage, brokers: &Brokers, at: std::net::SocketAddr, user: String, name: String) -> Self {
        let wire = Wire::open(at, &brokers.reader(&user).header()).await;
        stage.history.write(What::Comes { user: user.clone(), connection: name.clone() });
        Self { user, name, wire }
    }

    fn goes(&self, stage: &Stage, bye: bool) {
        stage.history.write(What::Goes { user: self.user.clone(), connection: self.name.clone(), bye });
    }

    /// With a word, or cut.
    async fn leave(mut self, stage: &Stage, bye: bool) -> anyhow::Result<()> {
        self.goes(stage, bye);
        if bye {
            self.wire.say(&json!({ "bye": {} })).await;
            let code = self.wire.closed().await;
            anyhow::ensure!(code == 1000, "who says goodbye is closed with {code}");
        }
        Ok(())
    }
}

/// The clock of the bus hastens, until it is dropped.
struct Haste(JoinHandle<()>);

impl Haste {
    fn begin(clock: Stepping, history: History) -> Self {
        Self(tokio::spawn(async move {
            let by_ms = i64::try_from(LEAP.whole_milliseconds()).unwrap();
            loop {
                tokio::time::sleep(TICK).await;
                // Not before it is written: what the bus finds by it comes after.
                history.write(What::Harmed { by: "clock".into(), harm: Harm::Clock { by_ms } });
                clock.step(LEAP);
            }
        }))
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        self.0.abort();
    }
}
