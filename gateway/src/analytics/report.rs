//! Questions and their answers. An answer holds all that several gateways' answers need to become one (`merge`).

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Analytics, Cell, Sketch, Who, seconds, top::Top};
use crate::action::duration;

/// Rows of an answer, unless asked otherwise, and at most.
const LIMIT: usize = 50;
const MOST: usize = 1_000;
/// Points of a series, at most.
const POINTS: u64 = 2_000;

/// `?from=-1h&to=2026-01-02T03:04:05Z&route=…&sort=p99&by=errors&step=5m&limit=10`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// `-1h`, `1h` (ago), a time of RFC 3339, or seconds since 1970; default an hour ago.
    pub from: Option<String>,
    /// The same; default now.
    pub to: Option<String>,
    pub route: Option<String>,
    pub sort: Sort,
    pub by: By,
    /// Of a series: `1m` or more, whole minutes; default one minute.
    pub step: Option<String>,
    pub limit: Option<usize>,
}

/// What routes are sorted by, the greatest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    #[default]
    Requests,
    Errors,
    ErrorRate,
    P50,
    P90,
    P99,
}

/// What clients are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    #[default]
    Requests,
    Errors,
}

/// `GET /analytics/routes`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    pub from: u64,
    pub to: u64,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub route: String,
    pub requests: u64,
    /// Answered with 500 or more.
    pub errors: u64,
    pub error_rate: f64,
    /// Answered with 400 to 499.
    pub client_errors: u64,
    pub statuses: BTreeMap<u16, u64>,
    /// Until the answer began, in milliseconds; at most 1.6 % off.
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    /// Buckets of microseconds with their counts.
    pub latency: Sketch,
}

/// `GET /analytics/clients`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    pub from: u64,
    pub to: u64,
    pub by: By,
    /// Whoever is not listed has at most so many.
    pub floor: u64,
    pub clients: Vec<Named>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// A subject, or an address.
    pub client: String,
    /// `principal` or `address`.
    pub kind: String,
    pub count: u64,
    /// The count may be too high by so much.
    pub error: u64,
}

/// `GET /analytics/statuses`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statuses {
    pub from: u64,
    pub to: u64,
    pub step: u64,
    pub points: Vec<Point>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub at: u64,
    pub requests: u64,
    pub errors: u64,
    pub error_rate: f64,
    pub statuses: BTreeMap<u16, u64>,
}

impl Question {
    /// The time that is asked for, in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with it.
    fn time(&self, now: u64) -> Result<(u64, u64), String> {
        let from = self.from.as_deref().map(|text| moment(text, now)).transpose()?.unwrap_or(now.saturating_sub(3600));
        // What was counted in this second is meant, too.
        let to = self.to.as_deref().map(|text| moment(text, now)).transpose()?.unwrap_or(now + 1);
        if from < to { Ok((from, to)) } else { Err("from: must be before `to`".to_owned()) }
    }

    fn asks_for(&self, route: &str) -> bool {
        self.route.as_ref().is_none_or(|wanted| wanted == route)
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).min(MOST)
    }

    fn step(&self) -> Result<u64, String> {
        let step = self.step.as_deref().map(duration::parse).transpose().map_err(|error| format!("step: {error}"))?;
        let step = step.unwrap_or(Duration::from_secs(60)).as_secs();
        if step > 0 && step.is_multiple_of(60) { Ok(step) } else { Err("step: must be whole minutes".to_owned()) }
    }
}

fn moment(text: &str, now: u64) -> Result<u64, String> {
    if let Ok(ago) = duration::parse(text.trim_start_matches('-')) {
        return Ok(now.saturating_sub(ago.as_secs()));
    }
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(time) => Ok(u64::try_from(time.unix_timestamp()).unwrap_or_default()),
        Err(_) => Err(format!("{text:?} is no time: -1h, 2026-01-02T03:04:05Z, or seconds since 1970")),
    }
}

