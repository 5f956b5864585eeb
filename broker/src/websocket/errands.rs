//! What a frame asks for that takes its time: to follow, to join, to publish, to look who is there.
//!
//! Publishes are done one after the other in the order they came, and so are joining and leaving; whatever waits for others
//! holds up none. How many there are at once is bounded: here, or by the session's subscriptions.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{
    frame::{Join, Pub, Sub},
    session::{answer, refusal},
};
use crate::{
    access::Caller,
    begin,
    cursor::Cursor,
    durable::{Kept, Over},
    follow::{self, Asked},
    hub::{Begin, View},
    presence,
    problem::{Kind, Problem},
    publish,
    query::refuse,
    rooms::{self, Room},
    shared::Shared,
    told::Subscriber,
};

/// Publishes and questions of a connection that wait for their answer.
const MOST: usize = 64;

type Later = Pin<Box<dyn Future<Output = Done> + Send>>;

#[derive(Default)]
pub(super) struct Errands {
    waiting: FuturesUnordered<Later>,
    publishes: VecDeque<Later>,
    rooms: VecDeque<Later>,
    /// Of those that wait, how many are to be answered and open nothing.
    answers: usize,
}

/// What became of one.
pub(super) enum Done {
    Opened(Box<Opened>),
    /// A frame.
    Answered(String),
    /// A durable subscription is over; None: its client had ended it.
    Over(u64, String, Option<Over>),
}

/// A subscription that follows, or doesn't.
pub(super) struct Opened {
    pub id: Option<Value>,
    pub turn: u64,
    pub name: String,
    pub outcome: Result<Opening, Problem>,
}

pub(super) struct Opening {
    pub subscriber: Subscriber,
    /// Of a durable one: its place, and what tells that it is over.
    pub kept: Option<(Kept, oneshot::Receiver<Over>)>,
    /// What is answered.
    pub ok: Value,
}

/// As many as may be are on their way already.
pub(super) struct TooMany;

/// On whose behalf.
#[derive(Clone)]
pub(super) struct Asker {
    pub shared: Shared,
    pub caller: Caller,
    pub conn: String,
}

impl Errands {
    /// What is done next.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        for queue in [&mut self.publishes, &mut self.rooms] {
            if let Some(first) = queue.front_mut()
                && let Poll::Ready(done) = first.poll_unpin(cx)
            {
                queue.pop_front();
                return Poll::Ready(done);
            }
        }
        match self.waiting.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => {
                self.answers -= usize::from(matches!(done, Done::Answered(_)));
                Poll::Ready(done)
            }
            _ => Poll::Pending,
        }
    }

    pub(super) fn subscribe(&mut self, Asker { shared, caller, .. }: Asker, id: Option<Value>, turn: u64, sub: Sub) {
        self.waiting.push(Box::pin(async move {
            let name = sub.name.clone();
            let outcome = follow(&shared, &caller, sub).await;
            Done::Opened(Box::new(Opened { id, turn, name, outcome }))
        }));
    }

    pub(super) fn join(
        &mut self,
        Asker { shared, caller, conn }: Asker,
        id: Option<Value>,
        turn: u64,
        Join { room, cursor, .. }: Join,
        name: String,
    ) {
        self.rooms.push_back(Box::pin(async move {
            let joined = async {
                let begin = begin_of(&shared, "join.cursor", cursor.as_deref())?;
                let joined = rooms::join(&shared, &caller, &conn, &room, begin).await?;
                let cursor = joined.subscriber.last();
                let mut ok = json!(joined.members);
                ok["cursor"] = cursor.into();
                Ok(Opening { subscriber: joined.subscriber, kept: None, ok })
            };
            let outcome = joined.await;
            Done::Opened(Box::new(Opened { id, turn, name, outcome }))
        }));
    }

    /// Waits until a durable subscription is over.
    pub(super) fn watch(&mut self, turn: u64, name: String, over: oneshot::Receiver<Over>) {
        self.waiting.push(Box::pin(async move { Done::Over(turn, name, over.await.ok()) }));
    }

    pub(super) fn leave(&mut self, Asker { shared, conn, .. }: Asker, id: Option<Value>, room: Room) {
        self.rooms.push_back(Box::pin(async move {
            let left = rooms::leave(&shared, &conn, &room).await;
            answered(id.as_ref(), left.map(|()| json!({ "room": room.to_string() })))
        }));
    }

    pub(super) fn members(
        &mut self,
        Asker { shared, caller, .. }: Asker,
        id: Option<Value>,
        room: Room,
    ) -> Result<(), TooMany> {
        self.ask(async move {
            let members = rooms::members(&shared, &caller, &room).await;
            answered(id.as_ref(), members.map(|members| json!(members)))
        })
    }

    pub(super) fn presence(
        &mut self,
        Asker { shared, caller, .. }: Asker,
        id: Option<Value>,
        users: Vec<String>,
    ) -> Result<(), TooMany> {
        self.ask(async move {
            let users = presence::online(&shared, &caller, &users).await;
            answered(id.as_ref(), users.map(|users| json!({ "users": users })))
        })
    }

    pub(super) fn publish(
        &mut self,
        Asker { shared, caller, .. }: Asker,
        id: Option<Value>,
        Pub { event, wanted }: Pub,
    ) -> Result<(), TooMany> {
        let waits = wanted.waits();
        let span = tracing::info_span!(
            "publish",
            otel.name = %format_args!("publish {}/{}", event.queue, event.event),
            otel.kind = "server",
            turnpike.role = crate::NAME,
        );
        let publish = async move {
            let receipt = publish::publish(&shared, &caller, event, &wanted, telemetry::current()).await;
            answered(id.as_ref(), receipt.map(|receipt| json!(receipt)))
        };
        let publish = publish.instrument(span);
        if waits {
            return self.ask(publish);
        }
        self.check()?;
        self.publishes.push_back(Box::pin(publish));
        Ok(())
    }

    fn ask(&mut self, question: impl Future<Output = Done> + Send + 'static) -> Result<(), TooMany> {
        self.check()?;
        self.answers += 1;
        self.waiting.push(Box::pin(question));
        Ok(())
    }

    fn check(&self) -> Result<(), TooMany> {
        if self.publishes.len() + self.answers < MOST { Ok(()) } else { Err(TooMany) }
    }
}

