//! Which events somebody wants: of one queue ([`Filter`]), or of every queue that there is or will be ([`Pattern`]).
//!
//! ```text
//! filter    = queue "/" events { condition }          pattern = ( queue / "*" ) "/" events { condition }
//! events    = "*" / event / "{" event { "," event } "}"
//! condition = "[" field ( "=" value / "^=" text / " in " value { "|" value } / " exists" ) "]"
//! field     = attribute / "data" "." member { "." member }
//! value     = a word without spaces and []{}"\|, / a text as JSON quotes it
//! ```
//!
//! Several conditions must all hold. At most 8 KiB, 64 events, 16 conditions, 64 values of a list, 256 bytes a value, a
//! path of 8 fields. What is written by `Display` is read as the same again.

use std::{fmt, str::FromStr};

use crate::{
    Condition, Envelope, Name,
    reader::{Reader, write_joined},
};

const MAX_BYTES: usize = 8192;
const MAX_EVENTS: usize = 64;
const MAX_CONDITIONS: usize = 16;

/// Which events of one queue: `DB/*`, `DB/{CREATE,UPDATE}`, `DB/*[data.status=NEW]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    pub queue: Name,
    /// None: all of them.
    pub events: Option<Vec<Name>>,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// Which events of one queue or of any: what a [`Filter`] may be, and `*/*`, `*/CREATE`, `*/*[replyto exists]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// None: every queue.
    pub queue: Option<Name>,
    /// None: all of them.
    pub events: Option<Vec<Name>>,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// Why something is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a filter: {reason}")]
pub struct FilterError {
    /// How it begins.
    text: String,
    reason: String,
}

impl Filter {
    /// All events of a queue.
    pub fn all(queue: Name) -> Self {
        Self { queue, events: None, conditions: Vec::new() }
    }

    /// One event of a queue.
    pub fn one(queue: Name, event: Name) -> Self {
        Self { queue, events: Some(vec![event]), conditions: Vec::new() }
    }

    /// Whether it takes the event.
    pub fn matches(&self, envelope: &Envelope) -> bool {
        self.takes(&envelope.queue, &envelope.event) && holds(&self.conditions, envelope)
    }

    /// Whether it takes events of this address, whatever they say: but for its conditions.
    pub fn takes(&self, queue: &Name, event: &Name) -> bool {
        self.queue == *queue && names(self.events.as_ref(), event)
    }

    /// Takes in what another one of the same queue takes: all of it, and where the two have different conditions, more.
    pub fn widen(&mut self, other: &Self) {
        self.conditions.retain(|condition| other.conditions.contains(condition));
        self.events = match (self.events.take(), &other.events) {
            (Some(mut events), Some(others)) => {
                let more: Vec<Name> = others.iter().filter(|event| !events.contains(event)).cloned().collect();
                events.extend(more);
                Some(events)
            }
            _ => None,
        };
        if self.check().is_err() {
            self.events = None;
        }
    }

    /// Whether its text is within the bounds, so that it can be read again.
    ///
    /// # Errors
    /// Says which bound.
    pub fn check(&self) -> Result<(), FilterError> {
        self.to_string().parse::<Self>().map(drop)
    }
}

impl Pattern {
    /// Whether it takes the event.
    pub fn matches(&self, envelope: &Envelope) -> bool {
        self.takes(&envelope.queue, &envelope.event) && holds(&self.conditions, envelope)
    }

    /// Whether it takes events of this address, whatever they say: but for its conditions.
    pub fn takes(&self, queue: &Name, event: &Name) -> bool {
        self.is_on(queue) && names(self.events.as_ref(), event)
    }

    /// Whether the queue is the one, or one of those, that it is on.
    pub fn is_on(&self, queue: &Name) -> bool {
        self.queue.as_ref().is_none_or(|own| own == queue)
    }

    /// What it takes of a queue, if it is on it.
    pub fn on(&self, queue: &Name) -> Option<Filter> {
        self.is_on(queue).then(|| Filter {
            queue: queue.clone(),
            events: self.events.clone(),
            conditions: self.conditions.clone(),
        })
    }