impl Analytics {
    /// # Errors
    /// What is wrong with the question.
    pub fn routes(&self, question: &Question, now: SystemTime) -> Result<Routes, String> {
        self.collect(now);
        let history = self.history.lock();
        let (from, to) = question.time(seconds(now))?;
        let from = from.max(history.since());
        let mut cells: HashMap<&str, Cell> = HashMap::new();
        for slot in history.within(from, to) {
            for cell in slot.counts.routes.values().filter(|cell| question.asks_for(&cell.route)) {
                cells.entry(&cell.route).or_default().merge(cell);
            }
        }
        let routes = cells.into_iter().map(|(route, cell)| Route::of(route, &cell)).collect();
        let mut answer = Routes { from, to, routes };
        answer.sort(question.sort, question.limit());
        Ok(answer)
    }

    /// # Errors
    /// What is wrong with the question.
    pub fn clients(&self, question: &Question, now: SystemTime) -> Result<Clients, String> {
        self.collect(now);
        let history = self.history.lock();
        let (from, to) = question.time(seconds(now))?;
        let from = from.max(history.since());
        let slots = || history.within(from, to).map(|slot| &slot.counts.clients);
        let (clients, floor) = match &question.route {
            None => {
                let top = together(slots().map(|clients| match question.by {
                    By::Requests => &clients.requests,
                    By::Errors => &clients.errors,
                }));
                (
                    top.entries().iter().map(|entry| Named::of(&entry.who, entry.count, entry.error)).collect(),
                    top.floor(),
                )
            }
            Some(route) => {
                let top = together(slots().map(|clients| match question.by {
                    By::Requests => &clients.requests_by_route,
                    By::Errors => &clients.errors_by_route,
                }));
                let on_route = top.entries().iter().filter(|entry| *entry.who.0 == **route);
                (on_route.map(|entry| Named::of(&entry.who.1, entry.count, entry.error)).collect(), top.floor())
            }
        };
        let mut answer = Clients { from, to, by: question.by, floor, clients };
        answer.sort(question.limit());
        Ok(answer)
    }

    /// # Errors
    /// What is wrong with the question.
    pub fn statuses(&self, question: &Question, now: SystemTime) -> Result<Statuses, String> {
        self.collect(now);
        let history = self.history.lock();
        let (from, to) = question.time(seconds(now))?;
        let (from, step) = (from.max(history.since()), question.step()?);
        if to.saturating_sub(from) / step > POINTS {
            return Err(format!("step: that makes more than {POINTS} points"));
        }
        let mut points: BTreeMap<u64, BTreeMap<u16, u64>> = BTreeMap::new();
        for slot in history.within(from, to) {
            let statuses = points.entry(slot.start / step * step).or_default();
            for (status, count) in slot
                .counts
                .routes
                .values()
                .filter(|cell| question.asks_for(&cell.route))
                .flat_map(|cell| &cell.statuses)
            {
                *statuses.entry(*status).or_default() += count;
            }
        }
        let points = points.into_iter().map(|(at, statuses)| Point::of(at, statuses)).collect();
        Ok(Statuses { from, to, step, points })
    }
}

fn together<'a, W: Clone + 'a>(tops: impl Iterator<Item = &'a Top<W>>) -> Top<W> {
    // Bounded by what is kept: everything that is, is looked at.
    let mut all = Top::new(usize::MAX);
    tops.for_each(|top| all.merge(top));
    all
}

impl Routes {
    /// Adds another gateway's answer to the same question.
    pub fn merge(&mut self, other: Self, sort: Sort, limit: usize) {
        let mut cells: HashMap<String, Cell> = HashMap::new();
        for route in std::mem::take(&mut self.routes).into_iter().chain(other.routes) {
            let statuses = route.statuses.into_iter().collect();
            cells.entry(route.route).or_default().merge(&Cell { statuses, latency: route.latency, ..Cell::default() });
        }
        self.routes = cells.iter().map(|(route, cell)| Route::of(route, cell)).collect();
        self.sort(sort, limit);
    }

    /// The greatest first, and so many.
    pub fn sort(&mut self, sort: Sort, limit: usize) {
        let key = |route: &Route| match sort {
            Sort::Requests => route.requests as f64,
            Sort::Errors => route.errors as f64,
            Sort::ErrorRate => route.error_rate,
            Sort::P50 => route.p50_ms,
            Sort::P90 => route.p90_ms,
            Sort::P99 => route.p99_ms,
        };
        self.routes.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.route.cmp(&b.route)));
        self.routes.truncate(limit);
    }
}

