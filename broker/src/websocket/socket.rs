//! The connection around a session: reads frames, does what the session asks for, and writes as fast as the client takes it.
//!
//! What waits for the client is bounded: beyond `send_queue` no subscription is asked for more, so that a slow client reads
//! its events from the log later; a client that doesn't even take its answers is not read any more either.

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::ControlFlow,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message, protocol::CloseFrame};

use super::{
    close::CloseCode,
    errands::{Asker, Done, Errands, Opened, Opening, TooMany},
    frame::Said,
    session::{Effect, Session, framed, refusal},
    subscriptions::Subscriptions,
    wire::Wire,
};
use crate::{
    access::Caller,
    durable::Over,
    follow::Connected,
    metrics::{self, SendQueue, Transport},
    overload::{HEARING, Overload, Probation, Seat},
    problem::{Kind, Problem},
    settings::Settings,
    shared::Shared,
    told::What,
};

/// Answers that wait beside the events; then nothing is read any more.
const MOST_ANSWERS: usize = 256 * 1024;
/// What is told before it is looked what else there is to do.
const BURST: usize = 64;
/// So many messages wait without asking for room again.
const FEW: usize = 16;
/// How long a client has to answer a close.
const CLOSE: Duration = Duration::from_secs(2);
/// When a client shall come back that was sent away, in milliseconds.
const AFTER_MS: [u64; 2] = [200, 8_000];

pub(super) struct Socket {
    wire: Wire,
    outbox: Outbox,
    session: Session,
    subscriptions: Subscriptions,
    errands: Errands,
    shared: Shared,
    caller: Caller,
    connected: Connected,
    /// What it has to show yet because there is too much.
    probation: Option<Probation>,
    /// Nobody could know who calls before it said so.
    is_judged: bool,
}

#[derive(Default)]
struct Outbox {
    messages: VecDeque<Message>,
    bytes: usize,
    flushed: bool,
    gauge: SendQueue,
}

enum Happened {
    Came(Option<Result<Message, Error>>),
    /// Something was told, and there may be more.
    Told,
    Done(Done),
    Ping,
    Broken,
    Late,
    Drain,
    Drop,
    Rotate,
    Shed,
    Unproven,
}

type Flow = ControlFlow<(CloseCode, String)>;

/// What is to happen at a time.
struct Agenda {
    /// It must have said hello by then.
    hello: Option<Instant>,
    /// And have shown by then that it comes back, where that matters.
    proof: Option<Instant>,
    ping: Instant,
    rotation: Instant,
    /// When it is this client's turn to leave.
    leaves: Option<Instant>,
}

/// How this side ends it.
struct Farewell {
    code: CloseCode,
    reason: String,
    /// What else the client sends can't be read.
    garbled: bool,
}

impl Socket {
    pub(super) fn new(
        wire: Wire,
        shared: Shared,
        caller: Caller,
        connected: Connected,
        probation: Option<Probation>,
    ) -> Self {
        let (outbox, errands, subscriptions) = Default::default();
        let (session, is_judged) = (Session::new(), caller.subject.is_none());
        Self { wire, outbox, session, subscriptions, errands, shared, caller, connected, probation, is_judged }
    }

    /// Until one side ends it. There are many, so its future is small: what it works on is behind a pointer.
    pub(super) async fn run(mut self: Box<Self>) {
        if let Some(farewell) = self.serve().await {
            self.close(farewell).await;
        }
    }

