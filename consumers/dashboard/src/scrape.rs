//! A gateway's figures, scrape by scrape, and the traffic between two of them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{exposition::samples, metrics, view::Traffic};

/// How far back rates and percentiles look.
const WINDOW: Duration = Duration::from_secs(10);

/// The figures of one scrape, summed over the routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    /// By the class of the status: 1xx to 5xx.
    requests: [f64; 5],
    /// Cumulative, by upper bound in microseconds; the last has no bound.
    buckets: BTreeMap<u64, f64>,
    pub in_flight: Option<f64>,
    pub connections: Option<f64>,
}

impl Scrape {
    pub fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        for sample in samples(text).filter(|sample| sample.value.is_finite()) {
            match sample.name {
                metrics::GATEWAY_REQUESTS => {
                    let class = sample.label("status_class").and_then(|class| class.as_bytes().first().copied());
                    let class = class.and_then(|digit| scrape.requests.get_mut(usize::from(digit.wrapping_sub(b'1'))));
                    if let Some(requests) = class {
                        *requests += sample.value;
                    }
                }
                metrics::GATEWAY_SECONDS => {
                    if let Some(bound) = sample.label("le").and_then(|le| le.parse::<f64>().ok()) {
                        // A cast saturates: the bucket without a bound is the last.
                        *scrape.buckets.entry((bound * 1e6).round() as u64).or_default() += sample.value;
                    }
                }
                metrics::GATEWAY_IN_FLIGHT => *scrape.in_flight.get_or_insert(0.0) += sample.value,
                metrics::GATEWAY_CONNECTIONS => *scrape.connections.get_or_insert(0.0) += sample.value,
                _ => {}
            }
        }
        scrape
    }

    /// Whether its counters began anew after `older`.
    fn is_reset_since(&self, older: &Self) -> bool {
        self.requests.iter().zip(older.requests).any(|(new, old)| *new < old)
    }
}

/// The scrapes of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Scrapes(VecDeque<(Instant, Scrape)>);

impl Scrapes {
    /// Takes a scrape in; the traffic since the oldest one, None for the first.
    pub fn take(&mut self, at: Instant, scrape: Scrape) -> Option<Traffic> {
        if self.0.back().is_some_and(|(_, newest)| scrape.is_reset_since(newest)) {
            self.0.clear();
        }
        while self.0.front().is_some_and(|(then, _)| at.duration_since(*then) > WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back((at, scrape));
        let ((then, old), (_, new)) = (self.0.front()?, self.0.back()?);
        let seconds = at.duration_since(*then).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let rates = std::array::from_fn(|class| round((new.requests[class] - old.requests[class]) / seconds));
        let buckets =
            new.buckets.iter().map(|(bound, count)| (*bound, count - old.buckets.get(bound).copied().unwrap_or(0.0)));
        let buckets: Vec<(u64, f64)> = buckets.collect();
        Some(Traffic { rates, p50: percentile(&buckets, 0.5), p99: percentile(&buckets, 0.99) })
    }
}

/// In milliseconds, interpolated within its bucket; beyond the last bound it is that bound.
fn percentile(cumulative: &[(u64, f64)], share: f64) -> Option<f64> {
    let all = cumulative.last()?.1;
    if all <= 0.0 {
        return None;
    }
    let rank = all * share;
    let (mut below, mut passed) = (0_u64, 0.0);
    for (bound, count) in cumulative {
        if *count >= rank {
            if *bound == u64::MAX {
                break;
            }
            let within = if *count > passed { (rank - passed) / (count - passed) } else { 1.0 };
            return Some(round((below as f64 + (bound - below) as f64 * within) / 1e3));
        }
        (below, passed) = (*bound, *count);
    }
    Some(round(below as f64 / 1e3))
}

/// To three digits behind the point: nobody looks at more.
fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(ok: f64, failed: f64, fast: f64, all: f64) -> Scrape {
        let (requests, seconds, in_flight) =
            (metrics::GATEWAY_REQUESTS, metrics::GATEWAY_SECONDS, metrics::GATEWAY_IN_FLIGHT);
        Scrape::read(&format!(
            "{requests}{{route=\"a\",status_class=\"2xx\"}} {ok}\n\
             {requests}{{route=\"b\",status_class=\"5xx\"}} {failed}\n\
             {seconds}{{route=\"a\",le=\"0.1\"}} {fast}\n\
             {seconds}{{route=\"a\",le=\"0.2\"}} {all}\n\
             {seconds}{{route=\"a\",le=\"+Inf\"}} {all}\n\
             {in_flight} 3\n"
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn traffic_is_what_came_between_two_scrapes() {
        let (mut scrapes, start) = (Scrapes::default(), Instant::now());
        assert_eq!(scrapes.take(start, scrape(1_000.0, 10.0, 500.0, 1_000.0)), None);
        let traffic = scrapes.take(start + Duration::from_secs(2), scrape(1_020.0, 14.0, 512.0, 1_024.0)).unwrap();
        assert_eq!(traffic.rates, [0.0, 10.0, 0.0, 0.0, 2.0]);
        assert_eq!((traffic.p50, traffic.p99), (Some(100.0), Some(198.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_began_anew_has_no_negative_traffic() {
        let (mut scrapes, start) = (Scrapes::default(), Instant::now());
        scrapes.take(start, scrape(1_000.0, 0.0, 0.0, 0.0));
        assert_eq!(scrapes.take(start + Duration::from_secs(1), scrape(5.0, 0.0, 0.0, 0.0)), None);
        let traffic = scrapes.take(start + Duration::from_secs(2), scrape(6.0, 0.0, 0.0, 0.0)).unwrap();
        assert_eq!((traffic.rates[1], traffic.p50), (1.0, None));
    }

    #[test]
    fn a_percentile_beyond_the_last_bound_is_that_bound() {
        assert_eq!(percentile(&[(100_000, 1.0), (u64::MAX, 10.0)], 0.99), Some(100.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