impl Route {
    fn of(route: &str, cell: &Cell) -> Self {
        let statuses: BTreeMap<u16, u64> = cell.statuses.iter().copied().collect();
        let (requests, errors) = sums(&statuses);
        let quantile = |share| cell.latency.quantile(share).unwrap_or_default() as f64 / 1000.0;
        Self {
            route: route.to_owned(),
            requests,
            errors,
            error_rate: rate(errors, requests),
            client_errors: statuses.range(400..500).map(|(_, count)| count).sum(),
            statuses,
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            latency: cell.latency.clone(),
        }
    }
}

impl Clients {
    /// Adds another gateway's answer to the same question.
    pub fn merge(&mut self, other: Self, limit: usize) {
        let mut all: HashMap<(String, String), (u64, u64)> = HashMap::new();
        let mine: Vec<_> = std::mem::take(&mut self.clients);
        let lists =
            |list: &[Named], named: &Named| list.iter().any(|own| own.client == named.client && own.kind == named.kind);
        for (own, others, floor) in [(&mine, &other.clients, other.floor), (&other.clients, &mine, self.floor)] {
            for named in own {
                let unlisted = if lists(others, named) { 0 } else { floor };
                let (count, error) = all.entry((named.client.clone(), named.kind.clone())).or_default();
                *count += named.count + unlisted;
                *error += named.error + unlisted;
            }
        }
        self.floor += other.floor;
        let named = |((client, kind), (count, error))| Named { client, kind, count, error };
        self.clients = all.into_iter().map(named).collect();
        self.sort(limit);
    }

    /// The greatest first, and so many.
    pub fn sort(&mut self, limit: usize) {
        self.clients.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.client.cmp(&b.client)));
        if let Some(first) = self.clients.get(limit) {
            self.floor = self.floor.max(first.count);
        }
        self.clients.truncate(limit);
    }
}

impl Named {
    fn of(who: &Who, count: u64, error: u64) -> Self {
        let kind = match who {
            Who::Principal(_) => "principal",
            Who::Address(_) => "address",
        };
        Self { client: who.to_string(), kind: kind.to_owned(), count, error }
    }
}

impl Statuses {
    /// Adds another gateway's answer to the same question.
    pub fn merge(&mut self, other: Self) {
        let mut points: BTreeMap<u64, BTreeMap<u16, u64>> = BTreeMap::new();
        for point in std::mem::take(&mut self.points).into_iter().chain(other.points) {
            let statuses = points.entry(point.at).or_default();
            point.statuses.into_iter().for_each(|(status, count)| *statuses.entry(status).or_default() += count);
        }
        self.points = points.into_iter().map(|(at, statuses)| Point::of(at, statuses)).collect();
    }
}

impl Point {
    fn of(at: u64, statuses: BTreeMap<u16, u64>) -> Self {
        let (requests, errors) = sums(&statuses);
        Self { at, requests, errors, error_rate: rate(errors, requests), statuses }
    }
}

/// All, and those of 500 and more.
fn sums(statuses: &BTreeMap<u16, u64>) -> (u64, u64) {
    (statuses.values().sum(), statuses.range(500..).map(|(_, count)| count).sum())
}

