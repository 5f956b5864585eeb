//! C15, F9 and F18 of webhooks: endpoints that put off, acknowledge later, end, are behind a bad network, are down for hours.

use std::time::Duration;

use bus::PublishOptions;
use rand::Rng as _;
use testkit::{Fault as Broken, FaultProxy, Way};
use time::Duration as Step;
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::{Witness, audit},
};
use webhooks::{Endpoint, NewEndpoint, Reason, Signature, State};

use super::SOON;
use crate::lab::{Hooks, Lab, OFFICIAL, Reply};

const KEYS: usize = 6;
/// As long as an endpoint may take by itself.
const PATIENT: Duration = Duration::from_secs(20);
/// Where answers don't come, that is soon known.
const IMPATIENT: Duration = Duration::from_secs(1);
/// Longer than two keys of an endpoint overlap.
const A_DAY_LATER: Step = Step::hours(25);
/// Longer than an endpoint that fails is spared.
const LATER: Step = Step::minutes(30);
/// What comes so long after a fault isn't excused by it.
const AFTERWARDS: Duration = Duration::from_millis(1_200);
/// Members look after what is due so often, when nothing wakes them.
const A_LOOK: Duration = Duration::from_secs(6);

/// What becomes of what lies between: late, in a trickle, into nothing, cut off in the request and in the answer.
const NETWORKS: [(Way, Broken); 5] = [
    (Way::Out, Broken::Delay(Duration::from_secs(3))),
    (Way::Back, Broken::Throttle(40)),
    (Way::Out, Broken::Swallow),
    (Way::Out, Broken::CutAfter(200)),
    (Way::Back, Broken::CutAfter(20)),
];

/// C15: two kinds of signatures, the official secret among them; keys are changed; endpoints put events off and acknowledge
/// them later.
pub(super) async fn delivered(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let mut hooks = Hooks::open(lab, stage, 2, PATIENT).await?;
    let (shared, public) = (hooks.receiver().await, hooks.receiver().await);
    let mut rng = stage.rng("habits");
    for receiver in [&shared, &public] {
        let first: usize = rng.random_range(0..16);
        // Never one failure behind another: nobody is spared.
        receiver.answers(move |number| match (number + first) % 16 {
            2 | 10 => Reply::Postpones(429, 0),
            5 => Reply::Postpones(503, 1),
            0 | 7 | 12 => Reply::Accepts,
            _ => Reply::Done,
        });
    }
    let ordered = NewEndpoint { ordered: true, secret: Some(OFFICIAL.into()), ..hooks.at(shared.address) };
    let ordered = hooks.register(&shared, ordered).await?;
    let unordered = NewEndpoint { signature: Signature::V1a, ..hooks.at(public.address) };
    let unordered = hooks.register(&public, unordered).await?;
    let both = [&ordered, &unordered];
    publish(&witness, stage, "first", 30).await?;
    hooks.settled(&both).await;
    hooks.rotate(&shared, &ordered).await?;
    hooks.rotate(&public, &unordered).await?;
    let mut round = 0;
    while !both.iter().all(|endpoint| is_signed_twice(&witness, endpoint)) {
        anyhow::ensure!(round < 500, "a new key is never used");
        publish(&witness, stage, &format!("rotated{round}"), 4).await?;
        hooks.settled(&both).await;
        round += 1;
    }
    // Who hasn't noticed the new key will within a second, which may be a day by this clock.
    hooks.restart(|_| ()).await?;
    pass(lab, &witness, A_DAY_LATER).await?;
    publish(&witness, stage, "later", 30).await?;
    hooks.settled(&both).await;
    rest(&witness).await
}

/// Whether a request to it was signed by two keys.
fn is_signed_twice(witness: &Witness, endpoint: &Endpoint) -> bool {
    let group = endpoint.group();
    let twice =
        |what: &What| matches!(what, What::Posted { endpoint, keys, .. } if *endpoint == group && keys.len() > 1);
    witness.history.count(twice) > 0
}

/// C15: an endpoint says that it wants nothing any more, is enabled again, and has missed nothing.
pub(super) async fn gone(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let mut hooks = Hooks::open(lab, stage, 2, PATIENT).await?;
    let receiver = hooks.receiver().await;
    let endpoint = hooks.register(&receiver, hooks.at(receiver.address)).await?;
    publish(&witness, stage, "before", 10).await?;
    hooks.settled(&[&endpoint]).await;
    receiver.answers(|_| Reply::Fails(410));
    publish(&witness, stage, "gone", 10).await?;
    testkit::eventually("it is disabled", SOON, async || {
        let state = hooks.webhooks.get(&endpoint.id).await.ok()?.state;
        matches!(state, State::Disabled(disabled) if disabled.reason == Reason::Gone).then_some(())
    })
    .await;
    hooks.disable(&endpoint).await?;
    publish(&witness, stage, "away", 10).await?;
    pass(lab, &witness, LATER).await?;
    receiver.answers(|_| Reply::Done);
    tokio::time::sleep(AFTERWARDS).await;
    let resumed = hooks.enable(&endpoint).await?;
    anyhow::ensure!(resumed.count == 20, "{} are to come", resumed.count);
    hooks.settled(&[&endpoint]).await;
    rest(&witness).await
}

