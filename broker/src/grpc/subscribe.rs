//! Subscribe: what every subscriber is told, as a stream of messages.

use futures_util::Stream;
use proto::turnpike::bus::v1 as wire;
use tonic::Status;
use wire::subscribe_response::{CaughtUp, Gap, Message, Opened, Place, Told};

use super::{
    event,
    moment::time,
    outward::{Gone, Outward},
    publish::depart,
};
use crate::{
    access::Caller,
    departure::Departure,
    filter::Filter,
    follow::{Asked, Connected},
    hub::{Begin, View},
    metrics::Transport,
    problem::Problem,
    query::refuse,
    shared::Shared,
    told::{self, Subscriber, What},
};

pub(super) async fn subscribe(
    shared: &Shared,
    caller: &Caller,
    request: wire::SubscribeRequest,
) -> Result<impl Stream<Item = Result<wire::SubscribeResponse, Status>> + Send + 'static, Problem> {
    let filter: Filter = request.filter.parse().map_err(|error| refuse("filter", error))?;
    let asked = Asked::new(filter, begin(shared, request.begin)?, view(request.view)?, caller)?;
    let mut connected = Connected::join(shared, caller, Transport::Grpc, Some(&asked.filter))?;
    let filter = asked.filter.clone();
    let subscriber = asked.follow(shared).await?;
    connected.attend(shared, caller, &filter).await?;
    let (outward, answers) = Outward::new(shared.settings.stall);
    let departure = Departure::of(shared, caller);
    shared.tasks.spawn(async move {
        if let Ok(status) = tell(subscriber, departure, &outward).await {
            outward.end(status).await;
        }
        drop(connected);
    });
    Ok(answers)
}

/// Until the client leaves or must; what it is told then.
async fn tell(
    mut subscriber: Subscriber,
    mut departure: Departure,
    outward: &Outward<wire::SubscribeResponse>,
) -> Result<Status, Gone> {
    let opened = Opened { cursor: subscriber.last().to_owned(), replaying: subscriber.replaying().unwrap_or(0) };
    outward.say(response(Message::Opened(opened))).await?;
    loop {
        let told = tokio::select! {
            biased;
            why = departure.due() => return Ok(depart(why)),
            () = outward.gone() => return Err(Gone),
            told = subscriber.next() => told,
        };
        departure.told(&told.what);
        outward.say(response(message(told))).await?;
    }
}

fn message(told: told::Told) -> Message {
    let told::Told { what, cursor, prev, replay } = told;
    match what {
        What::Event(event) => {
            Transport::Grpc.delivered(1);
            Message::Event(Told { event: Some(event::told(&event.envelope, None)), cursor, prev, replay })
        }
        What::Gap(queue, gap) => Message::Gap(Gap {
            queue: queue.to_string(),
            from: prev,
            to: cursor,
            lost: gap.lost,
            reason: told::reason(gap.reason).to_owned(),
        }),
        What::CaughtUp => Message::CaughtUp(CaughtUp { cursor }),
        What::Cursor => Message::Place(Place { cursor }),
    }
}

fn response(message: Message) -> wire::SubscribeResponse {
    wire::SubscribeResponse { message: Some(message) }
}

fn view(view: i32) -> Result<View, Problem> {
    match wire::View::try_from(view) {
        Ok(wire::View::Unspecified) => Ok(View::Stream),
        Ok(wire::View::Latest) => Ok(View::Latest),
        Err(_) => Err(refuse("view", "must be VIEW_LATEST, or nothing")),
    }
}

fn begin(shared: &Shared, begin: Option<wire::Begin>) -> Result<Begin, Problem> {
    match begin.and_then(|begin| begin.at) {
        None => Ok(Begin::Latest),
        Some(wire::begin::At::Edge(edge)) => match wire::Edge::try_from(edge) {
            Ok(wire::Edge::Earliest) => Ok(Begin::Earliest),
            Ok(wire::Edge::Latest) => Ok(Begin::Latest),
            _ => Err(refuse("begin.edge", "must be EARLIEST or LATEST; else say time or cursor")),
        },
        Some(wire::begin::At::Time(at)) => Ok(Begin::Time(time("begin.time", at)?)),
        Some(wire::begin::At::Cursor(cursor)) => {
            Ok(Begin::Cursor(shared.seal.read(&cursor).map_err(|error| refuse("begin.cursor", error))?))
        }
    }
}