impl From<TooMany> for Problem {
    fn from(TooMany: TooMany) -> Self {
        Self::new(Kind::TooMany, format!("{MOST} frames wait for their answer already"))
    }
}

fn answered(id: Option<&Value>, outcome: Result<Value, Problem>) -> Done {
    Done::Answered(match outcome {
        Ok(ok) => answer(id, ok),
        Err(problem) => refusal(id, &problem),
    })
}

async fn follow(shared: &Shared, caller: &Caller, sub: Sub) -> Result<Opening, Problem> {
    let named = |problem: Problem| Problem { detail: format!("sub.{}", problem.detail).into(), ..problem };
    let filter = sub.filter.parse().map_err(|error| refuse("sub.filter", error))?;
    let begin = begin_of(shared, "sub.cursor", sub.cursor.as_deref())?;
    let view = sub.view.as_deref().map_or(Ok(View::Stream), |view| follow::view_of("sub.view", view))?;
    let mut asked = Asked::new(filter, begin, view, caller)?;
    if !sub.durable {
        let subscriber = asked.follow(shared).await?;
        let ok = json!({ "cursor": subscriber.last(), "replaying": subscriber.replaying() });
        return Ok(Opening { subscriber, kept: None, ok });
    }
    let Some(user) = caller.subject.clone() else {
        return Err(named(Problem::new(Kind::Unauthenticated, "durable: needs to know who subscribes")));
    };
    let opened = shared.bus.open_bookmark(&user, &sub.name, &sub.filter).await.map_err(|error| named(error.into()))?;
    let place = opened.cursor.and_then(|cursor| cursor.parse::<Cursor>().ok());
    let resumed = sub.cursor.is_none() && place.is_some();
    if let Some(place) = place.filter(|_| resumed) {
        asked.begin = Begin::Cursor(place);
    }
    let subscriber = asked.follow(shared).await?;
    let kept = shared.durable.keep(user, sub.name, opened.holder, subscriber.place());
    let ok = json!({ "cursor": subscriber.last(), "replaying": subscriber.replaying(), "resumed": resumed });
    Ok(Opening { subscriber, kept: Some(kept), ok })
}

fn begin_of(shared: &Shared, member: &str, cursor: Option<&str>) -> Result<Begin, Problem> {
    match cursor {
        None => Ok(Begin::Latest),
        Some(text) => begin::any(text, &shared.seal).map_err(|problem| refuse(member, problem.detail)),
    }
}
