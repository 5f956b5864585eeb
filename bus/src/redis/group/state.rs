//! A group's state of a partition in Redis: read into a [`Ledger`], and committed against the version it was read at.

use std::{borrow::Cow, sync::LazyLock};

use events::Name;
use redis::{FromRedisValue as _, Value};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        place::View,
        script::{Script, WhenFull},
        server::unexpected,
    },
    presence::Presence,
};
use crate::{
    Error, Failed, Mode,
    ledger::{Ledger, Lost, Record, State},
};

pub(super) static COMMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/group.lua"), WhenFull::Runs));

/// The state as this node has it.
pub(super) struct Held {
    /// None: Redis has no state yet.
    pub(super) version: Option<u64>,
    pub(super) lineage: u64,
    pub(super) generation: u32,
    pub(super) ledger: Ledger,
    pub(super) dead: u64,
    /// Records were dropped that may have been redriven letters.
    pub(super) revive: bool,
    pub(super) presence: Presence,
    /// Of the declaration that it was last worked with, and whether that is to be stored.
    pub(super) revision: u64,
    renewed: bool,
}

/// What a commit comes to.
pub(super) enum Answer {
    Committed {
        version: u64,
        dead: u64,
    },
    /// Somebody was first: this is the state now.
    Stale(Stored),
    Gone,
    /// Somebody else goes first.
    Busy,
}

/// The state as it is stored.
pub(super) struct Stored {
    version: u64,
    lineage: u64,
    start: u64,
    next: u64,
    generation: u32,
    dead: u64,
    records: Vec<(u64, Record)>,
    lost: Lost,
    presence: Presence,
    revision: u64,
}

pub(super) fn read(value: Value) -> Result<Answer, Error> {
    let Value::Array(parts) = value else { return Err(unexpected()) };
    let mut parts = parts.into_iter();
    let mut part = || parts.next().unwrap_or(Value::Nil);
    let kind = String::from_redis_value(part()).map_err(|_| unexpected())?;
    match kind.as_str() {
        "ok" => Ok(Answer::Committed { version: number(part())?, dead: number(part())? }),
        "stale" => Ok(Answer::Stale(Stored::read(number(part())?, part())?)),
        "gone" => Ok(Answer::Gone),
        _ => Ok(Answer::Busy),
    }
}

fn number(value: Value) -> Result<u64, Error> {
    u64::from_redis_value(value).map_err(|_| unexpected())
}

impl Stored {
    fn read(dead: u64, fields: Value) -> Result<Self, Error> {
        let fields = Vec::<(String, Value)>::from_redis_value(fields).map_err(|_| unexpected())?;
        let mut stored = Self {
            version: 0,
            lineage: 0,
            start: 1,
            next: 1,
            generation: 1,
            dead,
            records: Vec::with_capacity(fields.len()),
            lost: Lost::default(),
            presence: Presence::default(),
            revision: 0,
        };
        for (name, value) in fields {
            match name.as_str() {
                "v" => stored.version = number(value)?,
                "lineage" => stored.lineage = number(value)?,
                "start" => stored.start = number(value)?,
                "next" => stored.next = number(value)?,
                "generation" => stored.generation = u32::try_from(number(value)?).map_err(|_| unexpected())?,
                "lost" => stored.lost = read_lost(value)?,
                "revision" => stored.revision = number(value)?,
                "claimed" => stored.presence.claimed = i64::from_redis_value(value).map_err(|_| unexpected())?,
                // Empty, where a member was there again.
                "abandoned" => stored.presence.abandoned = i64::from_redis_value(value).ok(),
                name => {
                    let Ok(position) = name.parse() else { continue };
                    let text = String::from_redis_value(value).map_err(|_| unexpected())?;
                    stored.records.push((position, parse(&text).ok_or_else(unexpected)?));
                }
            }
        }
        stored.records.sort_unstable_by_key(|(position, _)| *position);
        Ok(stored)
    }