fn rate(errors: u64, requests: u64) -> f64 {
    if requests == 0 { 0.0 } else { errors as f64 / requests as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ROUTES;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// Counts `times` answers on each of two cores.
    fn asked(analytics: &Analytics, route: &str, status: u16, micros: u64, client: [u8; 4], times: usize) {
        for _ in 0..2 {
            let core = analytics.core();
            (0..times).for_each(|_| core.record(&ROUTES.label(route), status, micros, client.into(), None));
        }
    }

    #[test]
    fn routes_are_told_by_how_they_went() {
        let analytics = Analytics::new(now());
        asked(&analytics, "slow", 200, 900_000, [10, 0, 0, 1], 5);
        asked(&analytics, "busy", 200, 1_000, [10, 0, 0, 1], 45);
        asked(&analytics, "busy", 503, 2_000, [10, 0, 0, 2], 5);
        let ask = |sort| analytics.routes(&Question { sort, ..Question::default() }, now()).unwrap();
        let busy = &ask(Sort::Requests).routes[0];
        assert_eq!((&*busy.route, busy.requests, busy.errors, busy.error_rate), ("busy", 100, 10, 0.1));
        assert!((busy.p50_ms - 1.0).abs() < 0.016 && (busy.p99_ms - 2.0).abs() < 0.032, "{busy:?}");
        assert_eq!(ask(Sort::P99).routes[0].route, "slow");
        assert_eq!(ask(Sort::ErrorRate).routes[0].route, "busy");
    }

    #[test]
    fn clients_are_told_by_requests_and_by_errors_on_a_route_too() {
        let analytics = Analytics::new(now());
        asked(&analytics, "a", 200, 1, [10, 0, 0, 1], 30);
        asked(&analytics, "a", 401, 1, [10, 0, 0, 2], 10);
        asked(&analytics, "b", 200, 1, [10, 0, 0, 2], 1);
        let ask = |by, route: Option<&str>| {
            let question = Question { by, route: route.map(str::to_owned), ..Question::default() };
            let answer = analytics.clients(&question, now()).unwrap();
            answer.clients.iter().map(|named| (named.client.clone(), named.count)).collect::<Vec<_>>()
        };
        let told =
            |list: &[(&str, u64)]| list.iter().map(|(who, count)| ((*who).to_owned(), *count)).collect::<Vec<_>>();
        assert_eq!(ask(By::Requests, None), told(&[("10.0.0.1", 60), ("10.0.0.2", 22)]));
        assert_eq!(ask(By::Errors, None), told(&[("10.0.0.2", 20)]));
        assert_eq!(ask(By::Requests, Some("b")), told(&[("10.0.0.2", 2)]));
    }

    #[test]
    fn a_series_has_a_point_a_step() {
        let analytics = Analytics::new(now() - Duration::from_secs(3600));
        for minute in 0..4 {
            asked(&analytics, "a", if minute < 2 { 200 } else { 500 }, 1, [10, 0, 0, 1], 1);
            analytics.collect(now() - Duration::from_secs(600) + Duration::from_secs(60 * minute));
        }
        let question = Question { step: Some("2m".to_owned()), ..Question::default() };
        let rates: Vec<_> =
            analytics.statuses(&question, now()).unwrap().points.iter().map(|point| point.error_rate).collect();
        assert_eq!(rates, [0.0, 1.0]);
        for wrong in ["90s", "0s", "x"] {
            let question = Question { step: Some(wrong.to_owned()), ..Question::default() };
            assert!(analytics.statuses(&question, now()).unwrap_err().starts_with("step: "), "{wrong}");
        }
    }

    #[test]
    fn the_answers_of_two_gateways_become_one() {
        let (one, two) = (Analytics::new(now()), Analytics::new(now()));
        asked(&one, "a", 200, 1_000, [10, 0, 0, 1], 10);
        asked(&two, "a", 500, 9_000, [10, 0, 0, 1], 10);
        let question = Question::default();
        let mut routes = one.routes(&question, now()).unwrap();
        routes.merge(two.routes(&question, now()).unwrap(), Sort::Requests, 10);
        let route = &routes.routes[0];
        assert_eq!((route.requests, route.errors), (40, 20));
        assert!((route.p90_ms - 9.0).abs() < 0.15, "{route:?}");
        let mut clients = one.clients(&question, now()).unwrap();
        clients.merge(two.clients(&question, now()).unwrap(), 10);
        assert_eq!((clients.clients.len(), clients.clients[0].count), (1, 40));
        let mut statuses = one.statuses(&question, now()).unwrap();
        statuses.merge(two.statuses(&question, now()).unwrap());
        assert_eq!(statuses.points[0].statuses, BTreeMap::from([(200, 20), (500, 20)]));
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, wanted) in [("-1h", 996_400), ("90s", 999_910), ("123", 123), ("1970-01-02T00:00:00Z", 86_400)] {
            assert_eq!(moment(text, 1_000_000), Ok(wanted), "{text}");
        }
        assert!(moment("yesterday", 0).is_err());
    }
}
