//! `GET /events`: what is asked for, and in which form it is answered. SSE where the client accepts that, else long-poll.

use axum::{Router, extract::State, response::Response, routing::get};
use bus::NotJoined;
use http::{HeaderMap, header};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    access::{Caller, Sight},
    begin,
    filter::Filter,
    hub::{Begin, Follower, Manner, View},
    long_poll,
    metrics::{Following, Transport},
    presence,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
    sse,
    told::Subscriber,
};

const EVENT_STREAM: &str = "text/event-stream";

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/events", get(events))
}

/// What a client asks to follow.
pub(crate) struct Asked {
    pub filter: Filter,
    pub begin: Begin,
    pub manner: Manner,
    sight: Sight,
}

/// A client's place among the connections of this node, while it is held.
pub(crate) struct Connected {
    roster: bus::Joined,
    /// Somebody is online by it.
    attending: Option<bus::Attending>,
    _metric: Following,
    _place: OwnedSemaphorePermit,
}

async fn events(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter: Filter = match parameters.text("filter")? {
        Some(filter) => filter.parse().map_err(|error| refuse("filter", error))?,
        None => {
            // By this question a client finds out whether HTTP gets through where a socket doesn't: it is let in no more.
            shared.overload.admit(caller.subject.is_some())?;
            let _place = place(&shared)?;
            return Err(refuse("filter", "is required, as in DB/*"));
        }
    };
    let view = match parameters.text("view")? {
        Some(view) => view_of("view", &view)?,
        None => View::Stream,
    };
    if accepts_stream(&headers) {
        let begin = begin_of(&shared, &mut parameters, &headers, "last_event_id")?;
        parameters.done("filter, from, last_event_id, view")?;
        return sse::answer(&shared, &caller, Asked::new(filter, begin, view, &caller)?).await;
    }
    let begin = begin_of(&shared, &mut parameters, &HeaderMap::new(), "cursor")?;
    let settings = &shared.settings;
    let wait = parameters.duration("wait", settings.longest_wait)?.unwrap_or(settings.wait);
    let limit = if parameters.has("limit") { parameters.limit()? } else { long_poll::LIMIT };
    parameters.done("filter, from, cursor, view, wait, limit")?;
    let mut asked = Asked::new(filter, begin, view, &caller)?;
    // It was away for a moment only, as a poll must be.
    asked.manner.recent = settings.longest_wait;
    long_poll::answer(&shared, &caller, asked, wait, limit).await
}

impl Asked {
    /// Begins to follow.
    pub(crate) async fn follow(self, shared: &Shared) -> Result<Subscriber, Problem> {
        if !matches!(self.begin, Begin::Cursor(_)) {
            shared.overload.begin()?;
        }
        let follower = Follower::open(&shared.hub, &self.filter, self.sight, self.begin, self.manner).await?;
        Ok(Subscriber::new(follower, shared.seal.clone(), shared.settings.cursor_every))
    }

    /// # Errors
    /// If the caller may not read that, or a view is asked for of queues without a name, or from elsewhere than a cursor.
    pub(crate) fn new(filter: Filter, begin: Begin, view: View, caller: &Caller) -> Result<Self, Problem> {
        let sight = caller.may_read(&filter)?;
        if view == View::Latest {
            if filter.terms.iter().any(|term| term.queue.is_none()) {
                return Err(refuse("view", "latest is of queues that the filter names"));
            }
            if !matches!(begin, Begin::Latest | Begin::Cursor(_)) {
                return Err(refuse("view", "latest begins with every key, or after a cursor"));
            }
        }
        Ok(Self { filter, begin, manner: Manner { view, ..Manner::default() }, sight })
    }
}

impl Connected {
    /// Takes a place, if there is one.
    pub(crate) fn join(
        shared: &Shared,
        caller: &Caller,
        transport: Transport,
        filter: Option<&Filter>,
    ) -> Result<Self, Problem> {
        shared.overload.admit(caller.subject.is_some())?;
        Self::sit(shared, caller, transport, filter)
    }

    /// The same, of one that is judged elsewhere.
    pub(crate) fn sit(
        shared: &Shared,
        caller: &Caller,
        transport: Transport,
        filter: Option<&Filter>,
    ) -> Result<Self, Problem> {
        let place = place(shared)?;
        let follows = filter.map(|filter| bus::Subscription {
            name: "events".to_owned(),
            filter: filter.to_string(),
            group: None,
        });
        let roster = enrol(shared, caller, transport, follows.into_iter().collect());
        Ok(Self { roster, attending: None, _metric: Following::begin(transport), _place: place })
    }

