//! F9 and F11 between clients and brokers: what a network does to some concerns nobody else, and nobody loses anything.

use std::{sync::Arc, time::Duration};

use broker::Settings;
use bus::PublishOptions;
use rand::seq::SliceRandom as _;
use serde_json::json;
use testkit::{Fault as Broken, Way, wire::Wire};
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
};

use super::{SILENT, SOON, equal, metric};
use crate::lab::{Brokers, Fleet, Following, Lab, Notes, Reader, Transport};

/// What happens to the network between some clients and their node; None: their connections are reset.
const ILL: [Option<(Way, Broken)>; 6] = [
    Some((Way::Back, Broken::Delay(Duration::from_millis(300)))),
    Some((Way::Back, Broken::Throttle(4_000))),
    Some((Way::Out, Broken::Swallow)),
    Some((Way::Back, Broken::Swallow)),
    Some((Way::Back, Broken::CutAfter(3_000))),
    None,
];

const LAGGING: &str = "turnpike_broker_lagging";
const WAITING: &str = "turnpike_broker_send_queue_bytes";

/// More than a node keeps in memory of a queue (8 MiB), and sockets besides (6 MiB).
const LARGE: usize = 16 * 1024;
const MANY: usize = 1_100;
const BATCH: usize = 20;
/// What a client's socket takes that nobody reads.
const NARROW: u32 = 128 * 1024;

/// F9: the clients of one node are behind a network that delays, trickles, is half open either way, resets; those of the
/// other one have everything meanwhile.
pub(super) async fn network(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let fleet = Fleet::start(lab, Brokers::new(), 2, stage.seed).await?;
    let readers = equal::follow(stage, &fleet)?;
    let neighbours: Vec<&Reader> = readers.iter().skip(1).step_by(2).collect();
    let mut ills = ILL.repeat(stage.scale as usize);
    ills.shuffle(&mut stage.rng("network"));
    for (round, ill) in ills.into_iter().enumerate() {
        // Each fault finds everybody connected.
        equal::publish(&witness, stage, &format!("before{round}"), 1).await?;
        Reader::all_have(&readers, equal::head(&witness, stage).await?).await;
        witness.harmed("network", Harm::Outage);
        let silent = metric::read(SILENT, stage);
        match ill {
            Some((way, fault)) => fleet.front(0).set(way, fault),
            None => fleet.front(0).cut(),
        }
        equal::publish(&witness, stage, &format!("p{round}"), 30).await?;
        let head = equal::head(&witness, stage).await?;
        testkit::eventually("the others have it meanwhile", SOON, async || {
            neighbours.iter().all(|reader| reader.notes.position() >= head).then_some(())
        })
        .await;
        // What was swallowed is missing on its connection for ever: whoever waits for it has to find that out.
        let is_half_open = ill == Some((Way::Out, Broken::Swallow));
        if is_half_open {
            testkit::eventually("a node finds out that a client is silent", SOON, async || {
                (metric::read(SILENT, stage) > silent).then_some(())
            })
            .await;
        }
        fleet.front(0).set_both(Broken::None);
        if is_half_open {
            // Who came again meanwhile waits for a welcome, for longer than a case should take.
            fleet.front(0).cut();
        }
        witness.healed("network");
    }
    equal::finish(&witness, stage, &readers).await
}

/// F11: a client takes nothing of what it is sent. Nobody waits for it; then it reads, from the log, and has lost nothing.
pub(super) async fn slow(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    // Who reads nothing answers no ping.
    let settings = Settings { heartbeat: Duration::from_millis(400), ..Settings::default() };
    let fleet = Fleet::start(lab, Brokers::with(settings), 1, stage.seed).await?;
    let (queue, at) = (stage.queue()?, fleet.address(0));
    witness.bus.declare_queue(bus::Queue::new(queue.clone())).await?;
    let mut wire = Wire::narrow(at, &fleet.brokers.reader("slow").header(), NARROW).await;
    let sub = json!({ "name": "s", "filter": format!("{queue}/*"), "cursor": "earliest", "credit": 4096 });
    wire.say(&json!({ "id": 1, "sub": sub })).await;
    let slow = Arc::new(Notes::begin(&stage.history, "slow", &queue));
    let before = [LAGGING, WAITING].map(|name| metric::read(name, stage));

    let quick: Vec<_> = [Transport::WebSocket, Transport::Sse]
        .into_iter()
        .map(|transport| {
            let name = format!("{transport:?}");
            let following = Following::new(queue.clone(), at, fleet.brokers.reader(&name));
            Reader::start(&stage.history, &name, transport, following)
        })
        .collect();
    let padding = "x".repeat(LARGE);
    for batch in (0..stage.times(MANY)).collect::<Vec<_>>().chunks(BATCH) {
        let large = |number: &usize| {
            Ok(stage.event(&format!("large-{number}"), &format!("k{}", number % 7))?.data(json!(padding)))
        };
        let events = batch.iter().map(large).collect::<anyhow::Result<Vec<_>>>()?;
        for outcome in witness.publish("p", events, PublishOptions::default()).await? {
            outcome?;
        }
    }
    let head = equal::head(&witness, stage).await?;
    testkit::eventually("nobody waits for it", SOON, async || {
        quick.iter().all(|reader| reader.notes.position() >= head).then_some(())
    })
    .await;
    anyhow::ensure!(slow.position() == 0, "it has read nothing yet");
    witness.history.write(What::Metric { of: WAITING.into(), before: before[1], after: metric::read(WAITING, stage) });

    let mut lagging = before[0];
    while slow.position() < head {
        let frame = tokio::time::timeout(SOON, wire.next()).await??;
        lagging = metric::read(LAGGING, stage).max(lagging);
        if frame["ev"].is_object() {
            let told: client::EventTold = serde_json::from_value(frame["ev"].clone())?;
            slow.event(Some(&told.prev), &told.cursor, &told.event);
            wire.say(&json!({ "ack": { "sub": "s", "cursor": told.cursor } })).await;
        }
        anyhow::ensure!(frame["error"].is_null() && frame["gap"].is_null(), "{frame}");
    }
    witness.history.write(What::Metric { of: LAGGING.into(), before: before[0], after: lagging });
    equal::finish(&witness, stage, &quick).await
}
