//! The protocol of one connection, without the connection: what comes in becomes [`Effect`]s, what goes out is counted.
//!
//! A malformed frame is answered with what is wrong with it and changes nothing; the connection ends only where the client
//! breaks the protocol as such: no `hello` first, or a second one, frames that are no text, another version.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    close::CloseCode,
    credit::Credit,
    frame::{Ack, Frame, Hello, InRoom, Join, Malformed, Presence, Pub, ROOM, Said, Sub, Unsub, Verb},
};
use crate::{
    durable::Over,
    problem::{self, Kind, Problem},
    rooms::Room,
    told::{Told, What},
};

const VERSION: u32 = 1;
const MOST_SUBSCRIPTIONS: usize = 64;
const DEFAULT_CREDIT: usize = 256;
const MOST_CREDIT: usize = 4096;
/// Of all subscriptions together: what is remembered of a connection is bounded.
const MOST_CREDIT_OF_ALL: usize = 16_384;
/// Unanswered pings after which a client is dead.
const MOST_MISSED: u32 = 2;

/// What the connection must do.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    Send(String),
    /// Verify the token if there is one, then welcome.
    Welcome {
        token: Option<String>,
        client: Option<String>,
    },
    /// Begin to follow; `turn` tells it from an earlier one of the same name.
    Subscribe {
        id: Option<Value>,
        turn: u64,
        sub: Sub,
    },
    Unsubscribe {
        name: String,
    },
    /// A durable subscription was acknowledged up to this cursor.
    Keep {
        name: String,
        cursor: String,
    },
    /// Join a room and begin to follow it, as a subscription of this turn.
    Join {
        id: Option<Value>,
        turn: u64,
        name: String,
        join: Join,
    },
    /// Leave a room, and follow it no more.
    Leave {
        id: Option<Value>,
        name: String,
        room: Room,
    },
    Members {
        id: Option<Value>,
        room: Room,
    },
    Presence {
        id: Option<Value>,
        users: Vec<String>,
    },
    Publish {
        id: Option<Value>,
        publish: Box<Pub>,
    },
    Close(CloseCode, String),
}

pub(super) struct Session {
    state: State,
    /// Each in a box, since a map keeps room for some more.
    subscriptions: BTreeMap<String, Box<Subscription>>,
    turns: u64,
    /// How many are being opened, those included that were unsubscribed meanwhile.
    opening: usize,
    /// Pings since anything was heard.
    missed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said yet.
    Greeting,
    Open,
    Closed,
}

