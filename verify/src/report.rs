//! What came of many runs, as a table.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    contract::Ran,
    history::{Answer, Did, Entry, Settled, Verb, What},
};

/// A row for each case and backend, in the order in which they first ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub rows: Vec<Row>,
    /// What was wrong, a line each.
    pub faults: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub case: String,
    pub does: String,
    pub backend: String,
    pub kills: String,
    pub runs: u64,
    /// Events that were confirmed.
    pub published: u64,
    /// Deliveries, and handlers that began.
    pub delivered: u64,
    /// Confirmed events that a fault took, as it may.
    pub lost: u64,
    /// Deliveries of what was done already, which a fault or an operator brought back.
    pub again: u64,
    pub violations: u64,
}

impl Report {
    pub fn add(&mut self, ran: &Ran) {
        self.count(Row {
            case: ran.case.name.to_owned(),
            does: ran.case.does.to_owned(),
            backend: ran.backend.to_owned(),
            kills: ran.case.kills.to_owned(),
            runs: 1,
            published: confirmed(&ran.history).len() as u64,
            delivered: delivered(&ran.history),
            lost: lost(&ran.history),
            again: again(&ran.history),
            violations: ran.violations.len() as u64 + u64::from(ran.failed.is_some()),
        });
        let of = format!("{} on {}, seed {}", ran.case.name, ran.backend, ran.seed);
        self.faults.extend(ran.failed.iter().map(|failed| format!("{of}: {failed}")));
        self.faults.extend(ran.violations.iter().map(|violation| format!("{of}: {violation}")));
    }

    /// Takes in what came of other runs.
    pub fn join(&mut self, other: Self) {
        other.rows.into_iter().for_each(|row| self.count(row));
        self.faults.extend(other.faults);
    }

    fn count(&mut self, row: Row) {
        match self.rows.iter_mut().find(|known| known.case == row.case && known.backend == row.backend) {
            Some(known) => {
                known.runs += row.runs;
                known.published += row.published;
                known.delivered += row.delivered;
                known.lost += row.lost;
                known.again += row.again;
                known.violations += row.violations;
            }
            None => self.rows.push(row),
        }
    }

    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// A table in Markdown, and what was wrong below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| case | backend | what it does | what is killed | runs | published | delivered | lost | again | violations |"
        )?;
        writeln!(f, "|---|---|---|---|--:|--:|--:|--:|--:|--:|")?;
        for row in &self.rows {
            let Row { case, does, backend, kills, runs, published, delivered, lost, again, violations } = row;
            writeln!(
                f,
                "| {case} | {backend} | {does} | {kills} | {runs} | {published} | {delivered} | {lost} | {again} | {violations} |"
            )?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "\n- {fault}"))
    }
}

/// Each event that was confirmed, with its queue and the last place it was confirmed at.
fn confirmed(history: &[Entry]) -> BTreeMap<(&str, &str), (u32, u64)> {
    let (mut asked, mut confirmed) = (HashMap::new(), BTreeMap::new());
    for entry in history {
        match &entry.what {
            What::PublishAsked { op, sent, .. } => {
                asked.insert(op, sent);
            }
            What::PublishAnswered { op, answers } => {
                for (sent, answer) in asked.get(op).into_iter().copied().flatten().zip(answers) {
                    if let Answer::Recorded { partition, position, .. } = answer {
                        let place = (*partition, position.unwrap_or(0));
                        confirmed.insert((sent.queue.as_str(), sent.id.as_str()), place);
                    }
                }
            }
            _ => {}
        }
    }
    confirmed
}

fn delivered(history: &[Entry]) -> u64 {
    let is = |entry: &&Entry| matches!(entry.what, What::Delivered { .. } | What::Handled { did: Did::Started, .. });
    history.iter().filter(is).count() as u64
}

fn lost(history: &[Entry]) -> u64 {
    let (mut held, mut floors) = (HashSet::new(), HashMap::new());
    for entry in history {
        match &entry.what {
            What::Logged { event } => {
                held.insert((event.place.queue.as_str(), event.id.as_str()));
            }
            What::Head { queue, partition, floor, .. } => {
                floors.insert((queue.as_str(), *partition), *floor);
            }
            _ => {}
        }
    }
    let lost = |((queue, id), (partition, position)): &((&str, &str), (u32, u64))| {
        let floor = floors.get(&(*queue, *partition));
        floor.is_some_and(|floor| position >= floor) && !held.contains(&(*queue, *id)) && *position > 0
    };
    confirmed(history).into_iter().filter(lost).count() as u64
}

fn again(history: &[Entry]) -> u64 {
    let (mut tokens, mut acks) = (HashMap::new(), HashMap::new());
    let mut done: HashSet<(&str, &str)> = HashSet::new();
    let mut again = 0;
    for entry in history {
        match &entry.what {
            What::Delivered { group, event, token, .. } => {
                again += u64::from(done.contains(&(group.as_str(), event.id.as_str())));
                tokens.insert((group.as_str(), token.as_str()), event.id.as_str());
            }
            What::SettleAsked { op, group, token, verb: Verb::Ack } => {
                if let Some(id) = tokens.get(&(group.as_str(), token.as_str())) {
                    acks.insert(op, (group.as_str(), *id));
                }
            }
            What::SettleAnswered { op, settled: Settled::Done } => done.extend(acks.get(op).copied()),
            What::Handled { group, event, did, .. } => {
                let key = (group.as_str(), event.id.as_str());
                match did {
                    Did::Started => again += u64::from(done.contains(&key)),
                    Did::Done | Did::Repeated => _ = done.insert(key),
                    Did::Failed => {}
                }
            }
            _ => {}
        }
    }
    again
}
