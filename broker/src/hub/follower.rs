//! One or several queues, as one client follows them; with `*`, also those that come into being meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bus::{Gap, TailFrom};
use events::Name;
use futures_util::future::select_all;
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Event, Hub,
    feed::all,
    queues::{self, Queues},
    source::{Item, Source},
};
use crate::{access::Sight, cursor::Cursor, filter::Filter};

/// How long it may take to begin with a queue that came into being, and when that is tried again which failed.
const JOIN: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(5);

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Latest,
    Earliest,
    Time(OffsetDateTime),
    /// After it. A queue that it doesn't name was not seen at all.
    Cursor(Cursor),
}

/// What comes before what happens from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// The log, from where it begins.
    #[default]
    Stream,
    /// Each key's last event, of those after where it begins.
    Latest,
}

/// How to follow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub view: View,
    /// How old an event of a `realtime` queue may be to be told all the same to who comes from a cursor: who asks again and
    /// again would otherwise miss what happens in between.
    pub recent: Duration,
}

/// What a client is to be told.
pub(crate) enum Followed {
    Event(Arc<Event>),
    Gap(Name, Gap),
    /// Everything that was there when it began was told; once.
    CaughtUp,
}

pub(crate) struct Follower {
    hub: Hub,
    sight: Arc<Sight>,
    /// Each in a box, since a map keeps room for some more.
    sources: BTreeMap<Name, Box<Source>>,
    /// For a filter with `*` as a queue.
    every: Option<Box<Every>>,
    is_view: bool,
    /// Whose turn it is: no queue holds up the others.
    turn: usize,
    /// None: that can't be known, of a view.
    replaying: Option<u64>,
    caught_up: bool,
}

type Joining = Pin<Box<dyn Future<Output = (Name, Result<Source, bus::Error>)> + Send>>;

struct Every {
    changed: watch::Receiver<BTreeSet<Name>>,
    /// A queue that came into being is being joined, beside those that are followed.
    joining: Option<Joining>,
    /// Those that could not be joined, and when that is tried again.
    failed: BTreeMap<Name, Instant>,
    /// Kept up to date while it is held.
    _queues: Arc<Queues>,
}

impl Follower {
    pub(crate) async fn open(
        hub: &Hub,
        filter: &Filter,
        sight: Sight,
        begin: Begin,
        manner: Manner,
    ) -> Result<Self, bus::Error> {
        let mut names: BTreeSet<Name> = filter.terms.iter().filter_map(|term| term.queue.clone()).collect();
        let every = filter.terms.iter().any(|term| term.queue.is_none());
        let every = if every {
            let queues = hub.queues();
            let changed = queues.subscribe();
            let mut listed = queues::list(hub.bus()).await?;
            // Also one that isn't there any more: should it come again, its reader must be told that it began anew.
            if let Begin::Cursor(cursor) = &begin {
                listed.extend(cursor.0.keys().cloned());
            }
            names.extend(listed.into_iter().filter(|name| sight.looks_at(name)));
            Some(Box::new(Every { changed, joining: None, failed: BTreeMap::new(), _queues: queues }))
        } else {
            None
        };
        let sight = Arc::new(sight);
        let (mut sources, mut replaying) = (BTreeMap::new(), Some(0));
        for name in names {
            let from = begin.of(&name);
            let (source, ahead) = match manner.view {
                View::Stream => {
                    let from = passing_over(hub, &name, from, manner.recent).await?;
                    let (source, ahead) = Source::open(hub, name.clone(), sight.clone(), from).await?;
                    (source, Some(ahead))
                }
                View::Latest => (Source::view(hub, name.clone(), sight.clone(), from).await?, None),
            };
            replaying = replaying.zip(ahead).map(|(before, ahead)| before + ahead);
            sources.insert(name, Box::new(source));
        }
        let is_view = manner.view == View::Latest;
        Ok(Self { hub: hub.clone(), sight, sources, every, is_view, turn: 0, replaying, caught_up: false })
    }

    /// How many events lay between the beginning and the end of the log, before the filter.
    pub(crate) fn replaying(&self) -> Option<u64> {
        self.replaying
    }

    /// Whether it began with each key's last event.
    pub(super) fn is_view(&self) -> bool {
        self.is_view
    }

    /// Whether views are told slower now.
    pub(super) fn is_slowed(&self) -> bool {
        self.hub.is_slow()
    }