struct Subscription {
    turn: u64,
    credit: Credit,
    filter: String,
    durable: bool,
    /// It follows; before, it is being opened.
    open: bool,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { state: State::Greeting, subscriptions: BTreeMap::new(), turns: 0, opening: 0, missed: 0 }
    }

    pub(super) fn is_greeting(&self) -> bool {
        self.state == State::Greeting
    }

    /// What it follows: (name, filter).
    pub(super) fn follows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.subscriptions.iter().filter(|(_, sub)| sub.open).map(|(name, sub)| (name.as_str(), sub.filter.as_str()))
    }

    /// A text frame came.
    pub(super) fn text(&mut self, text: &str) -> Vec<Effect> {
        self.heard();
        let Frame { id, verb } = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(_) if self.state == State::Greeting => return self.close(CloseCode::Protocol, "hello must come first"),
            Err(Malformed { id, problem }) => return vec![error(id.as_ref(), &problem)],
        };
        match (self.state, verb) {
            (State::Closed, _) => Vec::new(),
            (State::Greeting, Verb::Hello(hello)) => self.hello(hello),
            (State::Greeting, _) => self.close(CloseCode::Protocol, "hello must come first"),
            (State::Open, Verb::Hello(_)) => self.close(CloseCode::Protocol, "hello comes once"),
            (State::Open, Verb::Sub(sub)) => vec![self.sub(id, sub)],
            (State::Open, Verb::Unsub(unsub)) => self.unsub(id, unsub),
            (State::Open, Verb::Ack(ack)) => self.ack(id, ack),
            (State::Open, Verb::Pub(publish)) => vec![Effect::Publish { id, publish }],
            (State::Open, Verb::Join(join)) => vec![self.join(id, join)],
            (State::Open, Verb::Leave(InRoom { room })) => vec![self.leave(id, room)],
            (State::Open, Verb::Members(InRoom { room })) => vec![Effect::Members { id, room }],
            (State::Open, Verb::Presence(presence)) => vec![ask(id, presence)],
            (State::Open, Verb::Ping) => vec![Effect::Send(answer(id.as_ref(), json!({})))],
            (State::Open, Verb::Bye) => self.close(CloseCode::Normal, "bye"),
        }
    }

    /// A frame came that is no text.
    pub(super) fn binary(&mut self) -> Vec<Effect> {
        self.close(CloseCode::Protocol, "frames are text")
    }

    /// Something came, whatever it is: the client lives.
    pub(super) fn heard(&mut self) {
        self.missed = 0;
    }

    /// It is time to ask whether the client lives; false: it doesn't.
    pub(super) fn ping(&mut self) -> bool {
        self.missed += 1;
        self.missed <= MOST_MISSED
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str) -> Vec<Effect> {
        if self.state == State::Closed {
            return Vec::new();
        }
        self.state = State::Closed;
        vec![Effect::Close(code, reason.to_owned())]
    }

    /// A subscription follows now, from this cursor on: what the client is told, or None where it is wanted no more.
    pub(super) fn subscribed(
        &mut self,
        id: Option<&Value>,
        turn: u64,
        name: &str,
        cursor: &str,
        ok: Value,
    ) -> Option<String> {
        self.opening = self.opening.saturating_sub(1);
        let subscription = self.subscriptions.get_mut(name).filter(|subscription| subscription.turn == turn)?;
        subscription.open = true;
        subscription.credit = Credit::new(subscription.credit.most(), cursor);
        Some(answer(id, ok))
    }

    /// A subscription could not be begun.
    pub(super) fn not_subscribed(&mut self, id: Option<&Value>, turn: u64, name: &str, problem: &Problem) -> Effect {
        self.opening = self.opening.saturating_sub(1);
        if self.subscriptions.get(name).is_some_and(|subscription| subscription.turn == turn) {
            self.subscriptions.remove(name);
        }
        error(id, problem)
    }

    /// A subscription is over that the client didn't end: what it is told, unless it has ended it meanwhile.
    pub(super) fn over(&mut self, turn: u64, name: &str, why: Over) -> Option<String> {
        self.subscriptions.get(name).filter(|subscription| subscription.turn == turn)?;
        self.subscriptions.remove(name);
        let reason = match why {
            Over::Taken => "taken",
            Over::Removed => "removed",
        };
        Some(framed(None, Said::Ended, json!({ "sub": name, "reason": reason })))
    }

    /// Whether a subscription may be told more.
    pub(super) fn has_credit(&self, name: &str) -> bool {
        self.subscriptions.get(name).is_some_and(|subscription| subscription.open && !subscription.credit.is_spent())
    }

    /// What a subscription is told, as a frame.
    pub(super) fn told(&mut self, name: &str, told: &Told) -> Option<String> {
        let subscription = self.subscriptions.get_mut(name)?;
        let said = match told.what {
            What::Event(_) => Said::Ev,
            What::Gap(..) => Said::Gap,
            What::CaughtUp => Said::CaughtUp,
            What::Cursor => Said::Cursor,
        };
        subscription.credit.told(&told.cursor, said == Said::Ev);
        Some(told.text(&format!(r#"{{"{}":{{"sub":{},"#, said.name(), json!(name)), "}}"))
    }

    fn hello(&mut self, hello: Hello) -> Vec<Effect> {
        if hello.v != VERSION {
            return self.close(CloseCode::Version, "only version 1 is spoken here");
        }
        self.state = State::Open;
        vec![Effect::Welcome { token: hello.token, client: hello.client }]
    }

    fn sub(&mut self, id: Option<Value>, sub: Sub) -> Effect {
        if let Err(problem) = sub.check() {
            return error(id.as_ref(), &problem);
        }
        match self.open(&sub.name, sub.filter.clone(), sub.credit, sub.durable) {
            Ok(turn) => Effect::Subscribe { id, turn, sub },
            Err(problem) => {
                error(id.as_ref(), &Problem { detail: format!("sub.{}", problem.detail).into(), ..problem })
            }
        }
    }

    fn join(&mut self, id: Option<Value>, join: Join) -> Effect {
        let name = join.name();
        match self.open(&name, format!("ROOMS/*[subject={}]", join.room), join.credit, false) {
            Ok(turn) => Effect::Join { id, turn, name, join },
            Err(problem) => {
                error(id.as_ref(), &Problem { detail: format!("join.{}", problem.detail).into(), ..problem })
            }
        }
    }

    fn leave(&mut self, id: Option<Value>, room: Room) -> Effect {
        let name = format!("{ROOM}{room}");
        match self.subscriptions.remove(&name) {
            Some(_) => Effect::Leave { id, name, room },
            None => {
                error(id.as_ref(), &Problem::new(Kind::NotFound, format!("leave.room: {room} has not been joined")))
            }
        }
    }

    /// Makes room for a subscription that is to be opened; its turn.
    fn open(&mut self, name: &str, filter: String, credit: Option<usize>, durable: bool) -> Result<u64, Problem> {
        if self.subscriptions.contains_key(name) {
            return Err(Problem::new(Kind::Conflict, format!("name: there is a subscription {name:?}")));
        }
        if self.subscriptions.len().max(self.opening) >= MOST_SUBSCRIPTIONS {
            let detail = format!("name: a connection has at most {MOST_SUBSCRIPTIONS} subscriptions");
            return Err(Problem::new(Kind::TooMany, detail));
        }
        let credit = credit.unwrap_or(DEFAULT_CREDIT);
        if !(1..=MOST_CREDIT).contains(&credit) {
            return Err(Problem::invalid(format!("credit: must be 1 to {MOST_CREDIT}")));
        }
        let others: usize = self.subscriptions.values().map(|subscription| subscription.credit.most()).sum();
        if others + credit > MOST_CREDIT_OF_ALL {
            let detail = format!("credit: a connection has at most {MOST_CREDIT_OF_ALL}");
            return Err(Problem::new(Kind::TooMany, detail));
        }
        self.turns += 1;
        self.opening += 1;
        let (turn, credit) = (self.turns, Credit::new(credit, ""));
        let subscription = Subscription { turn, credit, filter, durable, open: false };
        self.subscriptions.insert(name.to_owned(), Box::new(subscription));
        Ok(self.turns)
    }

    fn unsub(&mut self, id: Option<Value>, Unsub { sub }: Unsub) -> Vec<Effect> {
        if sub.starts_with(ROOM) {
            let problem = Problem::invalid("unsub.sub: a room is left by leave");
            return vec![error(id.as_ref(), &problem)];
        }
        if self.subscriptions.remove(&sub).is_none() {
            return vec![error(id.as_ref(), &no_subscription("unsub", &sub))];
        }
        vec![Effect::Unsubscribe { name: sub }, Effect::Send(answer(id.as_ref(), json!({})))]
    }

    /// Without an id a successful one is not answered.
    fn ack(&mut self, id: Option<Value>, Ack { sub, cursor }: Ack) -> Vec<Effect> {
        let Some(subscription) = self.subscriptions.get_mut(&sub).filter(|subscription| subscription.open) else {
            return vec![error(id.as_ref(), &no_subscription("ack", &sub))];
        };
        if subscription.credit.acknowledge(&cursor).is_err() {
            let problem = Problem::invalid("ack.cursor: nothing unacknowledged has this cursor");
            return vec![error(id.as_ref(), &problem)];
        }
        let keep = subscription.durable.then_some(Effect::Keep { name: sub, cursor });
        let answer = id.map(|id| Effect::Send(answer(Some(&id), json!({}))));
        keep.into_iter().chain(answer).collect()
    }
}

/// `{"id":…,"ok":…}`.
pub(super) fn answer(id: Option<&Value>, ok: Value) -> String {
    framed(id, Said::Ok, ok)
}

/// `{"id":…,"error":{"code","detail"}}`; `current` and `retry_after` (whole seconds) where a problem document or its header
/// fields would have them.
pub(super) fn refusal(id: Option<&Value>, problem: &Problem) -> String {
    let mut error = json!({ "code": problem.kind.code(), "detail": problem.detail });
    if let Some(current) = problem.current {
        error["current"] = current.into();
    }
    if let Some(wait) = problem.retry_after {
        error["retry_after"] = problem::whole_seconds(wait).into();
    }
    framed(id, Said::Error, error)
}

pub(super) fn framed(id: Option<&Value>, said: Said, body: Value) -> String {
    match id {
        Some(id) => json!({ "id": id, (said.name()): body }).to_string(),
        None => json!({ (said.name()): body }).to_string(),
    }
}

fn ask(id: Option<Value>, presence: Presence) -> Effect {
    match presence.check() {
        Ok(()) => Effect::Presence { id, users: presence.users },
        Err(problem) => error(id.as_ref(), &problem),
    }
}

fn error(id: Option<&Value>, problem: &Problem) -> Effect {
    Effect::Send(refusal(id, problem))
}

fn no_subscription(verb: &str, name: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("{verb}.sub: there is no subscription {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Session {
        let mut session = Session::new();
        let welcomed = session.text(r#"{"hello":{"v":1}}"#);
        assert_eq!(welcomed, [Effect::Welcome { token: None, client: None }]);
        session
    }

    fn sub(session: &mut Session, name: &str) -> u64 {
        let effects = session.text(&format!(r#"{{"id":1,"sub":{{"name":"{name}","filter":"DB/*","credit":2}}}}"#));
        let [Effect::Subscribe { turn, .. }] = effects[..] else { panic!("{effects:?}") };
        turn
    }

    fn at(cursor: &str) -> Told {
        let what = What::Event(std::sync::Arc::new(crate::hub::Event {
            envelope: std::sync::Arc::new(events::Envelope::new(
                "/test",
                events::Name::new("DB").unwrap(),
                events::Name::new("A").unwrap(),
            )),
            json: "{}".to_owned(),
        }));
        Told { what, cursor: cursor.to_owned(), prev: "p".to_owned(), replay: false }
    }

    fn refused(effects: &[Effect]) -> String {
        let [Effect::Send(frame)] = effects else { panic!("no error: {effects:?}") };
        let frame: Value = serde_json::from_str(frame).unwrap();
        frame["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {frame}")).to_owned()
    }

    #[test]
    fn hello_comes_first_and_once() {
        for first in [r#"{"id":1,"sub":{"name":"s","filter":"DB/*"}}"#, "garbage", r#"{"hello":{"v":"one"}}"#] {
            let effects = Session::new().text(first);
            assert!(matches!(effects[..], [Effect::Close(CloseCode::Protocol, _)]), "{first}: {effects:?}");
        }
        let effects = Session::new().text(r#"{"hello":{"v":2}}"#);
        assert!(matches!(effects[..], [Effect::Close(CloseCode::Version, _)]));
        let mut session = open();
        assert!(matches!(session.text(r#"{"hello":{"v":1}}"#)[..], [Effect::Close(CloseCode::Protocol, _)]));
        assert_eq!(session.text(r#"{"unsub":{"sub":"s"}}"#), [], "a closed session does nothing");
    }

    #[test]
    fn credit_holds_back_until_it_is_returned() {
        let mut session = open();
        let turn = sub(&mut session, "s1");
        assert!(!session.has_credit("s1"), "not open yet");
        assert!(
            session.subscribed(None, turn, "s1", "c0", json!({ "replaying": 5 })).unwrap().contains("\"replaying\":5")
        );
        for cursor in ["c1", "c2"] {
            assert!(session.has_credit("s1"));
            let frame = session.told("s1", &at(cursor)).unwrap();
            assert!(frame.starts_with(r#"{"ev":{"sub":"s1","#), "{frame}");
            let frame: Value = serde_json::from_str(&frame).unwrap();
            assert_eq!(frame["ev"]["cursor"], cursor);
        }
        assert!(!session.has_credit("s1"));
        assert_eq!(refused(&session.text(r#"{"ack":{"sub":"s1","cursor":"c9"}}"#)), "invalid");
        assert!(!session.has_credit("s1"));
        assert_eq!(session.text(r#"{"ack":{"sub":"s1","cursor":"c1"}}"#), []);
        assert!(session.has_credit("s1"));
        assert_eq!(refused(&session.text(r#"{"ack":{"sub":"s2","cursor":"c1"}}"#)), "not-found");
    }

    #[test]
    fn subscriptions_are_named_once_and_counted() {
        let mut session = open();
        for n in 0..MOST_SUBSCRIPTIONS {
            sub(&mut session, &n.to_string());
        }
        assert_eq!(refused(&session.text(r#"{"sub":{"name":"0","filter":"DB/*"}}"#)), "conflict");
        assert_eq!(refused(&session.text(r#"{"sub":{"name":"more","filter":"DB/*"}}"#)), "too-many");
        assert!(matches!(session.text(r#"{"unsub":{"sub":"0"}}"#)[..], [Effect::Unsubscribe { .. }, Effect::Send(_)]));
        assert_eq!(session.subscribed(None, 1, "0", "c", json!({})), None);
        sub(&mut session, "0");
    }

    #[test]
    fn what_is_being_opened_counts_until_it_is() {
        let mut session = open();
        for turn in 1..=MOST_SUBSCRIPTIONS as u64 {
            assert_eq!(sub(&mut session, "s"), turn);
            session.text(r#"{"unsub":{"sub":"s"}}"#);
        }
        assert_eq!(refused(&session.text(r#"{"sub":{"name":"s","filter":"DB/*"}}"#)), "too-many");
        assert_eq!(session.subscribed(None, 1, "s", "c", json!({})), None);
        let away = Problem::unavailable("the bus is away", std::time::Duration::from_secs(1));
        session.not_subscribed(None, 2, "s", &away);
        sub(&mut session, "s");
        sub(&mut session, "another");
        assert_eq!(refused(&session.text(r#"{"sub":{"name":"third","filter":"DB/*"}}"#)), "too-many");
    }

    #[test]
    fn credit_has_its_bounds() {
        let mut session = open();
        for credit in ["0", "4097"] {
            let text = format!(r#"{{"sub":{{"name":"s","filter":"DB/*","credit":{credit}}}}}"#);
            assert_eq!(refused(&session.text(&text)), "invalid", "{credit}");
        }
        for name in 0..4 {
            let text = format!(r#"{{"sub":{{"name":"{name}","filter":"DB/*","credit":4096}}}}"#);
            assert!(matches!(session.text(&text)[..], [Effect::Subscribe { .. }]));
        }
        assert_eq!(refused(&session.text(r#"{"sub":{"name":"s","filter":"DB/*"}}"#)), "too-many");
    }

    #[test]
    fn what_was_unsubscribed_while_it_opened_stays_away() {
        let mut session = open();
        let first = sub(&mut session, "s");
        session.text(r#"{"unsub":{"sub":"s"}}"#);
        assert_eq!(session.subscribed(None, first, "s", "c", json!({})), None);
        let second = sub(&mut session, "s");
        assert_eq!(session.subscribed(None, first, "s", "c", json!({})), None, "that was the first one");
        assert!(session.subscribed(None, second, "s", "c", json!({})).is_some());
    }

    #[test]
    fn a_room_is_a_subscription_that_is_joined_and_left() {
        let mut session = open();
        for (frame, code) in [
            (r#"{"sub":{"name":"room:chat/lobby","filter":"ROOMS/*"}}"#, "invalid"),
            (r#"{"leave":{"room":"chat/lobby"}}"#, "not-found"),
        ] {
            assert_eq!(refused(&session.text(frame)), code, "{frame}");
        }
        let effects = session.text(r#"{"id":1,"join":{"room":"chat/lobby","credit":1}}"#);
        let [Effect::Join { turn, .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(refused(&session.text(r#"{"join":{"room":"chat/lobby"}}"#)), "conflict");
        assert!(session.subscribed(None, turn, "room:chat/lobby", "c", json!({})).is_some());
        let frame = session.told("room:chat/lobby", &at("c1")).unwrap();
        assert!(frame.starts_with(r#"{"ev":{"sub":"room:chat/lobby","#), "{frame}");
        assert!(!session.has_credit("room:chat/lobby"));
        assert_eq!(session.text(r#"{"ack":{"sub":"room:chat/lobby","cursor":"c1"}}"#), []);
        assert_eq!(refused(&session.text(r#"{"unsub":{"sub":"room:chat/lobby"}}"#)), "invalid");
        assert!(matches!(session.text(r#"{"leave":{"room":"chat/lobby"}}"#)[..], [Effect::Leave { .. }]));
        assert!(!session.has_credit("room:chat/lobby"));
    }

    #[test]
    fn what_a_durable_one_acknowledges_is_kept_until_it_is_over() {
        let mut session = open();
        let effects = session.text(r#"{"id":1,"sub":{"name":"d","filter":"DB/*","durable":true}}"#);
        let [Effect::Subscribe { turn, .. }] = effects[..] else { panic!("{effects:?}") };
        session.subscribed(None, turn, "d", "c0", json!({})).unwrap();
        session.told("d", &at("c1")).unwrap();
        let keep = Effect::Keep { name: "d".to_owned(), cursor: "c1".to_owned() };
        assert_eq!(session.text(r#"{"ack":{"sub":"d","cursor":"c1"}}"#), [keep]);
        assert_eq!(refused(&session.text(r#"{"ack":{"sub":"d","cursor":"c2"}}"#)), "invalid");
        assert_eq!(session.over(turn + 1, "d", Over::Taken), None, "that is another one's end");
        assert_eq!(session.over(turn, "d", Over::Taken).unwrap(), r#"{"ended":{"reason":"taken","sub":"d"}}"#);
        assert_eq!(session.over(turn, "d", Over::Taken), None);
        assert!(!session.has_credit("d"));
    }

    #[test]
    fn a_ping_of_the_client_is_answered() {
        let answered = open().text(r#"{"id":7,"ping":{}}"#);
        assert_eq!(answered, [Effect::Send(r#"{"id":7,"ok":{}}"#.to_owned())]);
    }

    #[test]
    fn two_missed_pings_are_death() {
        let mut session = open();
        assert!(session.ping() && session.ping());
        assert!(!session.ping());
        session.heard();
        assert!(session.ping());
    }
}
