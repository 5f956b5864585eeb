//! A Cluster: a link to each node that has slots, and the way to the node of a key while slots move and nodes fail.
//!
//! What a node refuses to do here (MOVED, ASK, TRYAGAIN, CLUSTERDOWN and the like) was not done, and is tried where it
//! belongs for as long as [`Patience`] says; what broke on the way may have been done, and is not.

mod map;
mod slot;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::try_join_all, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use redis::{Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep};

use self::map::Map;
use crate::{
    Address, Patience,
    address::Host,
    dial,
    link::{Dialed, Failed, Link, Request},
    redis::{shared, unreachable_error},
};

/// Between attempts: the first pause, which doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How often something is sent on at once; after that it waits like everything else.
const REDIRECTIONS: u32 = 8;

pub(crate) struct Cluster {
    address: Arc<Address>,
    seeds: Vec<Host>,
    patience: Patience,
    map: RwLock<Arc<Map>>,
    links: Mutex<HashMap<Host, Arc<Link>>>,
    /// One asks for the map at a time.
    finding: tokio::sync::Mutex<()>,
}

/// What to do about something that a node didn't do.
enum Next {
    /// It belongs to another node, for good.
    Moved(Host),
    /// The key is at another node already, which takes it if it is told that it is on its way.
    Ask(Host),
    Wait,
    GiveUp,
}

impl Cluster {
    pub(crate) fn new(address: Arc<Address>, seeds: Vec<Host>, patience: Patience) -> Self {
        Self { address, seeds, patience, map: RwLock::default(), links: Mutex::default(), finding: Default::default() }
    }

    pub(crate) async fn ask(&self, cmd: &Cmd) -> RedisResult<Value> {
        if slot::is_for_all(cmd) {
            let asked = self.primaries().await?.into_iter().map(async |host| self.link(&host).ask(cmd).await);
            return try_join_all(asked).await?.into_iter().next().ok_or_else(unreachable_error);
        }
        let answers = self.send(slot::of_command(cmd), Request::Cmd(cmd)).await?;
        answers.into_iter().next().ok_or_else(unreachable_error)
    }

    /// A pipeline. A transaction's keys lie in one slot; other commands' may not.
    pub(crate) async fn send_all(&self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let slots: Vec<Option<u16>> = pipeline.cmd_iter().map(slot::of_command).collect();
        let first = slots.iter().flatten().next().copied();
        if pipeline.is_transaction() {
            return self.send(first, Request::Pipeline(pipeline, offset, count)).await;
        }
        if slots.iter().flatten().all(|slot| Some(*slot) == first) {
            return self.send_in_order(first, pipeline).await;
        }
        // What has no key goes along with what came before it.
        let mut groups: BTreeMap<Option<u16>, (Vec<usize>, Pipeline)> = BTreeMap::new();
        let mut last = first;
        for (at, (cmd, slot)) in pipeline.cmd_iter().zip(slots).enumerate() {
            last = slot.or(last);
            let (places, group) = groups.entry(last).or_default();
            places.push(at);
            group.add_command(cmd.clone());
        }
        let sent = groups.iter().map(async |(slot, (_, group))| self.send_in_order(*slot, group).await);
        let mut answers = vec![Value::Nil; count];
        for (answered, (places, _)) in try_join_all(sent).await?.into_iter().zip(groups.values()) {
            for (answer, place) in answered.into_iter().zip(places) {
                answers[*place] = answer;
            }
        }
        Ok(answers)
    }

    /// Commands of one slot.
    async fn send_in_order(&self, slot: Option<u16>, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut answers = self.send(slot, Request::Pipeline(pipeline, 0, pipeline.len())).await?;
        for (answer, cmd) in answers.iter_mut().zip(pipeline.cmd_iter()) {
            // One of them may be refused while later ones are done.
            if let Value::ServerError(error) = answer
                && !matches!(self.next(&error.clone().into(), slot), Next::GiveUp)
            {
                let answered = self.send(slot, Request::Cmd(cmd)).await?;
                *answer = answered.into_iter().next().unwrap_or(Value::Nil);
            }
        }
        Ok(answers)
    }

    /// Sends something to the node of a slot, or to any, until it is done or was given up.
    async fn send(&self, slot: Option<u16>, request: Request<'_>) -> RedisResult<Vec<Value>> {
        let give_up = Instant::now() + self.patience.answer;
        let (mut pause, mut attempt, mut elsewhere) = (PAUSE, 0, None);
        loop {
            let map = self.map().await?;
            let failed = match elsewhere.take().or_else(|| choose(&map, slot, attempt)) {
                None => Failed::Unsent(down()),
                Some(host) => match self.link(&host).send(request).await {
                    Ok(answers) => return Ok(answers),
                    Err(failed) => failed,
                },
            };
            let (next, error) = match failed {
                Failed::Unsent(error) => (Next::Wait, error),
                Failed::Sent(error) => (self.next(&error, slot), error),
            };
            attempt += 1;
            match (next, request) {
                (Next::GiveUp, _) => return Err(error),
                (Next::Moved(host), _) if attempt <= REDIRECTIONS => {
                    elsewhere = Some(host);
                    self.find(map.version).await?;
                    continue;
                }
                (Next::Ask(host), Request::Cmd(cmd)) => match self.ask_there(&host, cmd).await {
                    Err(error) if matches!(self.next(&error, slot), Next::GiveUp) => return Err(error),
                    Err(_) => {}
                    Ok(answer) => return Ok(vec![answer]),
                },
                _ => {}
            }
            if Instant::now() + pause > give_up {
                return Err(error);
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
            self.find(map.version).await?;
        }
    }

    async fn ask_there(&self, host: &Host, cmd: &Cmd) -> RedisResult<Value> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(cmd.clone());
        let answers = self.link(host).send(Request::Pipeline(&both, 0, 2)).await;
        let answers = answers.map_err(Failed::into_error)?;
        answers.into_iter().nth(1).ok_or_else(unreachable_error)?.extract_error()
    }

