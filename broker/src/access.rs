//! Who calls, and what it may do: decided by the scopes of the principal that the gateway signed, and by nothing else.
//!
//! `events:read:DB/*` reads, `events:read:own:DB/*` reads what is the principal's own (attribute `owner`),
//! `events:write:ORDERS/CREATE` publishes, `events:consume:billing` works for the group of that name (`billing*`: for all
//! whose name begins so), `jobs:write` creates jobs and changes its own, `jobs:read` sees all of them and so may change them with
//! `jobs:write`, `webhooks:read` sees its own webhooks and `webhooks:write` changes them, `bus:read` looks at queues and groups, `bus:admin` operates, works for any group,
//! and does with jobs and webhooks what it likes. The patterns of reading and writing are filters; a filter may be read only if
//! for each event it names one scope covers it.
//!
//! `rooms:join:chat/*` lets into the rooms of a namespace and shows what happens there, `rooms:write:chat/*` publishes there
//! (`chat/team-*`, `*/*`: a star at the end of either part is for whatever follows); `presence:read` sees who is online. In the
//! queues that tell the same, `ROOMS` and `PRESENCE`, no `events:read` counts: who may read everything else is no spy for that.

use axum::extract::FromRequestParts;
use bus::{Room, presence};
use events::{Envelope, Name, Pattern};
use http::{HeaderMap, request::Parts};
use principal::{METADATA, Principal, TokenError};

use crate::{
    filter::Filter,
    problem::{Kind, Problem},
    query::refuse,
    shared::Shared,
};

const READ: &str = "events:read:";
const OWN: &str = "own:";
const WRITE: &str = "events:write:";
const CONSUME: &str = "events:consume:";
const READ_JOBS: &str = "jobs:read";
const WRITE_JOBS: &str = "jobs:write";
const SEE_WEBHOOKS: &str = "webhooks:read";
const CHANGE_WEBHOOKS: &str = "webhooks:write";
const OPERATE: &str = "bus:admin";
const LOOK: &str = "bus:read";
const JOIN: &str = "rooms:join:";
const WRITE_ROOM: &str = "rooms:write:";
const SEE: &str = "presence:read";

/// The queues that are read by scopes of their own.
const PRESENCE: &str = "PRESENCE";
const ROOMS: &str = "ROOMS";
/// The queues that only the bus itself writes.
const RESERVED: [&str; 4] = ["SYS", PRESENCE, "RECEIPT", ROOMS];
/// The queues of jobs: their tasks come from the database that keeps the jobs, and a client's event would be none.
const OF_JOBS: [&str; 3] = ["JOBS_HIGH", "JOBS", "JOBS_LOW"];

/// Who calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The principal's resource name; None: anonymous.
    pub subject: Option<String>,
    /// The client's address, as the gateway saw it.
    pub address: Option<String>,
    scopes: Scopes,
}

#[derive(Clone, Debug, Default)]
struct Scopes {
    read: Vec<Pattern>,
    read_own: Vec<Pattern>,
    write: Vec<Pattern>,
    /// Groups, by name, or by how it begins and a star.
    consume: Vec<String>,
    read_jobs: bool,
    write_jobs: bool,
    see_webhooks: bool,
    change_webhooks: bool,
    join: Vec<Rooms>,
    write_rooms: Vec<Rooms>,
    see: bool,
    look: bool,
    operate: bool,
}

/// Which rooms: `chat/lobby`, `chat/*`, `chat/team-*`, `*/*`.
#[derive(Clone, Debug)]
struct Rooms {
    namespace: Names,
    room: Names,
}

