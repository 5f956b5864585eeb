//! A history, joined: answers with their questions, settlements with their deliveries, faults with their ends.

use std::collections::{BTreeMap, HashMap};

use crate::history::{
    Action, Answer, Begins, Entry, Filter, Harm, Level, Mode, Op, Place, Seen, Sent, Settled, Verb, What,
};

/// Clocks of several processes, and milliseconds that were rounded, differ by less.
pub(super) const SLACK: u64 = 100_000;

/// What was done before a fault may be told after it.
pub(super) const UNDER_WAY: u64 = 1_000_000;

pub(super) struct View<'a> {
    pub(super) entries: &'a [Entry],
    pub(super) groups: BTreeMap<&'a str, Group<'a>>,
    pub(super) publishes: Vec<Publish<'a>>,
    /// In the order they were handed out.
    pub(super) deliveries: Vec<Delivery<'a>>,
    pub(super) faults: Vec<Fault<'a>>,
    pub(super) actions: Vec<(usize, &'a str, Action)>,
    /// What the log held in the end, and who said so.
    pub(super) log: BTreeMap<&'a Place, (usize, &'a Seen)>,
    /// Each partition's floor and next position in the end.
    pub(super) heads: BTreeMap<(&'a str, u32), (u64, u64)>,
    /// By group and event.
    pub(super) standings: HashMap<(&'a str, &'a str), (usize, &'a str)>,
}

pub(super) struct Group<'a> {
    pub(super) entry: usize,
    pub(super) queue: &'a str,
    pub(super) filter: &'a Filter,
    pub(super) mode: Mode,
    /// Microseconds.
    pub(super) lease: u64,
    pub(super) begins: Begins,
    pub(super) effects: bool,
}

pub(super) struct Publish<'a> {
    pub(super) asked: usize,
    pub(super) publisher: &'a str,
    pub(super) level: Level,
    pub(super) sent: &'a [Sent],
    pub(super) answered: Option<(usize, &'a [Answer])>,
}

pub(super) struct Delivery<'a> {
    pub(super) entry: usize,
    pub(super) op: Op,
    /// When its claim was made.
    pub(super) asked: u64,
    pub(super) group: &'a str,
    pub(super) event: &'a Seen,
    pub(super) token: &'a str,
    pub(super) attempt: u32,
    pub(super) redrive: u32,
    pub(super) settlements: Vec<Settlement<'a>>,
}

pub(super) struct Settlement<'a> {
    pub(super) asked: usize,
    pub(super) verb: &'a Verb,
    pub(super) answered: Option<usize>,
    pub(super) settled: Settled,
}

pub(super) struct Fault<'a> {
    pub(super) harm: &'a Harm,
    pub(super) began: u64,
    pub(super) ended: u64,
}

