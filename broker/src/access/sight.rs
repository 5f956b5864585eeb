//! What a caller may read of what it asks for, and what it sees of that.

use bus::Room;
use events::{Envelope, Name, Pattern};

use super::{
    Caller,
    rooms::Rooms,
    scopes::{JOIN, READ, SEE},
};
use crate::{filter::Filter, problem::Problem};

/// The queues that are read by scopes of their own.
pub(super) const PRESENCE: &str = "PRESENCE";
pub(super) const ROOMS: &str = "ROOMS";

/// What a caller sees of what it asked for.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    terms: Vec<(Pattern, Reach)>,
    /// Of which rooms a term shows something that names no queue.
    rooms: Vec<Rooms>,
}

#[derive(Clone, Debug)]
enum Reach {
    All,
    /// What this subject owns.
    Own(String),
}

impl Caller {
    /// Whether it may read all that the filter takes, or what it owns of that.
    pub(crate) fn may_read(&self, filter: &Filter) -> Result<Sight, Problem> {
        let mut terms = Vec::new();
        for term in filter.terms.iter().flat_map(each_event) {
            let reach = self
                .reach(&term)
                .ok_or_else(|| self.refused(format!("reading {term} needs the scope {}", needed(&term))))?;
            terms.push((term, reach));
        }
        Ok(Sight { terms, rooms: self.scopes.join.clone() })
    }

    /// Whether it may read this event, which somebody else owns.
    pub(crate) fn may_read_event(&self, envelope: &Envelope) -> Result<(), Problem> {
        let elses = || Problem::forbidden("the event is somebody else's");
        match envelope.queue.as_str() {
            PRESENCE => self.may_see(),
            ROOMS => self.may_join(&room_in(envelope).ok_or_else(elses)?),
            _ => {
                let filter = events::Filter::one(envelope.queue.clone(), envelope.event.clone());
                if self.may_read(&filter.into())?.sees(envelope) { Ok(()) } else { Err(elses()) }
            }
        }
    }

    /// Whether it may read all that the filter takes, whoever owns it: a group's members get it all.
    pub(crate) fn may_read_all(&self, filter: &Filter) -> Result<(), Problem> {
        match self.may_read(filter)?.terms.into_iter().find(|(_, reach)| !matches!(reach, Reach::All)) {
            None => Ok(()),
            Some((term, _)) => Err(self.refused(format!("a group on {term} needs the scope {READ}{term}"))),
        }
    }

    /// What it may have sent to it of what the filter takes: of what it may read of its own alone, what it owns.
    pub(crate) fn may_take(&self, filter: &Filter) -> Result<Vec<Pattern>, Problem> {
        let narrowed = |(mut term, reach): (Pattern, Reach)| {
            if let Reach::Own(subject) = reach {
                let owner = serde_json::Value::from(subject).to_string();
                let own = format!("owner={owner}").parse();
                term.conditions.push(own.map_err(|error| Problem::forbidden(format!("filter: {error}")))?);
            }
            Ok(term)
        };
        self.may_read(filter)?.terms.into_iter().map(narrowed).collect()
    }

    /// The rooms that a filter follows, each by its name, and that it may go into.
    pub(crate) fn rooms_of(&self, filter: &Filter) -> Vec<Room> {
        let mut rooms: Vec<Room> = filter.terms.iter().filter_map(room_of).collect();
        rooms.retain(|room| self.may_join(room).is_ok());
        rooms.sort();
        rooms.dedup();
        rooms
    }

    fn reach(&self, term: &Pattern) -> Option<Reach> {
        match term.queue.as_ref().map(Name::as_str) {
            Some(PRESENCE) => return self.may_see().is_ok().then_some(Reach::All),
            Some(ROOMS) => return self.may_hear(term).then_some(Reach::All),
            _ => {}
        }
        let covered = |by: &[Pattern]| by.iter().any(|wide| wide.covers(term));
        if covered(&self.scopes.read) {
            return Some(Reach::All);
        }
        let subject = self.subject.clone()?;
        covered(&self.scopes.read_own).then_some(Reach::Own(subject))
    }

    /// Whether it may go into the room that a term on `ROOMS` is about, or into all.
    fn may_hear(&self, term: &Pattern) -> bool {
        match room_of(term) {
            Some(room) => self.may_join(&room).is_ok(),
            None => self.scopes.join.iter().any(Rooms::are_all),
        }
    }
}

impl Sight {
    /// Whether it is among what the caller asked for and may see.
    pub(crate) fn sees(&self, envelope: &Envelope) -> bool {
        self.terms.iter().any(|(term, reach)| {
            term.matches(envelope)
                && (term.queue.is_some() || self.shows(envelope))
                && match reach {
                    Reach::All => true,
                    Reach::Own(subject) => envelope.owner.as_ref() == Some(subject),
                }
        })
    }

    /// Whether it may show anything of the queue.
    pub(crate) fn looks_at(&self, queue: &Name) -> bool {
        self.terms.iter().any(|(term, _)| match &term.queue {
            Some(own) => own == queue,
            None => match queue.as_str() {
                PRESENCE => false,
                ROOMS => !self.rooms.is_empty(),
                _ => true,
            },
        })
    }

    /// Whether a term may show it that doesn't name its queue: of the rooms those that its caller may go into, and of who is
    /// online nothing.
    fn shows(&self, envelope: &Envelope) -> bool {
        match envelope.queue.as_str() {
            PRESENCE => false,
            ROOMS => room_in(envelope).is_some_and(|room| self.rooms.iter().any(|rooms| rooms.have(&room))),
            _ => true,
        }
    }
}

/// A term for each event that it names, so that different scopes may cover them.
fn each_event(term: &Pattern) -> Vec<Pattern> {
    match &term.events {
        None => vec![term.clone()],
        Some(events) => {
            events.iter().map(|event| Pattern { events: Some(vec![event.clone()]), ..term.clone() }).collect()
        }
    }
}

/// The room that a term of a filter is about, where it is about one.
fn room_of(term: &Pattern) -> Option<Room> {
    if term.queue.as_ref().is_none_or(|queue| queue.as_str() != ROOMS) {
        return None;
    }
    term.conditions.iter().find_map(|condition| condition.text_of("subject")?.parse().ok())
}

/// The room that an event of `ROOMS` is in.
fn room_in(envelope: &Envelope) -> Option<Room> {
    envelope.subject.as_deref()?.parse().ok()
}

/// The scope by which a term is read.
fn needed(term: &Pattern) -> String {
    match term.queue.as_ref().map(Name::as_str) {
        Some(PRESENCE) => SEE.to_owned(),
        Some(ROOMS) => room_of(term).map_or_else(|| format!("{JOIN}*/*"), |room| format!("{JOIN}{room}")),
        _ => format!("{READ}{term}"),
    }
}
