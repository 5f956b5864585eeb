//! F15: a node dies with all who follow by it, and all of them come again at once: each goes on where it was, nobody is sent
//! away twice.

use broker::Settings;
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
};

use super::{equal, metric};
use crate::lab::{Brokers, Fleet, Following, Lab, Reader, TRANSPORTS};

const CONNECTIONS: &str = "turnpike_broker_connections";
const NODES: usize = 3;
/// Between them and a node is nothing but their sockets: a process has no more descriptors than these, and some.
const SPARE: u64 = 1_000;

pub(super) async fn reconnecting(lab: &Lab, stage: &Stage, count: usize) -> anyhow::Result<()> {
    let descriptors = lifecycle::raise_open_files()?;
    let count = count.min(usize::try_from(descriptors.saturating_sub(SPARE) / 2)?);
    let witness = stage.witness(lab.node().await?);
    let mut fleet = Fleet::start(lab, Brokers::with(Settings::default()), NODES, stage.seed).await?;
    let readers: Vec<Reader> = (0..count)
        .map(|number| {
            let transport = TRANSPORTS[number / NODES % TRANSPORTS.len()];
            let name = format!("{transport:?}-{number}");
            let (queue, at) = (stage.queue()?, fleet.address(number));
            let caller = fleet.brokers.reader(&name);
            Ok(Reader::start(&stage.history, &name, transport, Following::new(queue, at, caller).patient()))
        })
        .collect::<anyhow::Result<_>>()?;
    equal::publish(&witness, stage, "first", 10).await?;
    Reader::all_have(&readers, equal::head(&witness, stage).await?).await;
    for round in 1..=NODES.min(stage.scale as usize) {
        witness.harmed("node", Harm::Member { member: "node".into() });
        let at = fleet.address(round - 1);
        fleet.kill(round - 1).await?;
        let before = metric::read(CONNECTIONS, stage);
        fleet.replace_at(lab, round - 1, at).await?;
        witness.healed("node");
        equal::publish(&witness, stage, &format!("p{round}"), 10).await?;
        Reader::all_have(&readers, equal::head(&witness, stage).await?).await;
        let after = testkit::eventually("they are there again", Reader::patience(count), async || {
            Some(metric::read(CONNECTIONS, stage)).filter(|there| *there > before)
        })
        .await;
        stage.history.write(What::Metric { of: CONNECTIONS.into(), before, after });
    }
    let most = readers.iter().map(|reader| reader.notes.refusals()).max();
    anyhow::ensure!(most < Some(2), "somebody was sent away {most:?} times");
    equal::finish(&witness, stage, &readers).await
}
