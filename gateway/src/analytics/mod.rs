//! Who asked for what, how it went and how long it took: kept in memory, by the minute for three hours and by ten minutes
//! for a day before that, for an operator to ask (`report`). Bounded however many routes and clients there are. It survives
//! a reload and is lost with the process.
//!
//! Each core counts for itself (`Core`); what it has counted is collected every ten seconds, and whenever somebody asks.

mod history;
mod report;
mod sketch;
mod top;

pub use report::{By, Clients, Named, Point, Question, Route, Routes, Sort, Statuses};
pub use sketch::Sketch;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, BuildHasherDefault, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::{
    history::History,
    top::{AsIs, SPREAD, Top},
};
use crate::{context::Authenticated, metrics::Label};

/// How often what the cores have counted is collected.
const EVERY: Duration = Duration::from_secs(10);
/// Clients that are told apart, in all and by route, until a minute is over; and after that.
const NOW: [usize; 2] = [512, 1024];
const KEPT: [usize; 2] = [128, 256];

/// The same for all cores, so that what they count can be put together.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A client: an authenticated caller, or an address (of IPv6 the /64 network, which is one client's).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Principal(Arc<str>),
    Address(IpAddr),
}

/// What one core counts.
pub struct Core(Mutex<Counts>);

/// What was counted in a stretch of time.
#[derive(Clone, Debug)]
struct Counts {
    /// By the number of their label.
    routes: HashMap<usize, Cell, BuildHasherDefault<AsIs>>,
    clients: Clienteles,
}

/// A route.
#[derive(Clone, Debug, Default)]
struct Cell {
    route: Arc<str>,
    /// Few are different.
    statuses: Vec<(u16, u64)>,
    latency: Sketch,
}

/// The top clients by requests and by errors, on all routes together and on each.
#[derive(Clone, Debug)]
struct Clienteles {
    requests: Top<Who>,
    errors: Top<Who>,
    requests_by_route: Top<(Arc<str>, Who)>,
    errors_by_route: Top<(Arc<str>, Who)>,
}

/// All that is known.
pub struct Analytics {
    cores: Mutex<Vec<Arc<Core>>>,
    history: Mutex<History>,
}

impl Who {
    pub fn principal(caller: &Authenticated) -> Self {
        Self::Principal(caller.principal.subject.as_str().into())
    }

    fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(subject) => f.write_str(subject),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "{address}/64"),
        }
    }
}

impl Core {
    /// An answer has begun. `micros`: since the request arrived.
    pub fn record(&self, route: &Label, status: u16, micros: u64, client: IpAddr, principal: Option<&Authenticated>) {
        let mut counts = self.0.lock();
        counts.routes.entry(route.number).or_insert_with(|| Cell::new(&route.text)).record(status, micros);
        let address = Who::address(client);
        counts.clients.record(route, SEED.hash_one(&address), status, || address.clone());
        if let Some(caller) = principal {
            let hash = SEED.hash_one(&caller.principal.subject);
            counts.clients.record(route, hash, status, || Who::principal(caller));
        }
    }
}

impl Counts {
    fn new() -> Self {
        Self { routes: HashMap::default(), clients: Clienteles::new(NOW) }
    }

    fn merge(&mut self, other: &Self) {
        for (number, cell) in &other.routes {
            self.routes.entry(*number).or_insert_with(|| Cell::new(&cell.route)).merge(cell);
        }
        self.clients.merge(&other.clients);
    }
}

impl Cell {
    fn new(route: &Arc<str>) -> Self {
        Self { route: Arc::clone(route), ..Self::default() }
    }

    fn record(&mut self, status: u16, micros: u64) {
        self.count(status, 1);
        self.latency.record(micros);
    }

    fn count(&mut self, status: u16, times: u64) {
        match self.statuses.iter_mut().find(|(own, _)| *own == status) {
            Some((_, count)) => *count += times,
            None => self.statuses.push((status, times)),
        }
    }

    fn merge(&mut self, other: &Self) {
        other.statuses.iter().for_each(|(status, times)| self.count(*status, *times));
        self.latency.merge(&other.latency);
    }
}

impl Clienteles {
    fn new([all, by_route]: [usize; 2]) -> Self {
        Self {
            requests: Top::new(all),
            errors: Top::new(all),
            requests_by_route: Top::new(by_route),
            errors_by_route: Top::new(by_route),
        }
    }

    fn record(&mut self, route: &Label, hash: u64, status: u16, who: impl Fn() -> Who) {
        let on_route = hash ^ (route.number as u64 + 1).wrapping_mul(SPREAD);
        self.requests.add(hash, &who);
        self.requests_by_route.add(on_route, || (Arc::clone(&route.text), who()));
        if status >= 400 {
            self.errors.add(hash, &who);
            self.errors_by_route.add(on_route, || (Arc::clone(&route.text), who()));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.requests.merge(&other.requests);
        self.errors.merge(&other.errors);
        self.requests_by_route.merge(&other.requests_by_route);
        self.errors_by_route.merge(&other.errors_by_route);
    }

    fn shrink(&mut self, [all, by_route]: [usize; 2]) {
        self.requests.shrink(all);
        self.errors.shrink(all);
        self.requests_by_route.shrink(by_route);
        self.errors_by_route.shrink(by_route);
    }
}

impl Analytics {
    pub fn new(now: SystemTime) -> Self {
        Self { cores: Mutex::default(), history: Mutex::new(History::new(seconds(now))) }
    }

    /// What one more core counts with.
    pub fn core(&self) -> Arc<Core> {
        let core = Arc::new(Core(Mutex::new(Counts::new())));
        self.cores.lock().push(Arc::clone(&core));
        core
    }

    /// Collects from time to time until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.collect(SystemTime::now());
        }
    }

    /// Takes over what the cores have counted since the last time.
    pub fn collect(&self, now: SystemTime) {
        let mut history = self.history.lock();
        for core in &*self.cores.lock() {
            let counts = {
                let mut own = core.0.lock();
                if own.routes.is_empty() {
                    continue;
                }
                std::mem::replace(&mut *own, Counts::new())
            };
            history.add(&counts, seconds(now));
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