    /// The state in the log as it is now: what lies beyond the cut of a new lineage is no more.
    pub(super) fn restore(self, mode: Mode, view: &View) -> Held {
        let mut ledger = Ledger::restore(mode, self.start, self.next, self.records).with_lost(self.lost);
        let mut revive = false;
        match if self.lineage == view.lineage { None } else { view.lineages.cut(self.lineage) } {
            None => {}
            Some(0) => {
                ledger.seek(view.floor);
                ledger.forget_lost_ranges();
                revive = true;
            }
            Some(cut) => revive = ledger.rewind(cut),
        }
        let (version, generation, dead) = (Some(self.version), self.generation, self.dead);
        let (presence, revision) = (self.presence, self.revision);
        let lineage = view.lineage;
        Held { version, lineage, generation, ledger, dead, revive, presence, revision, renewed: false }
    }
}

impl Held {
    /// The state of a group that Redis knows nothing of; letters that are left of it are with it no longer.
    pub(super) fn new(mode: Mode, next: u64, lineage: u64) -> Self {
        Self {
            version: None,
            lineage,
            generation: 1,
            ledger: Ledger::new(mode, next),
            dead: 0,
            revive: true,
            presence: Presence::default(),
            revision: 0,
            renewed: false,
        }
    }

    /// It is worked with by this declaration from now on: whoever knows an earlier one notices by the state.
    pub(super) fn declare(&mut self, revision: u64) {
        if revision > self.revision {
            (self.revision, self.renewed) = (revision, true);
        }
    }

    /// What else is to be stored of it, by name.
    fn take_fields(&mut self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields = Vec::new();
        if self.ledger.take_lost_changes() {
            fields.push(("lost", serde_json::to_vec(self.ledger.lost()).unwrap_or_default()));
        }
        if std::mem::take(&mut self.renewed) {
            fields.push(("revision", self.revision.to_string().into_bytes()));
        }
        if let Some(claimed) = self.presence.take_change() {
            fields.push(("claimed", claimed.to_string().into_bytes()));
            fields.push(("abandoned", Vec::new()));
        }
        fields
    }
}

fn read_lost(value: Value) -> Result<Lost, Error> {
    let text = String::from_redis_value(value).map_err(|_| unexpected())?;
    serde_json::from_str(&text).map_err(|_| unexpected())
}

/// Changes of letters that go along with a commit.
#[derive(Default)]
pub(super) struct Letters {
    /// Position, text, when it died.
    pub(super) buried: Vec<(u64, String, i64)>,
    pub(super) redriven: Vec<(u64, String)>,
    pub(super) gone: Vec<u64>,
    /// Those that were with their group are dead letters again.
    pub(super) revive: bool,
    /// Those that died before are forgotten.
    pub(super) forget: Option<i64>,
}

/// Who commits.
pub(super) struct Committer<'a> {
    pub(super) group: &'a str,
    pub(super) queue: &'a Name,
    pub(super) node: &'a str,
    /// Others were first too often.
    pub(super) late: bool,
}

/// The arguments of a commit; takes the ledger's changes.
pub(super) fn commit(by: &Committer<'_>, held: &mut Held, letters: &Letters, hints: &[String]) -> Vec<Vec<u8>> {
    let text = |number: u64| number.to_string().into_bytes();
    let fields = held.take_fields();
    let ledger = &mut held.ledger;
    let (start, next, low) = (ledger.start(), ledger.next(), ledger.hold());
    let (records, _) = ledger.take_changes();
    let set = records.iter().filter(|(_, record)| record.is_some()).count();
    let revive = letters.revive || held.revive;
    let counts = [
        fields.len() + set,
        records.len() - set,
        letters.buried.len(),
        letters.redriven.len(),
        letters.gone.len(),
        usize::from(revive),
        hints.len(),
    ];
    let mut args = vec![
        by.group.as_bytes().to_vec(),
        by.queue.as_str().as_bytes().to_vec(),
        held.version.map_or_else(|| b"new".to_vec(), text),
        text(held.lineage),
        text(start),
        text(next),
        text(low),
        text(held.generation.into()),
        letters.forget.map(|before| before.to_string().into_bytes()).unwrap_or_default(),
        by.node.as_bytes().to_vec(),
        text(by.late.into()),
        counts.map(|count| count.to_string()).join(",").into_bytes(),
    ];
    args.extend(fields.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value]));
    for (position, record) in &records {
        if let Some(record) = record {
            args.extend([text(*position), write(record)]);
        }
    }
    args.extend(records.iter().filter(|(_, record)| record.is_none()).map(|(position, _)| text(*position)));
    for (position, letter, died) in &letters.buried {
        args.extend([text(*position), letter.clone().into_bytes(), died.to_string().into_bytes()]);
    }
    for (position, letter) in &letters.redriven {
        args.extend([text(*position), letter.clone().into_bytes()]);
    }
    args.extend(letters.gone.iter().map(|position| text(*position)));
    args.extend(hints.iter().map(|hint| hint.clone().into_bytes()));
    args
}