impl<'a> View<'a> {
    pub(super) fn of(entries: &'a [Entry]) -> Self {
        let mut view = Self {
            entries,
            groups: BTreeMap::new(),
            publishes: Vec::new(),
            deliveries: Vec::new(),
            faults: Vec::new(),
            actions: Vec::new(),
            log: BTreeMap::new(),
            heads: BTreeMap::new(),
            standings: HashMap::new(),
        };
        let mut publishes: HashMap<Op, usize> = HashMap::new();
        let mut claims: HashMap<Op, u64> = HashMap::new();
        let mut tokens: HashMap<(&str, &str), usize> = HashMap::new();
        let mut settlements: HashMap<Op, (usize, usize)> = HashMap::new();
        let mut faults: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, Entry { at, what }) in entries.iter().enumerate() {
            match what {
                What::Group { name, queue, filter, mode, lease_ms, begins, effects } => {
                    view.groups.entry(name).or_insert(Group {
                        entry: index,
                        queue,
                        filter,
                        mode: *mode,
                        lease: lease_ms * 1_000,
                        begins: *begins,
                        effects: *effects,
                    });
                }
                What::PublishAsked { op, publisher, level, sent } => {
                    publishes.insert(*op, view.publishes.len());
                    view.publishes.push(Publish { asked: index, publisher, level: *level, sent, answered: None });
                }
                What::PublishAnswered { op, answers } => {
                    if let Some(publish) = publishes.get(op) {
                        view.publishes[*publish].answered = Some((index, answers));
                    }
                }
                What::ClaimAsked { op, .. } => {
                    claims.insert(*op, *at);
                }
                What::Delivered { op, group, event, token, attempt, redrive, .. } => {
                    // A token that comes twice is found by the leases' check; what settles it means the first.
                    tokens.entry((group, token)).or_insert(view.deliveries.len());
                    view.deliveries.push(Delivery {
                        entry: index,
                        op: *op,
                        asked: claims.get(op).copied().unwrap_or(*at),
                        group,
                        event,
                        token,
                        attempt: *attempt,
                        redrive: *redrive,
                        settlements: Vec::new(),
                    });
                }
                What::SettleAsked { op, group, token, verb } => {
                    if let Some(delivery) = tokens.get(&(group.as_str(), token.as_str())) {
                        let of = &mut view.deliveries[*delivery].settlements;
                        settlements.insert(*op, (*delivery, of.len()));
                        of.push(Settlement { asked: index, verb, answered: None, settled: Settled::Unknown });
                    }
                }
                What::SettleAnswered { op, settled } => {
                    if let Some((delivery, number)) = settlements.get(op) {
                        let settlement = &mut view.deliveries[*delivery].settlements[*number];
                        (settlement.answered, settlement.settled) = (Some(index), *settled);
                    }
                }
                What::Harmed { by, harm } => {
                    faults.entry(by).or_default().push(view.faults.len());
                    view.faults.push(Fault { harm, began: *at, ended: u64::MAX });
                }
                What::Healed { by } => {
                    for fault in faults.remove(by.as_str()).unwrap_or_default() {
                        view.faults[fault].ended = *at;
                    }
                }
                What::Operated { group, action } => view.actions.push((index, group, *action)),
                What::Head { queue, partition, floor, next } => {
                    view.heads.insert((queue, *partition), (*floor, *next));
                }
                What::Logged { event } => {
                    view.log.insert(&event.place, (index, event));
                }
                What::Stands { group, event, standing } => {
                    view.standings.insert((group, &event.id), (index, standing));
                }
                _ => {}
            }
        }
        view
    }

    pub(super) fn at(&self, entry: usize) -> u64 {
        self.entries[entry].at
    }

    /// The faults that were at work somewhere between two moments.
    pub(super) fn faults(&self, from: u64, to: u64) -> impl Iterator<Item = &Fault<'a>> {
        self.faults.iter().filter(move |fault| {
            fault.began <= to.saturating_add(SLACK) && fault.ended.saturating_add(UNDER_WAY) >= from
        })
    }

    /// Whether what was written at a moment may be gone by a later one.
    pub(super) fn may_be_lost(&self, written: u64, seen: u64, level: Level) -> bool {
        self.faults(written, seen).any(|fault| match fault.harm {
            Harm::PowerLoss { since } => level == Level::Stored && written + SLACK >= *since,
            Harm::Rollback { since } => written + SLACK >= *since,
            _ => false,
        })
    }

    /// Whether what was settled at a moment may be forgotten by a later one.
    pub(super) fn may_be_forgotten(&self, settled: u64, seen: u64) -> bool {
        self.may_be_lost(settled, seen, Level::Stored)
            || self.faults(settled, seen).any(|fault| matches!(fault.harm, Harm::Amnesia))
    }

    /// Whether an operator did this to the group between two moments.
    pub(super) fn operated(&self, group: &str, action: Action, from: u64, to: u64) -> bool {
        self.actions.iter().any(|(entry, of, done)| {
            *of == group && *done == action && (from..=to.saturating_add(SLACK)).contains(&self.at(*entry))
        })
    }

    /// How often the log may have gone back before a moment: the same position may hold another event since. None while
    /// it may be going back.
    pub(super) fn era(&self, at: u64) -> Option<usize> {
        let goes_back = |harm: &Harm| matches!(harm, Harm::PowerLoss { .. } | Harm::Rollback { .. } | Harm::Amnesia);
        let mut begun = self.faults.iter().filter(|fault| goes_back(fault.harm) && fault.began <= at + SLACK);
        begun.try_fold(0, |eras, fault| (fault.ended.saturating_add(UNDER_WAY) <= at).then_some(eras + 1))
    }

    /// Every event with the answer that confirmed its place.
    pub(super) fn recorded(&self) -> impl Iterator<Item = Recorded<'a>> {
        self.publishes.iter().flat_map(|publish| {
            let (entry, answers) = publish.answered.unwrap_or((publish.asked, &[]));
            publish.sent.iter().zip(answers).filter_map(move |(sent, answer)| match answer {
                Answer::Recorded { partition, position: Some(position), duplicate } => Some(Recorded {
                    asked: publish.asked,
                    entry,
                    level: publish.level,
                    publisher: publish.publisher,
                    sent,
                    place: Place { queue: sent.queue.clone(), partition: *partition, position: *position },
                    duplicate: *duplicate,
                }),
                _ => None,
            })
        })
    }

    /// The deliveries of each event to each group, in their order.
    pub(super) fn by_event(&self) -> BTreeMap<(&'a str, &'a str), Vec<&Delivery<'a>>> {
        let mut by_event: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for delivery in &self.deliveries {
            by_event.entry((delivery.group, delivery.event.id.as_str())).or_default().push(delivery);
        }
        by_event
    }
}

pub(super) struct Recorded<'a> {
    pub(super) asked: usize,
    pub(super) entry: usize,
    pub(super) level: Level,
    pub(super) publisher: &'a str,
    pub(super) sent: &'a Sent,
    pub(super) place: Place,
    pub(super) duplicate: bool,
}

impl Delivery<'_> {
    /// Settlements that ended it, or may have.
    pub(super) fn ends(&self) -> impl Iterator<Item = &Settlement<'_>> {
        self.settlements
            .iter()
            .filter(|settlement| *settlement.verb != Verb::Extend && settlement.settled != Settled::LeaseLost)
    }

    /// The first moment at which its lease may have been over by itself.
    pub(super) fn lease_may_end(&self, view: &View<'_>, lease: u64) -> u64 {
        let extended = self
            .settlements
            .iter()
            .filter(|settlement| *settlement.verb == Verb::Extend && settlement.settled == Settled::Done)
            .map(|settlement| view.at(settlement.asked));
        extended.max().unwrap_or(self.asked).max(self.asked) + lease
    }

    /// The last moment at which its lease may still have held.
    pub(super) fn lease_must_end(&self, view: &View<'_>, lease: u64) -> u64 {
        let extended = self
            .settlements
            .iter()
            .filter(|settlement| *settlement.verb == Verb::Extend && settlement.settled != Settled::LeaseLost)
            .map(|settlement| settlement.answered.map_or(u64::MAX, |answered| view.at(answered)));
        extended.max().unwrap_or(0).max(view.at(self.entry)).saturating_add(lease)
    }
}
