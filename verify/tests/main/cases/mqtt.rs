//! F20: of two dispatchers the one whose turn it is stands still with messages on their way, the other one takes over, and the
//! first goes on. A message is known by what it holds: its event's id is the dispatcher's, and would be another one if it came
//! twice.

use bus::{Fence, PublishOptions, Refused};
use events::{Envelope, Name};
use serde_json::json;
use testkit::{Mosquitto, mosquitto};
use time::Duration as Step;
use verify::{
    Site as _,
    contract::Stage,
    history::{Answer, Harm, Level, Sent, What},
    load::{Witness, audit_log_by},
};

use super::SOON;
use crate::lab::{Device, Dispatcher, Lab};

/// What dispatchers call themselves to the MQTT broker.
const CLIENT: &str = "turnpike";
/// Longer than a turn lasts that isn't kept.
const A_TURN: Step = Step::seconds(7);
const MESSAGES: usize = 20;
const PROBE: &str = "probe";

pub(super) async fn ex_leader(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let broker = mosquitto().await;
    let mut field = Field::open(&broker, stage)?;
    let settings = field.settings(&broker.url());
    let mut first = Dispatcher::start(lab, stage, &settings, 1).await?;
    field.is_heard(&witness).await;
    for round in 0..stage.times(1) {
        let other = Dispatcher::beside(lab, &settings).await?;
        field.send(&witness, &format!("{round}-before")).await;
        first.stand_still();
        witness.harmed("paused", Harm::Member { member: "first".into() });
        field.send(&witness, &format!("{round}-paused")).await;
        step(lab, &witness, A_TURN).await?;
        field.is_recorded(&witness).await;
        step(lab, &witness, -A_TURN).await?;
        first.go_on();
        field.send(&witness, &format!("{round}-resumed")).await;
        field.is_recorded(&witness).await;
        witness.healed("paused");
        refused(&witness, stage, round).await?;
        other.end(stage).await;
        // It is the first one's turn again.
        field.send(&witness, &format!("{round}-again")).await;
        field.is_recorded(&witness).await;
    }
    first.end(stage).await;
    witness.history.write(What::Rest);
    audit_log_by(&witness, held).await
}

/// What somebody writes whose turn is over, and who doesn't know.
async fn refused(witness: &Witness, stage: &Stage, round: usize) -> anyhow::Result<()> {
    let fence = Some(Fence { name: format!("mqtt.{CLIENT}"), number: 1 });
    let event = stage.event(&format!("stale-{round}"), "stale")?;
    let outcome = witness.publish("stale", vec![event], PublishOptions { fence, ..PublishOptions::default() }).await?;
    anyhow::ensure!(matches!(outcome[..], [Err(Refused::Fenced { .. })]), "{outcome:?}");
    Ok(())
}

async fn step(lab: &Lab, witness: &Witness, by: Step) -> anyhow::Result<()> {
    witness.harmed("clock", Harm::Clock { by_ms: i64::try_from(by.whole_milliseconds())? });
    lab.clock().step(by);
    lab.housekeep().await?;
    witness.healed("clock");
    Ok(())
}

/// What an event is known by.
fn held(event: &Envelope) -> String {
    event.json().and_then(|data| data.as_str()).map_or_else(|| event.id.clone(), str::to_owned)
}

/// Devices, each with a topic, each of which is mapped to a queue.
struct Field {
    devices: Vec<(Device, &'static str, Name)>,
    probe: Name,
    sent: u64,
}

impl Field {
    fn open(broker: &Mosquitto, stage: &Stage) -> anyhow::Result<Self> {
        let queue = stage.queue()?;
        let mut devices = Vec::new();
        for (topic, queue) in [("a", queue.clone()), ("b", Name::new(&format!("{queue}-B"))?)] {
            devices.push((Device::connect(broker, topic), topic, queue));
        }
        Ok(Self { devices, probe: Name::new(&format!("{queue}-PROBE"))?, sent: 0 })
    }

    fn settings(&self, url: &str) -> String {
        let topics = self.devices.iter().map(|(_, topic, queue)| (*topic, queue)).chain([(PROBE, &self.probe)]);
        let mapping =
            |(topic, queue): (&str, &Name)| json!({ "topic": topic, "to": format!("{queue}/CAME"), "key": "{topic}" });
        let inbound: Vec<_> = topics.map(mapping).collect();
        json!({ "url": url, "client_id": CLIENT, "inbound": inbound }).to_string()
    }

    /// Waits until the topics are subscribed to: from then on the broker keeps what comes.
    async fn is_heard(&self, witness: &Witness) {
        testkit::eventually("a message comes through", SOON, async || {
            self.devices[0].0.publish(PROBE, "0".to_owned()).await;
            (recorded(witness, &self.probe).await? > 0).then_some(())
        })
        .await;
    }

    /// Each device publishes some, one after the other. What the broker has, the bus will have: as if it was for later.
    async fn send(&mut self, witness: &Witness, name: &str) {
        let sending = self.devices.iter().map(async |(device, topic, queue)| {
            for number in 0..MESSAGES {
                let (op, id) = (witness.history.op(), format!("{topic}-{name}-{number}"));
                let sent = Sent {
                    id: id.clone(),
                    queue: queue.to_string(),
                    event: "CAME".to_owned(),
                    key: (*topic).to_owned(),
                    due: Some(0),
                    ..Sent::default()
                };
                let publisher = (*topic).to_owned();
                witness.history.write(What::PublishAsked { op, publisher, level: Level::Stored, sent: vec![sent] });
                device.publish(topic, json!(id).to_string()).await;
                let answers = vec![Answer::Recorded { partition: 0, position: None, duplicate: false }];
                witness.history.write(What::PublishAnswered { op, answers });
            }
        });
        futures_util::future::join_all(sending).await;
        self.sent += MESSAGES as u64;
    }

    /// Waits until everything that was sent is an event.
    async fn is_recorded(&self, witness: &Witness) {
        for (_, topic, queue) in &self.devices {
            testkit::eventually(&format!("{} of {topic} are recorded", self.sent), 2 * SOON, async || {
                (recorded(witness, queue).await? >= self.sent).then_some(())
            })
            .await;
        }
    }
}

/// How many events a queue holds.
async fn recorded(witness: &Witness, queue: &Name) -> Option<u64> {
    let page = witness.bus.read(queue, 0, u64::MAX >> 1, 1).await.ok()?;
    Some(page.next - page.floor)
}