    fn next(&self, error: &RedisError, slot: Option<u16>) -> Next {
        let error = match error.kind() {
            // A transaction tells what was wrong with its commands.
            ErrorKind::Server(ServerErrorKind::ExecAbort) => {
                match error.clone().into_server_errors().as_deref().and_then(<[_]>::first) {
                    Some((_, first)) => &RedisError::from(first.clone()),
                    None => return Next::GiveUp,
                }
            }
            _ => error,
        };
        let ErrorKind::Server(kind) = error.kind() else { return Next::GiveUp };
        let there = || {
            let (at, _) = error.redirect_node()?;
            // Without a host it is the same one's, on another port.
            let host = at.strip_prefix(':').and_then(|port| {
                let name = choose(&self.map.read(), slot, 0)?.name;
                Some(Host { name, port: port.parse().ok()? })
            });
            host.or_else(|| Host::parse(at, 0).ok())
        };
        match kind {
            ServerErrorKind::Moved => there().map_or(Next::Wait, Next::Moved),
            ServerErrorKind::Ask => there().map_or(Next::Wait, Next::Ask),
            ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::ReadOnly => Next::Wait,
            _ => Next::GiveUp,
        }
    }

    pub(crate) async fn primaries(&self) -> RedisResult<Vec<Host>> {
        Ok(self.map().await?.hosts().into_iter().cloned().collect())
    }

    pub(crate) async fn of_key(&self, key: &str) -> RedisResult<Host> {
        let map = self.map().await?;
        choose(&map, Some(slot::slot(key.as_bytes())), 0).ok_or_else(down)
    }

    /// Of a key, without asking anybody.
    pub(crate) fn known(&self, key: &str) -> Option<Host> {
        choose(&self.map.read(), Some(slot::slot(key.as_bytes())), 0)
    }

    pub(crate) fn link(&self, host: &Host) -> Arc<Link> {
        let mut links = self.links.lock();
        let link = links.entry(host.clone()).or_insert_with(|| {
            let (address, host, patience) = (self.address.clone(), host.clone(), self.patience);
            Arc::new(Link::new(move || dial_node(address.clone(), host.clone(), patience).boxed()))
        });
        link.clone()
    }

    /// As it was found last.
    async fn map(&self) -> RedisResult<Arc<Map>> {
        let known = self.map.read().clone();
        if known.version > 0 {
            return Ok(known);
        }
        self.find(0).await?;
        Ok(self.map.read().clone())
    }

    /// Asks who has which slots, unless that was done since `seen`. Whoever answers first is believed: where that is old
    /// news, what is sent is refused, and it is asked again.
    async fn find(&self, seen: u64) -> RedisResult<()> {
        let _one = self.finding.lock().await;
        let known = self.map.read().clone();
        if known.version > seen {
            return Ok(());
        }
        let mut hosts: Vec<Host> = known.hosts().into_iter().chain(&self.seeds).cloned().collect();
        hosts.sort_unstable_by(|one, other| (&one.name, one.port).cmp(&(&other.name, other.port)));
        hosts.dedup();
        let mut asked: FuturesUnordered<_> = hosts
            .iter()
            .map(async |host| {
                let answer = self.link(host).ask(redis::cmd("CLUSTER").arg("SLOTS")).await?;
                Map::read(answer, host, seen + 1).ok_or_else(down)
            })
            .collect();
        let mut failed = unreachable_error();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(map) => {
                    let own = map.hosts();
                    self.links.lock().retain(|host, _| own.contains(&host) || hosts.contains(host));
                    *self.map.write() = Arc::new(map);
                    return Ok(());
                }
                Err(error) => failed = error,
            }
        }
        // What was known is all there is, until somebody answers.
        if known.version > 0 { Ok(()) } else { Err(failed) }
    }
}

/// The node of a slot; without one any, another one with each attempt.
fn choose(map: &Map, slot: Option<u16>, attempt: u32) -> Option<Host> {
    match slot {
        Some(slot) => map.host(slot).cloned(),
        None => {
            let hosts = map.hosts();
            let at = attempt as usize % hosts.len().max(1);
            hosts.get(at).map(|host| (*host).clone())
        }
    }
}

async fn dial_node(address: Arc<Address>, host: Host, patience: Patience) -> RedisResult<Dialed> {
    let client = address.client(&host, ProtocolVersion::RESP2)?;
    let connection = dial::connect(&client, &shared(patience)).await?;
    Ok(Dialed { connection, host })
}

fn down() -> RedisError {
    (ErrorKind::Server(ServerErrorKind::ClusterDown), "no node has the slot").into()
}
