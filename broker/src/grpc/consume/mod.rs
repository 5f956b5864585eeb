//! Consume: a member of a group on the other side of a stream. What the member holds and owes is the session's
//! (`session.rs`, without I/O); claiming, settling and the stream itself are the loop's (`member.rs`).
//!
//! A member that stops says so and gives back what it has. One that is cut off can't: what was sent to it may have been
//! begun, and keeps its lease to the end, which counts for what it is; what wasn't sent is released.

mod member;
mod session;

use std::time::Duration;

use bus::Group;
use futures_util::Stream;
use proto::turnpike::bus::v1 as wire;
use tonic::{Status, Streaming};
use wire::{
    consume_request::{Hello, Message as Word},
    consume_response::{Message, Welcome},
};

use self::{
    member::{End, Member},
    session::Session,
};
use super::{group, last_word::LastWord, moment::wire_duration, outward::Outward, publish::depart, refusal::silent};
use crate::{
    access::Caller,
    follow::Connected,
    metrics::Transport,
    problem::{Kind, Problem},
    query::refuse,
    shared::Shared,
};

type Outgoing = Outward<wire::ConsumeResponse>;

/// What the client says.
pub(super) struct Said {
    pub requests: Streaming<wire::ConsumeRequest>,
    pub last_word: LastWord,
}

/// Unsettled deliveries of a stream, and those unless it says.
const CREDIT: (usize, usize) = (1000, 64);
/// The longest between two signs of life; a shorter lease needs them more often.
const BEAT: Duration = Duration::from_secs(10);

pub(super) fn consume(
    shared: &Shared,
    caller: Caller,
    said: Said,
) -> Result<impl Stream<Item = Result<wire::ConsumeResponse, Status>> + Send + 'static, Problem> {
    if caller.subject.is_none() {
        return Err(Problem::new(Kind::Unauthenticated, "working for a group needs to know who does"));
    }
    let connected = Connected::join(shared, &caller, Transport::Grpc, None)?;
    let (outward, answers) = Outward::new(shared.settings.stall);
    let (tasks, shared) = (shared.tasks.clone(), shared.clone());
    tasks.spawn(async move {
        let end = run(&shared, &caller, &connected, said, &outward).await;
        // Off the roster before the client knows that it is.
        drop(connected);
        match end {
            End::Done | End::Broken => {}
            End::Departed(why) => outward.end(depart(why)).await,
            End::Silent => outward.end(silent()).await,
            End::Refused(problem) => outward.end(problem.into()).await,
        }
    });
    Ok(answers)
}

async fn run(shared: &Shared, caller: &Caller, connected: &Connected, mut said: Said, outward: &Outgoing) -> End {
    let opened = tokio::select! {
        opened = open(shared, caller, &mut said.requests) => opened,
        () = outward.gone() => return End::Broken,
        () = shared.shutdown.dropping().cancelled() => return End::Departed(crate::departure::Why::Drain),
    };
    let (group, credit) = match opened {
        Ok(opened) => opened,
        Err(problem) => return End::Refused(problem),
    };
    connected.follows(vec![bus::Subscription {
        name: group.name.clone(),
        filter: group.filter.to_string(),
        group: Some(group.name.clone()),
    }]);
    let beat = (group.lease / 3).min(BEAT);
    let welcome = Welcome {
        connection: connected.id().to_owned(),
        beat: Some(wire_duration(beat)),
        lease: Some(wire_duration(group.lease)),
    };
    if outward.say(wire::ConsumeResponse { message: Some(Message::Welcome(welcome)) }).await.is_err() {
        return End::Broken;
    }
    Member::new(shared, connected.id(), group, Session::new(credit, beat)).run(said, outward).await
}

/// Hears who it is, and declares its group.
async fn open(
    shared: &Shared,
    caller: &Caller,
    requests: &mut Streaming<wire::ConsumeRequest>,
) -> Result<(Group, usize), Problem> {
    let late = |_| Problem::invalid("hello did not come in time");
    let said = tokio::time::timeout(shared.settings.hello, requests.message()).await.map_err(late)?;
    let said = said.map_err(|status| Problem::invalid(format!("hello: {}", status.message())))?;
    let Some(Word::Hello(Hello { group, credit })) = said.and_then(|said| said.message) else {
        return Err(Problem::invalid("the first message must be hello"));
    };
    let credit = match credit {
        0 => CREDIT.1,
        credit => read_credit(credit)?,
    };
    let group = group::declared(caller, group)?;
    shared.bus.declare_group(group.clone()).await?;
    Ok((group, credit))
}

fn read_credit(credit: u32) -> Result<usize, Problem> {
    let credit = usize::try_from(credit).ok().filter(|credit| *credit <= CREDIT.0);
    credit.ok_or_else(|| refuse("credit", format!("must be at most {}", CREDIT.0)))
}