/// F9: each endpoint is behind a network with another fault.
pub(super) async fn network(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let hooks = Hooks::open(lab, stage, 1, IMPATIENT).await?;
    let mut places = Vec::new();
    for _ in NETWORKS {
        let receiver = hooks.receiver().await;
        let network = FaultProxy::start(receiver.address, stage.seed).await;
        let ordered = NewEndpoint { ordered: true, ..hooks.at(network.address()) };
        let endpoint = hooks.register(&receiver, ordered).await?;
        places.push((endpoint, network, receiver));
    }
    let endpoints: Vec<_> = places.iter().map(|(endpoint, ..)| endpoint).collect();
    witness.harmed("network", Harm::Outage);
    for round in 0..stage.times(1) {
        publish(&witness, stage, &format!("before{round}"), 10).await?;
        hooks.settled(&endpoints).await;
        for ((_, network, _), (way, fault)) in places.iter().zip(NETWORKS) {
            network.set(way, fault);
        }
        let mut failures = Vec::new();
        for endpoint in &endpoints {
            failures.push(hooks.failures(endpoint).await);
        }
        publish(&witness, stage, &format!("amid{round}"), 10).await?;
        for (endpoint, before) in endpoints.iter().zip(failures) {
            testkit::eventually("it fails", SOON, async || (hooks.failures(endpoint).await > before).then_some(()))
                .await;
        }
        for (_, network, _) in &places {
            network.set_both(Broken::None);
            network.cut();
        }
        publish(&witness, stage, &format!("after{round}"), 10).await?;
        comes_through(lab, &witness, &hooks, &endpoints).await?;
    }
    witness.healed("network");
    rest(&witness).await
}

/// F18: it is down for six hours, first its server, then what is behind it; is disabled, and enabled again.
pub(super) async fn outage(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let mut hooks = Hooks::open(lab, stage, 1, PATIENT).await?;
    let receiver = hooks.receiver().await;
    let network = FaultProxy::start(receiver.address, stage.seed).await;
    let ordered = NewEndpoint { ordered: true, ..hooks.at(network.address()) };
    let endpoint = hooks.register(&receiver, ordered).await?;
    publish(&witness, stage, "before", 12).await?;
    hooks.settled(&[&endpoint]).await;

    network.refuse(true).await;
    network.cut();
    let mut failures = hooks.failures(&endpoint).await;
    for hour in 0..6 {
        if hour == 3 {
            receiver.answers(|_| Reply::Fails(503));
            network.refuse(false).await;
        }
        publish(&witness, stage, &format!("hour{hour}"), stage.times(6)).await?;
        for _ in 0..2 {
            failures = is_spared(&hooks, &endpoint, failures).await;
            pass(lab, &witness, LATER).await?;
        }
    }
    is_spared(&hooks, &endpoint, failures).await;
    hooks.disable(&endpoint).await?;
    publish(&witness, stage, "disabled", 12).await?;
    pass(lab, &witness, LATER).await?;
    tokio::time::sleep(AFTERWARDS).await;
    receiver.answers(|_| Reply::Done);
    let resumed = hooks.enable(&endpoint).await?;
    let (expected, lost) = (6 * stage.times(6) as u64 + 12, resumed.before.lost);
    anyhow::ensure!((resumed.count, lost) == (expected, 0), "{} are to come, {lost} are lost", resumed.count);
    hooks.settled(&[&endpoint]).await;
    rest(&witness).await
}

/// Waits until it was tried again, and is left alone since; how often it has failed.
async fn is_spared(hooks: &Hooks, endpoint: &Endpoint, before: usize) -> usize {
    testkit::eventually("it is tried", SOON, async || (hooks.failures(endpoint).await > before).then_some(())).await;
    hooks.nobody_is_at(endpoint).await;
    hooks.failures(endpoint).await
}

/// Lets time pass until everything is delivered.
async fn comes_through(lab: &Lab, witness: &Witness, hooks: &Hooks, endpoints: &[&Endpoint]) -> anyhow::Result<()> {
    for _ in 0..20 {
        pass(lab, witness, LATER).await?;
        let looked = tokio::time::Instant::now() + A_LOOK;
        while tokio::time::Instant::now() < looked {
            if hooks.is_settled(endpoints).await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    anyhow::bail!("something stays where the network was bad")
}

async fn pass(lab: &Lab, witness: &Witness, time: Step) -> anyhow::Result<()> {
    witness.harmed("clock", Harm::Clock { by_ms: i64::try_from(time.whole_milliseconds())? });
    lab.clock().step(time);
    lab.housekeep().await?;
    witness.healed("clock");
    Ok(())
}

async fn publish(witness: &Witness, stage: &Stage, name: &str, count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        let event = stage.event(&format!("{name}-{number}"), &format!("k{}", number % KEYS))?;
        witness.publish("p", vec![event], PublishOptions::default()).await?.remove(0)?;
    }
    Ok(())
}

async fn rest(witness: &Witness) -> anyhow::Result<()> {
    witness.history.write(What::Rest);
    audit(witness).await
}