    /// Until this side ends it; None: the other side did.
    async fn serve(&mut self) -> Option<Farewell> {
        let settings = self.shared.settings.clone();
        let shutdown = self.shared.shutdown.clone();
        let seat = self.shared.overload.sit(self.caller.subject.is_some());
        let is_heard = self.is_judged && self.probation.is_some();
        let mut agenda = Agenda::new(&settings, if is_heard { HEARING } else { settings.hello });
        // Each waits in its place for as long as the connection lasts: what happens for an event is that event alone.
        let mut due = pin!(sleep_until(agenda.next()));
        let mut dropping = pin!(shutdown.dropping().cancelled());
        let mut draining = pin!(shutdown.draining().cancelled());
        let mut sent_away = pin!(seat.sent_away());
        loop {
            seat.holds_back(self.outbox.bytes);
            seat.is_known(self.caller.subject.is_some());
            let happened = tokio::select! {
                biased;
                () = &mut dropping => Happened::Drop,
                () = &mut draining, if agenda.leaves.is_none() => Happened::Drain,
                () = &mut sent_away => Happened::Shed,
                () = &mut due => {
                    let happened = agenda.due(Instant::now(), &settings, self);
                    due.as_mut().reset(agenda.next());
                    match happened {
                        Some(happened) => happened,
                        None => continue,
                    }
                }
                happened = poll_fn(|cx| self.poll(cx, &seat)) => happened,
            };
            let flow = match happened {
                Happened::Came(Some(Ok(message))) => self.came(message).await,
                Happened::Came(Some(Err(error))) => {
                    return CloseCode::of(&error).map(|(code, reason)| Farewell { code, reason, garbled: true });
                }
                Happened::Came(None) | Happened::Broken => return None,
                Happened::Told => continue,
                Happened::Done(Done::Opened(opened)) => self.opened(*opened),
                Happened::Done(Done::Answered(frame)) => self.send(frame),
                Happened::Done(Done::Over(turn, name, over)) => self.over(turn, &name, over),
                Happened::Ping if self.session.ping() => self.push(Message::Ping(Default::default())),
                Happened::Ping => Flow::Break((CloseCode::Dead, "no answer to two pings".to_owned())),
                Happened::Late => Flow::Break((CloseCode::Late, "hello did not come in time".to_owned())),
                Happened::Drain => {
                    agenda.leaves = Some(Instant::now() + settings.drain.mul_f64(rand::random_range(0.0..1.0)));
                    due.as_mut().reset(agenda.next());
                    continue;
                }
                Happened::Drop => self.go_away("drain", AFTER_MS, CloseCode::Drain, "this node shuts down"),
                Happened::Shed => {
                    self.go_away("overload", AFTER_MS, CloseCode::Overload, "this node has too much to bear")
                }
                Happened::Unproven => self.turn_away("this node takes only who goes on from a cursor now"),
                Happened::Rotate => self.go_away("auth", AFTER_MS, CloseCode::Rotated, "come back and show who calls"),
            };
            if let Flow::Break((code, reason)) = flow {
                return Some(Farewell { code, reason, garbled: false });
            }
        }
    }

    /// Writes what waits, tells what there is to tell, and finds what happens next.
    fn poll(&mut self, cx: &mut Context<'_>, seat: &Seat) -> Poll<Happened> {
        if self.outbox.poll_write(&mut self.wire, cx).is_err() {
            return Poll::Ready(Happened::Broken);
        }
        if self.outbox.bytes < self.shared.settings.send_queue + MOST_ANSWERS
            && let Poll::Ready(came) = self.wire.poll_next(cx)
        {
            return Poll::Ready(Happened::Came(came));
        }
        if let Poll::Ready(done) = self.errands.poll_next(cx) {
            return Poll::Ready(Happened::Done(done));
        }
        let before = self.outbox.bytes;
        match self.tell(cx, seat) {
            Poll::Ready(()) => Poll::Ready(Happened::Told),
            Poll::Pending if self.outbox.bytes == before => Poll::Pending,
            Poll::Pending => match self.outbox.poll_write(&mut self.wire, cx) {
                Ok(_) => Poll::Pending,
                Err(_) => Poll::Ready(Happened::Broken),
            },
        }
    }

    /// Puts into the outbox what the subscriptions have to tell, so that it is written at once. Ready: there may be more.
    fn tell(&mut self, cx: &mut Context<'_>, seat: &Seat) -> Poll<()> {
        let limit = self.shared.settings.send_queue;
        if self.outbox.bytes >= limit {
            return Poll::Pending;
        }
        for _ in 0..BURST {
            let session = &self.session;
            let Poll::Ready((name, told)) = self.subscriptions.poll_next(cx, |name| session.has_credit(name)) else {
                return Poll::Pending;
            };
            if let What::Event(event) = &told.what {
                Transport::WebSocket.delivered(1);
                seat.told(event.envelope.priority);
            }
            if let Some(frame) = self.session.told(&name, &told) {
                self.outbox.push(Message::Text(frame.into()));
            }
            if self.outbox.bytes >= limit {
                break;
            }
        }
        Poll::Ready(())
    }

