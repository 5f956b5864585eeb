//! Routes with one path, told apart by their conditions. By host and by method they are looked up, so that ten thousand
//! hosts cost no more than one; headers and query parameters are asked one route after another.

use std::{collections::HashMap, sync::Arc};

use http::Method;

use super::{
    Template,
    condition::{Asked, Conditions, Rank, takes},
};

/// One route in the table.
pub struct Entry<T> {
    pub template: Arc<Template>,
    pub conditions: Conditions,
    pub rank: Rank,
    /// Its place among all.
    pub number: usize,
    pub value: Arc<T>,
}

/// All routes with one path.
pub struct Ends<T> {
    any_host: Methods<T>,
    hosts: HashMap<Box<str>, Methods<T>>,
    /// By what follows the star: `.example.com`.
    below: HashMap<Box<str>, Methods<T>>,
    /// The most dots that a name in `below` has.
    dots: usize,
}

/// Routes by method, in the order of its name, each list in the order of its ranks.
struct Methods<T>(Vec<(Option<Method>, Vec<Entry<T>>)>);

impl<T> Default for Ends<T> {
    fn default() -> Self {
        Self { any_host: Methods(Vec::new()), hosts: HashMap::new(), below: HashMap::new(), dots: 0 }
    }
}

impl<T> Ends<T> {
    pub fn is_empty(&self) -> bool {
        self.any_host.0.is_empty() && self.hosts.is_empty() && self.below.is_empty()
    }

    pub fn insert(&mut self, entry: Entry<T>) {
        let methods = match entry.conditions.host.as_deref() {
            None => &mut self.any_host,
            Some(host) => match host.strip_prefix('*') {
                None => self.hosts.entry(host.into()).or_default(),
                Some(suffix) => {
                    self.dots = self.dots.max(dots(suffix));
                    self.below.entry(suffix.into()).or_default()
                }
            },
        };
        methods.insert(entry);
    }

    /// The first in rank of those whose conditions hold.
    pub fn choose(&self, asked: &Asked<'_>) -> Option<&Entry<T>> {
        let mut best = None;
        self.any_host.choose(asked, &mut best);
        if !self.hosts.is_empty() || !self.below.is_empty() {
            for methods in self.of_host(asked.host()) {
                methods.choose(asked, &mut best);
            }
        }
        best
    }

    /// Methods with which one of the routes would hold.
    pub fn allowed(&self, asked: &Asked<'_>, allowed: &mut Vec<Method>) {
        for methods in self.of_host(asked.host()).chain([&self.any_host]) {
            for (method, entries) in &methods.0 {
                if let Some(method) = method
                    && entries.iter().any(|entry| entry.conditions.fields_hold(asked))
                {
                    allowed.push(method.clone());
                }
            }
        }
    }

    /// Those that `entry` could meet on a request, of its own host or of a wider one.
    pub fn beside<'a>(&'a self, entry: &'a Entry<T>) -> impl Iterator<Item = &'a Entry<T>> {
        let host = entry.conditions.host.as_deref();
        let own = host.and_then(|host| host.strip_prefix('*')).and_then(|suffix| self.below.get(suffix));
        let wider = self.of_host(host.map(|host| host.trim_start_matches('*')));
        let any = [&self.any_host];
        own.into_iter().chain(wider).chain(any).flat_map(|methods| methods.0.iter().flat_map(|(_, entries)| entries))
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        let named = self.hosts.values().chain(self.below.values());
        [&self.any_host].into_iter().chain(named).flat_map(|methods| methods.0.iter().flat_map(|(_, entries)| entries))
    }

    pub fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Ends<U> {
        let all = |hosts: &HashMap<Box<str>, Methods<T>>| {
            hosts.iter().map(|(host, methods)| (host.clone(), methods.map(make))).collect()
        };
        Ends { any_host: self.any_host.map(make), hosts: all(&self.hosts), below: all(&self.below), dots: self.dots }
    }

    fn of_host<'s>(&'s self, host: Option<&str>) -> impl Iterator<Item = &'s Methods<T>> {
        let exact = host.and_then(|host| self.hosts.get(host));
        exact.into_iter().chain(host.into_iter().flat_map(|host| self.above(host)))
    }

    /// By how many dots a host has, nobody makes us look for more names than routes have.
    fn above<'s>(&'s self, host: &str) -> impl Iterator<Item = &'s Methods<T>> {
        let suffixes = host.rmatch_indices('.').take(self.dots).filter(|(at, _)| *at > 0);
        suffixes.filter_map(move |(at, _)| self.below.get(&host[at..]))
    }
}

fn dots(name: &str) -> usize {
    name.bytes().filter(|byte| *byte == b'.').count()
}

impl<T> Default for Methods<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Methods<T> {
    fn place(&self, method: Option<&str>) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_ref().map(Method::as_str).cmp(&method))
    }

    fn insert(&mut self, entry: Entry<T>) {
        let method = entry.conditions.method.clone();
        let place = self.place(method.as_ref().map(Method::as_str)).unwrap_or_else(|place| {
            self.0.insert(place, (method, Vec::new()));
            place
        });
        let entries = &mut self.0[place].1;
        let at = entries.partition_point(|other| (other.rank, other.number) < (entry.rank, entry.number));
        entries.insert(at, entry);
    }

    fn choose<'t>(&'t self, asked: &Asked<'_>, best: &mut Option<&'t Entry<T>>) {
        let method = &asked.parts.method;
        if let [(only, entries)] = self.0.as_slice() {
            if takes(only.as_ref(), method) {
                first(entries, asked, best);
            }
            return;
        }
        let head = (*method == Method::HEAD).then_some("GET");
        for wanted in [Some(Some(method.as_str())), head.map(Some), Some(None)].into_iter().flatten() {
            if let Ok(place) = self.place(wanted) {
                first(&self.0[place].1, asked, best);
            }
        }
    }

    fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Methods<U> {
        let entries = |entries: &[Entry<T>]| entries.iter().map(|entry| entry.map(make)).collect();
        Methods(self.0.iter().map(|(method, own)| (method.clone(), entries(own))).collect())
    }
}

fn first<'t, T>(entries: &'t [Entry<T>], asked: &Asked<'_>, best: &mut Option<&'t Entry<T>>) {
    if let Some(entry) = entries.iter().find(|entry| entry.conditions.fields_hold(asked))
        && best.is_none_or(|best| (entry.rank, entry.number) < (best.rank, best.number))
    {
        *best = Some(entry);
    }
}

impl<T> Entry<T> {
    fn map<U>(&self, make: &impl Fn(&Arc<T>) -> Arc<U>) -> Entry<U> {
        Entry {
            template: Arc::clone(&self.template),
            conditions: self.conditions.clone(),
            rank: self.rank,
            number: self.number,
            value: make(&self.value),
        }
    }
}