    /// Its caller is online by it from now on, and in the rooms that it follows each by its name.
    pub(crate) async fn attend(&mut self, shared: &Shared, caller: &Caller, filter: &Filter) -> Result<(), Problem> {
        self.attend_as(shared, caller, self.roster.id().to_owned(), filter).await
    }

    /// The same, with all polls of the caller as one connection.
    pub(crate) async fn attend_by_polls(
        &mut self,
        shared: &Shared,
        caller: &Caller,
        filter: &Filter,
    ) -> Result<(), Problem> {
        self.attend_as(shared, caller, presence::polls(shared, caller), filter).await
    }

    /// The same, without following anything yet.
    pub(crate) fn be_online(&mut self, shared: &Shared, caller: &Caller) {
        self.attending = presence::attend(shared, caller, self.roster.id());
    }

    async fn attend_as(
        &mut self,
        shared: &Shared,
        caller: &Caller,
        id: String,
        filter: &Filter,
    ) -> Result<(), Problem> {
        self.attending = presence::attend(shared, caller, &id);
        for room in caller.rooms_of(filter) {
            self.attending.as_mut().ok_or(NotJoined::Absent)?.join(&room).await?;
        }
        Ok(())
    }

    /// The client said that it goes.
    pub(crate) fn bye(&mut self) {
        if let Some(attending) = self.attending.take() {
            attending.bye();
        }
    }

    /// The same place, of another caller: a socket whose first frame says who calls.
    pub(crate) fn pass_to(&mut self, shared: &Shared, caller: &Caller) {
        self.roster = enrol(shared, caller, Transport::WebSocket, Vec::new());
    }

    pub(crate) fn id(&self) -> &str {
        self.roster.id()
    }

    pub(crate) fn follows(&self, subscriptions: Vec<bus::Subscription>) {
        self.roster.follow(subscriptions);
    }
}

fn enrol(shared: &Shared, caller: &Caller, transport: Transport, follows: Vec<bus::Subscription>) -> bus::Joined {
    let kind = match transport {
        Transport::WebSocket => bus::Transport::WebSocket,
        Transport::Sse => bus::Transport::Sse,
        Transport::LongPoll => bus::Transport::LongPoll,
        Transport::Grpc => bus::Transport::Grpc,
    };
    shared.bus.roster().join(kind, caller.subject.clone(), caller.address.clone(), follows)
}

/// A client's place, if there is one.
pub(crate) fn place(shared: &Shared) -> Result<OwnedSemaphorePermit, Problem> {
    let wait = std::time::Duration::from_secs(rand::random_range(1..=8));
    if shared.shutdown.draining().is_cancelled() {
        return Err(Problem::unavailable("this node is shutting down", wait));
    }
    let place = shared.places.clone().try_acquire_owned();
    place.map_err(|_| Problem::unavailable("this node has as many clients as it takes", wait))
}

pub(crate) fn view_of(name: &str, text: &str) -> Result<View, Problem> {
    match text {
        "stream" => Ok(View::Stream),
        "latest" => Ok(View::Latest),
        _ => Err(refuse(name, "must be stream or latest")),
    }
}

/// The header is what an `EventSource` sends that was cut off: it goes over what the URL says.
fn begin_of(shared: &Shared, parameters: &mut Parameters, headers: &HeaderMap, cursor: &str) -> Result<Begin, Problem> {
    let read = |name: &str, text: &str| match shared.seal.read(text) {
        Ok(cursor) => Ok(Begin::Cursor(cursor)),
        Err(error) => Err(refuse(name, error)),
    };
    let given = parameters.text(cursor)?;
    let from = parameters.text("from")?;
    if let Some(last) = headers.get("last-event-id").filter(|last| !last.is_empty()) {
        return read("last-event-id", last.to_str().unwrap_or_default());
    }
    match (given, from) {
        (Some(_), Some(_)) => Err(refuse("from", format!("contradicts {cursor}"))),
        (Some(given), None) => read(cursor, &given),
        (None, None) => Ok(Begin::Latest),
        (None, Some(from)) => begin::from(&from).ok_or_else(|| {
            refuse("from", "must be latest, earliest, a duration such as -PT5M, or a time as in RFC 3339")
        }),
    }
}

/// Whether the client would rather be told by a stream.
pub(crate) fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|range| {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        media.trim().eq_ignore_ascii_case(EVENT_STREAM) && !matches!(parameters.trim(), "q=0" | "q=0.0")
    })
}