    /// Whether it surely takes everything that the other takes: conditions of its own are among the other's.
    pub fn covers(&self, other: &Self) -> bool {
        let queue = self.queue.is_none() || self.queue == other.queue;
        let events = match (&self.events, &other.events) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|event| own.contains(event)),
        };
        queue && events && self.conditions.iter().all(|condition| other.conditions.contains(condition))
    }

    /// Reads patterns with commas between: `DB/{A,B},*/CREATE`. One at least.
    ///
    /// # Errors
    /// Says what is wrong with the first that is none.
    pub fn list(text: &str) -> Result<Vec<Self>, FilterError> {
        FilterError::reading(text, |reader| {
            let mut patterns = vec![Self::read(reader)?];
            while reader.takes(",") {
                patterns.push(Self::read(reader)?);
            }
            Ok(patterns)
        })
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let queue = reader.name_or_any()?;
        reader.expect("/")?;
        let events = events(reader)?;
        let mut conditions = Vec::new();
        while reader.takes("[") {
            if conditions.len() == MAX_CONDITIONS {
                return Err(format!("it has more than {MAX_CONDITIONS} conditions"));
            }
            conditions.push(Condition::read(reader)?);
            reader.expect("]")?;
        }
        Ok(Self { queue, events, conditions })
    }
}

fn events(reader: &mut Reader<'_>) -> Result<Option<Vec<Name>>, String> {
    if !reader.takes("{") {
        return Ok(reader.name_or_any()?.map(|event| vec![event]));
    }
    let mut events = vec![reader.name()?];
    while reader.takes(",") {
        events.push(reader.name()?);
    }
    reader.expect("}")?;
    if events.len() > MAX_EVENTS {
        return Err(format!("it names more than {MAX_EVENTS} events"));
    }
    Ok(Some(events))
}

fn names(events: Option<&Vec<Name>>, event: &Name) -> bool {
    events.is_none_or(|events| events.contains(event))
}

fn holds(conditions: &[Condition], envelope: &Envelope) -> bool {
    conditions.iter().all(|condition| condition.holds(envelope))
}

impl FilterError {
    /// What the whole of a text is.
    pub(crate) fn reading<T>(text: &str, read: impl FnOnce(&mut Reader<'_>) -> Result<T, String>) -> Result<T, Self> {
        let refused = |reason| Self { text: text.chars().take(80).collect(), reason };
        if text.len() > MAX_BYTES {
            return Err(refused(format!("it has more than {MAX_BYTES} bytes")));
        }
        let mut reader = Reader::new(text);
        let read = read(&mut reader).map_err(refused)?;
        if reader.is_done() { Ok(read) } else { Err(refused(format!("it goes on with {}", reader.ahead()))) }
    }
}

impl From<Filter> for Pattern {
    fn from(Filter { queue, events, conditions }: Filter) -> Self {
        Self { queue: Some(queue), events, conditions }
    }
}

impl FromStr for Pattern {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        FilterError::reading(text, Self::read)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        FilterError::reading(text, |reader| {
            let Pattern { queue, events, conditions } = Pattern::read(reader)?;
            let queue = queue.ok_or_else(|| "it must name its queue".to_owned())?;
            Ok(Self { queue, events, conditions })
        })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.queue.as_str(), self.events.as_deref(), &self.conditions)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue.as_ref().map_or("*", Name::as_str);
        write(f, queue, self.events.as_deref(), &self.conditions)
    }
}

fn write(f: &mut fmt::Formatter<'_>, queue: &str, events: Option<&[Name]>, conditions: &[Condition]) -> fmt::Result {
    write!(f, "{queue}/")?;
    match events {
        None => f.write_str("*")?,
        Some([event]) => write!(f, "{event}")?,
        Some(events) => {
            f.write_str("{")?;
            write_joined(f, events, ',')?;
            f.write_str("}")?;
        }
    }
    conditions.iter().try_for_each(|condition| write!(f, "{condition}"))
}