/// All of a state as it is stored, by field, for one that is copied from elsewhere.
pub(in crate::redis) fn fields(ledger: &Ledger, version: u64, lineage: u64, generation: u32) -> Vec<(String, Vec<u8>)> {
    let numbers = [
        ("v", version),
        ("lineage", lineage),
        ("start", ledger.start()),
        ("next", ledger.next()),
        ("low", ledger.hold()),
        ("generation", generation.into()),
    ];
    let mut fields: Vec<(String, Vec<u8>)> =
        numbers.map(|(name, number)| (name.to_owned(), number.to_string().into_bytes())).into();
    fields.push(("lost".to_owned(), serde_json::to_vec(ledger.lost()).unwrap_or_default()));
    fields.extend(ledger.records().map(|(position, record)| (position.to_string(), write(record))));
    fields
}

/// A record as it is stored: state, time, secret, member, key, failures, expiries, suspect, first delivery, redrive, history.
#[derive(Serialize, Deserialize)]
struct Text<'a>(u8, i64, u64, #[serde(borrow)] Cow<'a, str>, u64, u32, u32, bool, i64, u32, Cow<'a, [Failed]>);

fn write(record: &Record) -> Vec<u8> {
    let (state, at, secret, member) = match &record.state {
        State::Ready => (0, 0, 0, ""),
        State::Leased { secret, member, until } => (1, *until, *secret, member.as_ref()),
        State::Retrying { at } => (2, *at, 0, ""),
        State::Parked => (3, 0, 0, ""),
        State::Dead => (4, 0, 0, ""),
    };
    let text = Text(
        state,
        at,
        secret,
        member.into(),
        record.key,
        record.failures,
        record.expiries,
        record.suspect,
        record.first_delivered,
        record.redrive,
        record.history.as_slice().into(),
    );
    serde_json::to_vec(&text).unwrap_or_default()
}

fn parse(text: &str) -> Option<Record> {
    let Text(state, at, secret, member, key, failures, expiries, suspect, first_delivered, redrive, history) =
        serde_json::from_str(text).ok()?;
    let state = match state {
        1 => State::Leased { secret, member: member.into(), until: at },
        2 => State::Retrying { at },
        3 => State::Parked,
        4 => State::Dead,
        _ => State::Ready,
    };
    let history = history.into_owned();
    Some(Record { state, key, failures, expiries, suspect, first_delivered, redrive, history })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_text_form() {
        let leased = State::Leased { secret: u64::MAX, member: "a \"member\"".into(), until: 1_700_000_000_000 };
        let failed = Failed { at: 7, error: "no\n".into() };
        for state in [State::Ready, leased, State::Retrying { at: 5 }, State::Parked, State::Dead] {
            let record = Record {
                state,
                key: u64::MAX - 1,
                failures: 2,
                expiries: 1,
                suspect: true,
                first_delivered: 9,
                redrive: 3,
                history: vec![failed.clone()],
            };
            assert_eq!(parse(&String::from_utf8(write(&record)).unwrap()), Some(record));
        }
    }
}