    async fn came(&mut self, message: Message) -> Flow {
        // A page that is left may only be loaded again: it is back in a moment.
        let is_farewell = match &message {
            Message::Close(Some(frame)) => u16::from(frame.code) == CloseCode::Normal as u16,
            message => matches!(message, Message::Close(None) | Message::Text(_)),
        };
        let effects = match message {
            Message::Text(text) => self.session.text(&text),
            Message::Binary(_) => self.session.binary(),
            // Frames as such are only sent.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                self.session.heard();
                Vec::new()
            }
            Message::Close(_) => self.session.close(CloseCode::Normal, "bye"),
        };
        for effect in effects {
            match effect {
                Effect::Send(frame) => self.send(frame)?,
                Effect::Welcome { token, client } => self.welcome(token, client).await?,
                Effect::Subscribe { id, turn, sub } => self.errands.subscribe(self.asker(), id, turn, sub),
                Effect::Unsubscribe { name } => self.unsubscribe(&name),
                Effect::Keep { name, cursor } => {
                    // It was told so, and is a cursor.
                    if let Ok(cursor) = cursor.parse() {
                        self.subscriptions.shift(&name, cursor);
                    }
                }
                Effect::Join { id, turn, name, join } => self.errands.join(self.asker(), id, turn, join, name),
                Effect::Leave { id, name, room } => {
                    self.unsubscribe(&name);
                    self.errands.leave(self.asker(), id, room);
                }
                Effect::Members { id, room } => {
                    let asked = self.errands.members(self.asker(), id.clone(), room);
                    self.unless_too_many(asked, id.as_ref())?;
                }
                Effect::Presence { id, users } => {
                    let asked = self.errands.presence(self.asker(), id.clone(), users);
                    self.unless_too_many(asked, id.as_ref())?;
                }
                Effect::Publish { id, publish } => {
                    let asked = self.errands.publish(self.asker(), id.clone(), *publish);
                    self.unless_too_many(asked, id.as_ref())?;
                }
                Effect::Close(code, reason) => {
                    if is_farewell && code == CloseCode::Normal {
                        self.connected.bye();
                    }
                    return Flow::Break((code, reason));
                }
            }
        }
        Flow::Continue(())
    }

    async fn welcome(&mut self, token: Option<String>, client: Option<String>) -> Flow {
        if let Some(token) = token {
            match Box::pin(Caller::verified(&token, &self.shared)).await {
                Ok(caller) => {
                    self.caller = caller.at(self.caller.address.take());
                    self.connected.pass_to(&self.shared, &self.caller);
                }
                Err(Problem { kind: Kind::Unauthenticated, detail, .. }) => {
                    return Flow::Break((CloseCode::Unauthenticated, detail.into_owned()));
                }
                Err(problem) => return Flow::Break((CloseCode::Unavailable, problem.detail.into_owned())),
            }
        }
        if self.is_judged || self.probation.is_some() {
            match self.shared.overload.heard(self.caller.subject.is_some(), self.probation.take()) {
                Ok(probation) => self.probation = probation,
                Err(refused) => return self.turn_away(&refused.detail),
            }
        }
        self.connected.be_online(&self.shared, &self.caller);
        let conn = self.connected.id();
        tracing::debug!(conn, client = client.as_deref().unwrap_or_default(), "a client said hello");
        let ping = u64::try_from(self.shared.settings.ping.as_millis()).unwrap_or(u64::MAX);
        let welcome = json!({ "conn": conn, "ping_ms": ping, "max_bytes": super::MAX_BYTES });
        self.send(framed(None, Said::Welcome, welcome))
    }

    fn asker(&self) -> Asker {
        Asker { shared: self.shared.clone(), caller: self.caller.clone(), conn: self.connected.id().to_owned() }
    }

    fn unless_too_many(&mut self, asked: Result<(), TooMany>, id: Option<&Value>) -> Flow {
        match asked {
            Ok(()) => Flow::Continue(()),
            Err(too_many) => self.send(refusal(id, &too_many.into())),
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        self.subscriptions.remove(name);
        self.list();
    }

    fn opened(&mut self, Opened { id, turn, name, outcome }: Opened) -> Flow {
        match outcome {
            Ok(Opening { subscriber, kept, ok }) => {
                // Where that matters, it was begun from a cursor.
                self.probation = None;
                if let Some(frame) = self.session.subscribed(id.as_ref(), turn, &name, subscriber.last(), ok) {
                    self.send(frame)?;
                    let kept = kept.map(|(kept, over)| {
                        self.errands.watch(turn, name.clone(), over);
                        kept
                    });
                    self.subscriptions.insert(name, subscriber, kept);
                    self.list();
                }
                Flow::Continue(())
            }
            Err(problem) => match self.session.not_subscribed(id.as_ref(), turn, &name, &problem) {
                Effect::Send(frame) => self.send(frame),
                _ => Flow::Continue(()),
            },
        }
    }

    fn over(&mut self, turn: u64, name: &str, over: Option<Over>) -> Flow {
        match over.and_then(|over| self.session.over(turn, name, over)) {
            Some(frame) => {
                self.unsubscribe(name);
                self.send(frame)
            }
            None => Flow::Continue(()),
        }
    }

    /// Keeps the roster right.
    fn list(&self) {
        let follows = self.session.follows().map(|(name, filter)| bus::Subscription {
            name: name.to_owned(),
            filter: filter.to_owned(),
            group: None,
        });
        self.connected.follows(follows.collect());
    }

    fn send(&mut self, frame: String) -> Flow {
        self.push(Message::Text(frame.into()))
    }

    fn go_away(&mut self, reason: &str, after_ms: [u64; 2], code: CloseCode, detail: &str) -> Flow {
        let told = json!({ "reason": reason, "retry": true, "after_ms": after_ms });
        self.send(framed(None, Said::GoAway, told))?;
        Flow::Break((code, detail.to_owned()))
    }

    /// One that was let in only to be heard comes back as late as one that was refused.
    fn turn_away(&mut self, detail: &str) -> Flow {
        self.go_away("overload", Overload::after_ms(), CloseCode::Overload, detail)
    }

    fn push(&mut self, message: Message) -> Flow {
        self.outbox.push(message);
        Flow::Continue(())
    }

    /// Says why, and waits a moment for the client to take that in.
    async fn close(&mut self, Farewell { code, reason, garbled }: Farewell) {
        metrics::closed(code as u16);
        tracing::debug!(conn = self.connected.id(), code = code as u16, reason, "a socket is closed");
        self.outbox.push(Message::Close(Some(CloseFrame { code: (code as u16).into(), reason: reason.into() })));
        let farewell = async {
            let written = poll_fn(|cx| match self.outbox.poll_write(&mut self.wire, cx) {
                Ok(true) => Poll::Ready(true),
                Ok(false) => Poll::Pending,
                Err(_) => Poll::Ready(false),
            });
            if written.await {
                while let Some(Ok(_)) = poll_fn(|cx| self.wire.poll_next(cx)).await {}
                if garbled {
                    // What wasn't read makes the end a reset, which must not overtake the reason.
                    std::future::pending::<()>().await;
                }
            }
        };
        let _ = timeout(CLOSE, farewell).await;
    }
}

