//! What is there in the end: the log, where each event stands with each group, the dead letters.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bus::Error;
use events::{Envelope, Name};
use tokio::time::Instant;

use super::{Witness, witness::seen};
use crate::history::{Answer, Place, Seen, What};

const PAGE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes down what the queues and groups of the history hold.
///
/// # Errors
/// If the bus stays away.
pub async fn audit(witness: &Witness) -> anyhow::Result<()> {
    let (mut queues, mut groups) = (BTreeSet::new(), BTreeMap::new());
    for entry in witness.history.entries() {
        match entry.what {
            What::PublishAsked { sent, .. } => queues.extend(sent.into_iter().map(|sent| sent.queue)),
            What::Group { name, queue, .. } => {
                groups.insert(name, queue);
            }
            _ => {}
        }
    }
    let places = look(witness, &queues, &own_id).await?;
    for event in places.values() {
        let queue = Name::new(&event.place.queue)?;
        let ask = || witness.bus.standing(&queue, event.place.partition, event.place.position);
        for (group, stands) in insist(ask).await? {
            if groups.contains_key(&group) {
                let standing = stands.name().to_owned();
                witness.history.write(What::Stands { group, event: event.clone(), standing });
            }
        }
    }
    for group in groups.keys() {
        letters(witness, group).await?;
    }
    Ok(())
}

/// Writes down what the queues of the history hold, and nothing of groups: for more than can be asked one by one.
///
/// # Errors
/// If the bus stays away.
pub async fn audit_log(witness: &Witness) -> anyhow::Result<()> {
    audit_log_by(witness, own_id).await
}

/// The same of events that the history knows by something else than their ids.
///
/// # Errors
/// If the bus stays away.
pub async fn audit_log_by(witness: &Witness, id: impl Fn(&Envelope) -> String) -> anyhow::Result<()> {
    let mut queues = BTreeSet::new();
    for entry in witness.history.entries() {
        if let What::PublishAsked { sent, .. } = entry.what {
            queues.extend(sent.into_iter().map(|sent| sent.queue));
        }
    }
    look(witness, &queues, &id).await.map(drop)
}

fn own_id(event: &Envelope) -> String {
    event.id.clone()
}

/// Writes down what a queue holds in which the bus itself records.
///
/// # Errors
/// If the bus stays away.
pub async fn audit_queue(witness: &Witness, queue: &Name) -> anyhow::Result<()> {
    read(witness, queue, &own_id, &mut BTreeMap::new()).await
}

/// Where it was confirmed that an event lies, and where it lies.
async fn look(
    witness: &Witness,
    queues: &BTreeSet<String>,
    id: &impl Fn(&Envelope) -> String,
) -> anyhow::Result<BTreeMap<(String, String), Seen>> {
    let mut places = confirmed(witness);
    for queue in queues {
        read(witness, &Name::new(queue)?, id, &mut places).await?;
    }
    Ok(places)
}

/// Writes down the receipts that came into a queue.
///
/// # Errors
/// If the bus stays away.
pub async fn receipts(witness: &Witness, queue: &Name) -> anyhow::Result<()> {
    let count = insist(|| witness.bus.partition(queue, "")).await?.count;
    for partition in 0..count {
        let mut from = 1;
        loop {
            let page = insist(|| witness.bus.read(queue, partition, from, PAGE)).await?;
            let Some(last) = page.events.last() else { break };
            from = last.position + 1;
            witness.history.write_all(page.events.iter().filter_map(|logged| {
                let of = logged.envelope.causationid.clone()?;
                Some(What::Receipt { of, says: logged.envelope.event.to_string() })
            }));
        }
    }
    Ok(())
}

fn confirmed(witness: &Witness) -> BTreeMap<(String, String), Seen> {
    let (mut asked, mut places) = (BTreeMap::new(), BTreeMap::new());
    for entry in witness.history.entries() {
        match entry.what {
            What::PublishAsked { op, sent, .. } => {
                asked.insert(op, sent);
            }
            What::PublishAnswered { op, answers } => {
                for (sent, answer) in asked.remove(&op).unwrap_or_default().into_iter().zip(answers) {
                    if let Answer::Recorded { partition, position: Some(position), .. } = answer {
                        let place = Place { queue: sent.queue.clone(), partition, position };
                        let event = Seen { id: sent.id.clone(), event: sent.event, key: sent.key, place };
                        places.insert((sent.queue, sent.id), event);
                    }
                }
            }
            _ => {}
        }
    }
    places
}

async fn read(
    witness: &Witness,
    queue: &Name,
    id: &impl Fn(&Envelope) -> String,
    places: &mut BTreeMap<(String, String), Seen>,
) -> anyhow::Result<()> {
    let count = insist(|| witness.bus.partition(queue, "")).await?.count;
    let mut held: BTreeMap<Place, String> = BTreeMap::new();
    let mut heads = BTreeMap::new();
    for partition in 0..count {
        let mut from = 1;
        loop {
            let page = insist(|| witness.bus.read(queue, partition, from, PAGE)).await?;
            heads.insert(partition, (page.floor, page.next));
            let Some(last) = page.events.last() else {
                witness.history.write(What::Head {
                    queue: queue.to_string(),
                    partition,
                    floor: page.floor,
                    next: page.next,
                });
                break;
            };
            from = last.position + 1;
            for logged in &page.events {
                let event = Seen { id: id(&logged.envelope), ..seen(&logged.envelope, partition, logged.position) };
                held.insert(event.place.clone(), event.id.clone());
                witness.history.write(What::Logged { event: event.clone() });
                places.insert((queue.to_string(), event.id.clone()), event);
            }
        }
    }
    // What was lost stands nowhere: its place is another event's, or beyond the head.
    places.retain(|_, event| {
        let of_queue = event.place.queue == queue.as_str();
        let below = heads.get(&event.place.partition).is_some_and(|(floor, _)| event.place.position < *floor);
        !of_queue || below || held.get(&event.place) == Some(&event.id)
    });
    Ok(())
}

async fn letters(witness: &Witness, group: &str) -> anyhow::Result<()> {
    let mut after = (0, 0);
    loop {
        let letters = match insist(|| witness.bus.dead_letters(group, after, PAGE)).await {
            // Nobody declared it again after it was forgotten.
            Err(Error::NoGroup(_)) => return Ok(()),
            letters => letters?,
        };
        let Some(last) = letters.last() else { return Ok(()) };
        after = (last.partition, last.position);
        witness.history.write_all(letters.iter().map(|letter| What::Letter {
            group: group.to_owned(),
            event: seen(&letter.envelope, letter.partition, letter.position),
            reason: letter.reason.clone(),
            attempts: letter.attempts,
        }));
    }
}

/// Asks until the bus is there.
pub(super) async fn insist<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(Error::Unavailable(_)) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(50)).await,
            answer => return answer,
        }
    }
}