#[derive(Clone, Debug)]
struct Names {
    begins: String,
    /// It may go on.
    open: bool,
}

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
    /// Who sent a request with these headers.
    pub(crate) async fn of(headers: &HeaderMap, shared: &Shared) -> Result<Self, Problem> {
        let address = headers.get("x-forwarded-for").and_then(|value| client_address(value.to_str().ok()?));
        let mut tokens = headers.get_all(METADATA).iter();
        let Some(token) = tokens.next() else { return Ok(Self { address, ..Self::default() }) };
        if tokens.next().is_some() {
            return Err(Problem::new(Kind::Unauthenticated, "more than one principal"));
        }
        Ok(Self::verified(token.to_str().unwrap_or_default(), shared).await?.at(address))
    }

    /// The same at this address.
    pub(crate) fn at(self, address: Option<String>) -> Self {
        Self { address, ..self }
    }

    /// Who a token speaks of.
    pub(crate) async fn verified(token: &str, shared: &Shared) -> Result<Self, Problem> {
        match shared.verifier.verify(token).await {
            Ok(principal) => Ok(Self::from(principal)),
            Err(TokenError::Invalid(reason)) => {
                tracing::warn!(reason, "a principal token was refused");
                Err(Problem::new(Kind::Unauthenticated, "the principal token is not valid"))
            }
            Err(TokenError::Unavailable(reason)) => {
                tracing::warn!(reason, "a principal token could not be verified");
                let wait = std::time::Duration::from_secs(1);
                Err(Problem::unavailable("the principal can't be verified now", wait))
            }
        }
    }

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

    /// Whether it may see webhooks of its own.
    pub(crate) fn may_see_webhooks(&self) -> Result<(), Problem> {
        if self.scopes.see_webhooks || self.scopes.change_webhooks || self.scopes.operate {
            return Ok(());
        }
        Err(self.refused(format!("this needs the scope {SEE_WEBHOOKS}")))
    }

    /// Whether it may register and change webhooks of its own.
    pub(crate) fn may_change_webhooks(&self) -> Result<(), Problem> {
        if self.scopes.change_webhooks || self.scopes.operate {
            return Ok(());
        }
        Err(self.refused(format!("this needs the scope {CHANGE_WEBHOOKS}")))
    }

    /// Whether what belongs to this subject is its to look after.
    pub(crate) fn owns(&self, owner: Option<&str>) -> bool {
        self.scopes.operate || (owner.is_some() && owner == self.subject.as_deref())
    }

    /// Whether it looks after everybody's.
    pub(crate) fn operates(&self) -> bool {
        self.scopes.operate
    }

    /// Whether it may work for the group: claim and settle what is the group's, which whoever declared it might read.
    pub(crate) fn may_consume(&self, group: &str) -> Result<(), Problem> {
        let covers = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => group.starts_with(beginning),
            None => group == pattern,
        };
        if self.scopes.operate || self.scopes.consume.iter().any(covers) {
            return Ok(());
        }
        Err(self.refused(format!("working for the group {group} needs the scope {CONSUME}{group}")))
    }

    /// Whether it may go into the room, and see what happens there and who is in it.
    pub(crate) fn may_join(&self, room: &Room) -> Result<(), Problem> {
        if self.scopes.join.iter().any(|rooms| rooms.have(room)) {
            return Ok(());
        }
        Err(self.refused(format!("the room {room} needs the scope {JOIN}{room}")))
    }

    /// Whether it may see who is online.
    pub(crate) fn may_see(&self) -> Result<(), Problem> {
        if self.scopes.see || self.scopes.operate {
            Ok(())
        } else {
            Err(self.refused(format!("this needs the scope {SEE}")))
        }
    }

    /// The rooms that a filter follows, each by its name, and that it may go into.
    pub(crate) fn rooms_of(&self, filter: &Filter) -> Vec<Room> {
        let mut rooms: Vec<Room> = filter.terms.iter().filter_map(room_of).collect();
        rooms.retain(|room| self.may_join(room).is_ok());
        rooms.sort();
        rooms.dedup();
        rooms
    }

    /// Whether only the bus itself writes the queue.
    pub(crate) fn is_reserved(queue: &Name) -> bool {
        RESERVED.contains(&queue.as_str())
    }

    /// Whether only jobs write the queue: their tasks.
    pub(crate) fn is_of_jobs(queue: &Name) -> bool {
        OF_JOBS.contains(&queue.as_str())
    }

    /// Whose the queue is alone, where it is nobody's to write who comes from outside.
    pub(crate) fn whose_alone(queue: &Name) -> Option<&'static str> {
        if Self::is_reserved(queue) {
            return Some("the bus's own");
        }
        Self::is_of_jobs(queue).then_some("for the tasks of jobs")
    }

    /// Whether it may publish the event.
    pub(crate) fn may_publish(&self, event: &Envelope) -> Result<(), Problem> {
        if event.queue != presence::rooms() {
            return self.may_write(&event.queue, &event.event);
        }
        if self.scopes.write_rooms.is_empty() {
            return Err(self.refused(format!("publishing in rooms needs the scope {WRITE_ROOM}NAMESPACE/ROOM")));
        }
        if presence::is_transition(&event.event) {
            return Err(Problem::forbidden(format!("{} is what the bus tells of a room", event.event)));
        }
        let room: Room =
            event.subject.as_deref().unwrap_or_default().parse().map_err(|error| refuse("subject", error))?;
        if event.partitionkey.as_deref().is_some_and(|key| key != room.as_str()) {
            return Err(refuse("partitionkey", "of a room's event is the room"));
        }
        if self.scopes.write_rooms.iter().any(|rooms| rooms.have(&room)) {
            return Ok(());
        }
        Err(self.refused(format!("publishing in the room {room} needs the scope {WRITE_ROOM}{room}")))
    }

    /// Whether it may publish such events to this queue; into rooms see [`Caller::may_publish`].
    pub(crate) fn may_write(&self, queue: &Name, event: &Name) -> Result<(), Problem> {
        if let Some(whose) = Self::whose_alone(queue) {
            return Err(Problem::forbidden(format!("the queue {queue} is {whose}")));
        }
        // What an event says isn't looked at here: a scope with conditions allows nothing.
        if self.scopes.write.iter().any(|term| term.conditions.is_empty() && term.takes(queue, event)) {
            return Ok(());
        }
        Err(self.refused(format!("publishing {queue}/{event} needs the scope {WRITE}{queue}/{event}")))
    }

    /// Whether it may see the job or schedule of this owner: its own, or any. `None`: all of them.
    pub(crate) fn may_read_jobs(&self, owner: Option<&str>) -> Result<(), Problem> {
        let owns = self.subject.is_some() && self.subject.as_deref() == owner;
        if owns || self.scopes.read_jobs || self.scopes.operate {
            return Ok(());
        }
        Err(self.refused(format!("this needs the scope {READ_JOBS}")))
    }

    /// Whether it may create jobs and schedules.
    pub(crate) fn may_write_jobs(&self) -> Result<(), Problem> {
        if self.scopes.write_jobs || self.scopes.operate {
            return Ok(());
        }
        Err(self.refused(format!("this needs the scope {WRITE_JOBS}")))
    }

    /// Whether it may change the job or schedule of this owner: what it may see.
    pub(crate) fn may_change_jobs(&self, owner: Option<&str>) -> Result<(), Problem> {
        self.may_write_jobs()?;
        self.may_read_jobs(owner)
    }

    /// Whether it may see how queues and groups are.
    pub(crate) fn may_look(&self) -> Result<(), Problem> {
        if self.scopes.look || self.scopes.operate {
            return Ok(());
        }
        Err(self.refused(format!("this needs the scope {LOOK}")))
    }

    /// Whether it may see and change queues, groups and connections.
    pub(crate) fn may_operate(&self) -> Result<(), Problem> {
        if self.scopes.operate { Ok(()) } else { Err(self.refused(format!("this needs the scope {OPERATE}"))) }
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

    /// An anonymous caller might be allowed to if it said who it is.
    fn refused(&self, detail: String) -> Problem {
        match self.subject {
            Some(_) => Problem::forbidden(detail),
            None => Problem::new(Kind::Unauthenticated, detail),
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

impl From<Principal> for Caller {
    fn from(principal: Principal) -> Self {
        let mut scopes = Scopes::default();
        // A scope that is none of ours, or no filter, allows nothing here.
        let terms = |text: &str| text.parse().map(|filter: Filter| filter.terms).unwrap_or_default();
        for scope in &principal.scopes {
            if let Some(pattern) = scope.strip_prefix(READ) {
                match pattern.strip_prefix(OWN) {
                    Some(own) => scopes.read_own.extend(terms(own)),
                    None => scopes.read.extend(terms(pattern)),
                }
            } else if let Some(pattern) = scope.strip_prefix(WRITE) {
                scopes.write.extend(terms(pattern));
            } else if let Some(pattern) = scope.strip_prefix(CONSUME) {
                if !pattern.is_empty() {
                    scopes.consume.push(pattern.to_owned());
                }
            } else if scope == READ_JOBS {
                scopes.read_jobs = true;
            } else if scope == WRITE_JOBS {
                scopes.write_jobs = true;
            } else if scope == SEE_WEBHOOKS {
                scopes.see_webhooks = true;
            } else if scope == CHANGE_WEBHOOKS {
                scopes.change_webhooks = true;
            } else if let Some(rooms) = scope.strip_prefix(JOIN) {
                scopes.join.extend(Rooms::parse(rooms));
            } else if let Some(rooms) = scope.strip_prefix(WRITE_ROOM) {
                scopes.write_rooms.extend(Rooms::parse(rooms));
            } else if scope == SEE {
                scopes.see = true;
            } else if scope == LOOK {
                scopes.look = true;
            } else if scope == OPERATE {
                scopes.operate = true;
            }
        }
        Self { subject: Some(principal.subject), address: None, scopes }
    }
}

impl Rooms {
    fn parse(text: &str) -> Option<Self> {
        let (namespace, room) = text.split_once('/')?;
        Some(Self { namespace: Names::parse(namespace)?, room: Names::parse(room)? })
    }

    fn have(&self, room: &Room) -> bool {
        self.namespace.have(room.namespace()) && self.room.have(room.name())
    }

    fn are_all(&self) -> bool {
        [&self.namespace, &self.room].iter().all(|names| names.open && names.begins.is_empty())
    }
}

impl Names {
    fn parse(text: &str) -> Option<Self> {
        let (begins, open) = text.strip_suffix('*').map_or((text, false), |begins| (begins, true));
        let fits = (open || !begins.is_empty()) && !begins.contains(['*', '/']);
        fits.then(|| Self { begins: begins.to_owned(), open })
    }

    fn have(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.begins) } else { name == self.begins }
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

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        Self::of(&parts.headers, shared).await
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

/// The last address: the gateway appends what it saw itself.
fn client_address(forwarded: &str) -> Option<String> {
    let address = forwarded.rsplit(',').next()?.trim();
    (!address.is_empty() && address.len() <= 64).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: &[&str]) -> Caller {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Caller::from(Principal { subject: "customers/1".into(), scopes, ..Principal::default() })
    }

    fn event(queue: &str, event: &str) -> Envelope {
        Envelope::new("/services/test", Name::new(queue).unwrap(), Name::new(event).unwrap())
    }

    fn read(caller: &Caller, filter: &str) -> Result<Sight, Kind> {
        caller.may_read(&filter.parse().unwrap()).map_err(|problem| problem.kind)
    }

    #[test]
    fn a_filter_is_read_only_if_scopes_cover_all_of_it() {
        let reader =
            caller(&["events:read:DB/*", "events:read:*/CREATED", "events:read:ORDERS/{A,B}", "events:write:*/*"]);
        for filter in ["DB/*", "DB/CREATE", "*/CREATED", "ORDERS/{A,B,CREATED}", "DB/*,ORDERS/A"] {
            assert!(read(&reader, filter).is_ok(), "{filter}");
        }
        for filter in ["*/*", "ORDERS/*", "ORDERS/C", "DB/*,CARTS/*", "*/CREATE", "ORDERS/{A,C}"] {
            assert_eq!(read(&reader, filter).unwrap_err(), Kind::Forbidden, "{filter}");
        }
        assert!(read(&caller(&["events:read:*/*"]), "*/*,DB/{A,B}").is_ok());
        assert_eq!(read(&Caller::default(), "DB/*").unwrap_err(), Kind::Unauthenticated);
    }

    #[test]
    fn own_shows_what_the_subject_owns_and_nothing_else() {
        let sight = read(&caller(&["events:read:own:ORDERS/*", "events:read:DB/*"]), "ORDERS/*,DB/*").unwrap();
        assert!(sight.sees(&event("DB", "CREATE")));
        assert!(sight.sees(&event("ORDERS", "PLACED").owner("customers/1")));
        assert!(!sight.sees(&event("ORDERS", "PLACED").owner("customers/2")));
        assert!(!sight.sees(&event("ORDERS", "PLACED")));
    }

    #[test]
    fn a_scope_that_is_no_filter_allows_nothing() {
        let caller = caller(&["events:read:", "events:read:*", "events:read:own:", "events:write:DB", "bus:admins"]);
        assert!(read(&caller, "DB/A").is_err());
        assert!(caller.may_write(&Name::new("DB").unwrap(), &Name::new("A").unwrap()).is_err());
        assert!(caller.may_operate().is_err());
    }

    #[test]
    fn a_group_is_worked_for_by_whom_a_scope_names() {
        let member = caller(&["events:consume:billing", "events:consume:shop.*", "events:consume:", "events:read:*/*"]);
        for group in ["billing", "shop.", "shop.mail"] {
            assert!(member.may_consume(group).is_ok(), "{group}");
        }
        for group in ["billing2", "bill", "shop", "logger", ""] {
            assert_eq!(member.may_consume(group).unwrap_err().kind, Kind::Forbidden, "{group}");
        }
        assert!(caller(&["bus:admin"]).may_consume("logger").is_ok());
        assert_eq!(Caller::default().may_consume("billing").unwrap_err().kind, Kind::Unauthenticated);
    }

    #[test]
    fn a_group_gets_all_or_is_not_declared() {
        let filter = |text: &str| text.parse::<Filter>().unwrap();
        assert!(caller(&["events:read:DB/*"]).may_read_all(&filter("DB/CREATE")).is_ok());
        let own = caller(&["events:read:own:DB/*"]);
        assert!(own.may_read(&filter("DB/CREATE")).is_ok());
        assert_eq!(own.may_read_all(&filter("DB/CREATE")).unwrap_err().kind, Kind::Forbidden);
    }

    #[test]
    fn a_webhook_takes_what_its_owner_may_read() {
        let filter = |text: &str| text.parse::<Filter>().unwrap();
        let partner = caller(&["events:read:DB/*", "events:read:own:ORDERS/*", "webhooks:read"]);
        let taken = partner.may_take(&filter("DB/CREATE,ORDERS/{A,B}")).unwrap();
        let text: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3);
        assert_eq!(text[0], "DB/CREATE");
        assert!(text[1].starts_with("ORDERS/A[owner=") && text[1].contains("customers/1"), "{text:?}");
        assert!(taken[1].matches(&event("ORDERS", "A").owner("customers/1")));
        assert!(!taken[1].matches(&event("ORDERS", "A").owner("customers/2")));
        assert_eq!(partner.may_take(&filter("CARTS/*")).unwrap_err().kind, Kind::Forbidden);
        assert!(partner.may_see_webhooks().is_ok());
        assert_eq!(partner.may_change_webhooks().unwrap_err().kind, Kind::Forbidden);
        assert!(partner.owns(Some("customers/1")) && !partner.owns(Some("customers/2")) && !partner.owns(None));
        assert!(caller(&["bus:admin"]).owns(Some("customers/2")));
        assert!(!Caller::default().owns(None));
    }

    #[test]
    fn rooms_are_entered_and_written_by_their_scopes() {
        let room = |text: &str| text.parse::<Room>().unwrap();
        let member = caller(&[
            "rooms:join:chat/*",
            "rooms:join:game/team-*",
            "rooms:write:chat/lobby",
            "rooms:join:",
            "rooms:join:*",
        ]);
        for text in ["chat/lobby", "chat/x", "game/team-1"] {
            assert!(member.may_join(&room(text)).is_ok(), "{text}");
        }
        for text in ["chats/lobby", "game/lobby", "game/team"] {
            assert_eq!(member.may_join(&room(text)).unwrap_err().kind, Kind::Forbidden, "{text}");
        }
        let message = |room: &str| event("ROOMS", "MESSAGE").subject(room);
        assert!(member.may_publish(&message("chat/lobby")).is_ok());
        assert!(member.may_publish(&message("chat/lobby").partitionkey("chat/lobby")).is_ok());
        for (kind, wrong) in [
            (Kind::Forbidden, message("chat/x")),
            (Kind::Forbidden, event("ROOMS", "JOINED").subject("chat/lobby")),
            (Kind::Invalid, event("ROOMS", "MESSAGE")),
            (Kind::Invalid, message("lobby")),
            (Kind::Invalid, message("chat/lobby").partitionkey("k")),
        ] {
            assert_eq!(member.may_publish(&wrong).unwrap_err().kind, kind, "{wrong:?}");
        }
        assert!(caller(&["events:write:*/*"]).may_publish(&message("chat/lobby")).is_err(), "that is another scope");
        assert!(caller(&["rooms:write:*/*"]).may_publish(&message("chat/lobby")).is_ok());
        assert_eq!(Caller::default().may_join(&room("chat/lobby")).unwrap_err().kind, Kind::Unauthenticated);
    }

    #[test]
    fn a_room_may_be_followed_by_whoever_may_be_in_it() {
        let member = caller(&["rooms:join:chat/*"]);
        assert!(read(&member, "ROOMS/*[subject=chat/lobby],ROOMS/MESSAGE[subject=chat/x][data.n=1]").is_ok());
        for filter in ["ROOMS/*", "ROOMS/*[subject^=chat/]", "ROOMS/*[subject=game/1]", "*/*[subject=chat/lobby]"] {
            assert!(read(&member, filter).is_err(), "{filter}");
        }
        let filter =
            "ROOMS/*[subject=chat/lobby],ROOMS/A[subject=chat/lobby],ROOMS/*[subject=game/1],DB/*".parse().unwrap();
        assert_eq!(member.rooms_of(&filter), ["chat/lobby".parse().unwrap()]);
        assert!(caller(&["events:read:*/*"]).rooms_of(&filter).is_empty(), "who only reads is in no room");
        assert!(read(&caller(&["rooms:join:*/*"]), "ROOMS/*,ROOMS/MESSAGE[data.n=1]").is_ok(), "all of them");
    }

    #[test]
    fn who_reads_everything_is_shown_no_rooms_and_nobody_online() {
        let reader = ["events:read:*/*", "events:read:ROOMS/*", "events:read:own:PRESENCE/*"];
        for filter in ["ROOMS/*", "ROOMS/*[subject=chat/lobby]", "PRESENCE/*", "PRESENCE/ONLINE", "*/*,PRESENCE/*"] {
            assert_eq!(read(&caller(&reader), filter).unwrap_err(), Kind::Forbidden, "{filter}");
        }
        let (online, [lobby, team]) =
            (event("PRESENCE", "ONLINE"), ["chat/lobby", "game/team"].map(|room| event("ROOMS", "A").subject(room)));
        let name = |queue: &str| Name::new(queue).unwrap();
        let sight = read(&caller(&reader), "*/*,*/ONLINE").unwrap();
        assert!(sight.sees(&event("DB", "A")) && sight.looks_at(&name("DB")));
        for hidden in [&online, &lobby, &team] {
            assert!(!sight.sees(hidden) && !sight.looks_at(&hidden.queue), "{}", hidden.queue);
            assert_eq!(caller(&reader).may_read_event(hidden).unwrap_err().kind, Kind::Forbidden);
        }
        let member = caller(&["events:read:*/*", "rooms:join:chat/*", "presence:read"]);
        let sight = read(&member, "*/*").unwrap();
        assert!(sight.sees(&lobby) && !sight.sees(&team) && sight.looks_at(&name("ROOMS")));
        assert!(!sight.sees(&online), "who is online is told where that is named");
        assert!(read(&member, "*/*,PRESENCE/*").unwrap().sees(&online));
        assert!(member.may_read_event(&lobby).is_ok() && member.may_read_event(&online).is_ok());
        assert_eq!(member.may_read_event(&team).unwrap_err().kind, Kind::Forbidden);
    }

    #[test]
    fn presence_is_seen_by_its_scope() {
        let seer = caller(&["presence:read"]);
        assert!(seer.may_see().is_ok() && read(&seer, "PRESENCE/*").is_ok());
        assert!(caller(&["events:read:DB/*"]).may_see().is_err());
    }

    #[test]
    fn the_queues_of_the_bus_and_of_jobs_are_written_by_nobody() {
        let write =
            |queue: &str| caller(&["events:write:*/*"]).may_write(&Name::new(queue).unwrap(), &Name::new("A").unwrap());
        assert!(write("DB").is_ok());
        for queue in RESERVED.into_iter().chain(OF_JOBS) {
            assert_eq!(write(queue).unwrap_err().kind, Kind::Forbidden);
        }
    }

    #[test]
    fn the_client_s_address_is_the_one_that_the_gateway_saw() {
        assert_eq!(client_address("6.6.6.6, 10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(client_address(""), None);
    }
}