    /// Where the client is, after what [`Follower::next`] gave last.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor(self.sources.iter().map(|(name, source)| (name.clone(), source.cursor())).collect())
    }

    /// What comes next; waits for it. May be cancelled and called again.
    pub(crate) async fn next(&mut self) -> Followed {
        loop {
            if self.has_caught_up() {
                return Followed::CaughtUp;
            }
            if let Some(next) = self.ready() {
                return next;
            }
            if self.has_caught_up() {
                return Followed::CaughtUp;
            }
            if let Some(every) = &mut self.every {
                every.begin(&self.hub, &self.sight, &self.sources);
            }
            let joined = {
                let mut waiting = self.sources.iter_mut().map(|(name, source)| {
                    Box::pin(async move {
                        let item = source.next().await;
                        (name.clone(), item)
                    })
                });
                let first = async {
                    match waiting.len() {
                        0 => std::future::pending().await,
                        // Most follow one, which takes no list.
                        1 => match waiting.next() {
                            Some(only) => only.await,
                            None => std::future::pending().await,
                        },
                        _ => select_all(waiting).await.0,
                    }
                };
                tokio::select! {
                    (name, item) = first => match followed(name, item) {
                        Some(followed) => return followed,
                        None => None,
                    },
                    joined = joined(self.every.as_deref_mut()) => joined,
                }
            };
            if let Some((name, mut source)) = joined {
                source.caught_up |= self.caught_up;
                self.sources.insert(name, Box::new(source));
            }
        }
    }

    /// What comes next, if it is in memory.
    fn ready(&mut self) -> Option<Followed> {
        let count = self.sources.len();
        self.turn = (self.turn + 1) % count.max(1);
        let turn = self.turn;
        let mut found = None;
        // From whose turn it is to the end, then the others.
        for (at, (name, source)) in self.sources.iter_mut().enumerate() {
            if at >= turn
                && let Some(item) = source.ready()
                && let Some(followed) = followed(name.clone(), item)
            {
                found = Some(followed);
                break;
            }
        }
        if found.is_some() {
            return found;
        }
        self.sources
            .iter_mut()
            .take(turn)
            .find_map(|(name, source)| source.ready().and_then(|item| followed(name.clone(), item)))
    }

    /// Once, when every queue was read as far as it went.
    fn has_caught_up(&mut self) -> bool {
        let has = !self.caught_up && self.sources.values().all(|source| source.caught_up);
        self.caught_up |= has;
        has
    }
}

impl Every {
    /// Begins to join a queue that came into being, from its beginning.
    fn begin(&mut self, hub: &Hub, sight: &Arc<Sight>, sources: &BTreeMap<Name, Box<Source>>) {
        if self.joining.is_some() {
            return;
        }
        let name = {
            let queues = self.changed.borrow();
            self.failed.retain(|name, _| queues.contains(name));
            let now = Instant::now();
            let may = |name: &Name| self.failed.get(name).is_none_or(|again| *again <= now);
            queues.iter().find(|name| !sources.contains_key(*name) && sight.looks_at(name) && may(name)).cloned()
        };
        let Some(name) = name else { return };
        let (hub, sight) = (hub.clone(), sight.clone());
        self.joining = Some(Box::pin(async move {
            let opening = Source::open(&hub, name.clone(), sight, TailFrom::Earliest);
            let late = || Err(bus::Error::Unavailable("the bus took too long".to_owned()));
            let opened = timeout(JOIN, opening).await.unwrap_or_else(|_| late());
            (name, opened.map(|(source, _)| source))
        }));
    }

    /// Waits for a queue to be joined, or for when to look which there are.
    async fn joined(&mut self) -> Option<(Name, Source)> {
        let Some(joining) = &mut self.joining else {
            let again = self.failed.values().min().copied();
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { std::future::pending().await },
                () = until(again) => {}
            }
            return None;
        };
        let (name, opened) = joining.await;
        self.joining = None;
        match opened {
            Ok(source) => {
                self.failed.remove(&name);
                Some((name, source))
            }
            Err(error) => {
                // The others go on meanwhile.
                tracing::debug!(queue = %name, %error, "a new queue can't be followed now");
                self.failed.insert(name, Instant::now() + AGAIN);
                None
            }
        }
    }
}

impl Begin {
    fn of(&self, queue: &Name) -> TailFrom {
        match self {
            Self::Latest => TailFrom::Latest,
            Self::Earliest => TailFrom::Earliest,
            Self::Time(time) => TailFrom::Time(*time),
            Self::Cursor(cursor) => cursor.0.get(queue).map_or(TailFrom::Earliest, |at| TailFrom::Cursor(at.clone())),
        }
    }
}

fn followed(queue: Name, item: Item) -> Option<Followed> {
    match item {
        Item::Event(event) => Some(Followed::Event(event)),
        Item::Gap(gap) => Some(Followed::Gap(queue, gap)),
        Item::CaughtUp => None,
    }
}

/// Where to begin in a queue whose events matter only while they are new: a replay passes over them.
async fn passing_over(hub: &Hub, queue: &Name, from: TailFrom, recent: Duration) -> Result<TailFrom, bus::Error> {
    if !hub.bus().queue(queue).await?.is_some_and(|settings| settings.realtime) {
        return Ok(from);
    }
    let TailFrom::Cursor(cursor) = from else { return Ok(TailFrom::Latest) };
    if recent.is_zero() {
        return Ok(TailFrom::Latest);
    }
    let since = hub.bus().tail(all(queue), TailFrom::Time(OffsetDateTime::now_utc() - recent)).await?.cursor();
    let later = since.places().map(|(partition, lineage, position)| {
        let seen = cursor.places().find(|place| place.0 == partition);
        seen.filter(|seen| seen.2 > position).unwrap_or((partition, lineage, position))
    });
    Ok(TailFrom::Cursor(later.collect()))
}

/// A queue that came into being and is followed from now on; waits for ever where that doesn't matter.
async fn joined(every: Option<&mut Every>) -> Option<(Name, Source)> {
    match every {
        Some(every) => every.joined().await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