impl Agenda {
    /// `hello`: how long the client has for its first frame.
    fn new(settings: &Settings, hello: Duration) -> Self {
        let now = Instant::now();
        let hello = now + hello.min(settings.hello);
        let rotation = now + settings.rotation.mul_f64(rand::random_range(0.9..1.1));
        let proof = Some(now + settings.hello);
        Self { hello: Some(hello), proof, ping: now + settings.ping, rotation, leaves: None }
    }

    /// When something is due next.
    fn next(&self) -> Instant {
        let always = if self.leaves.is_some() { self.ping } else { self.ping.min(self.rotation) };
        [self.hello, self.proof, self.leaves].into_iter().flatten().fold(always, Instant::min)
    }

    /// What is due now.
    fn due(&mut self, now: Instant, settings: &Settings, socket: &Socket) -> Option<Happened> {
        if self.leaves.is_some_and(|leaves| leaves <= now) {
            return Some(Happened::Drop);
        }
        if self.leaves.is_none() && self.rotation <= now {
            return Some(Happened::Rotate);
        }
        if self.hello.take_if(|hello| *hello <= now).is_some() && socket.session.is_greeting() {
            return Some(Happened::Late);
        }
        if self.proof.take_if(|proof| *proof <= now).is_some() && socket.probation.is_some() {
            return Some(Happened::Unproven);
        }
        if self.ping <= now {
            self.ping = now + settings.ping;
            return Some(Happened::Ping);
        }
        None
    }
}

impl Outbox {
    fn push(&mut self, message: Message) {
        self.bytes += length(&message);
        self.messages.push_back(message);
        self.flushed = false;
    }

    /// Writes what the socket takes; whether that was all. What it doesn't take is what the gauge counts.
    fn poll_write(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Result<bool, Error> {
        let written = self.poll_send(wire, cx);
        self.gauge.set(self.bytes);
        written
    }

    fn poll_send(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Result<bool, Error> {
        while !self.messages.is_empty() {
            match wire.poll_ready(cx)? {
                Poll::Pending => return Ok(false),
                Poll::Ready(()) => {}
            }
            if let Some(message) = self.messages.pop_front() {
                self.bytes -= length(&message);
                wire.start_send(message)?;
            }
        }
        self.messages.shrink_to(FEW);
        if !self.flushed {
            self.flushed = wire.poll_flush(cx)?.is_ready();
        }
        Ok(self.flushed)
    }
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) | Message::Frame(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// There are ten thousands of them, and most of them wait.
    #[test]
    fn a_socket_that_waits_is_small() {
        let (state, waiting) = (size_of::<Socket>(), size(|socket: Box<Socket>| socket.run()));
        assert!(state + waiting <= 4 * 1024, "{state} and {waiting} bytes");
    }
}
