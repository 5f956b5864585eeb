//! Endpoints by a name: looked up when the last answer holds no longer, after 1 s at the earliest and 5 min at the latest.
//!
//! A look-up that fails changes nothing, however long it fails: a name server in trouble must not take a service down. One
//! that says that there is nothing is believed when it has said so for 30 s in a row: a service that is gone for good must
//! not be called where, by then, another may live. An answer that may be incomplete adds, and takes nothing away.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{
    DNS, Found, Origin, SRV, State,
    resolve::{Answer, Resolve, Target},
};
use crate::upstream;

/// However long an answer says that it holds, it is asked for again within these bounds.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// After a look-up that failed, or found nothing.
const RETRY: Duration = Duration::from_secs(1);
/// The most a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a name must have had no address until that is believed.
const DISBELIEF: Duration = Duration::from_secs(30);
/// The most endpoints of one name; more are left out.
const ENDPOINTS: usize = 256;
/// The most targets of a service; more are left out.
const TARGETS: usize = 64;

/// A name of the configuration.
pub(crate) struct Name {
    /// As it stands there.
    pub text: String,
    sought: Sought,
    pub(super) state: Mutex<State>,
    /// Since when it has had no address, as far as one can know.
    nothing_since: Mutex<Option<Instant>>,
}

enum Sought {
    Host { host: String, port: u16 },
    Service(String),
}

impl Name {
    /// None if the text begins neither with `dns://` nor `srv://`, or what follows is no name.
    pub fn parse(upstream: &str, text: &str) -> Option<Self> {
        let sought = match (text.strip_prefix(DNS), text.strip_prefix(SRV)) {
            (Some(host), _) => {
                let (host, port) = host.rsplit_once(':')?;
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Sought::Host { host, port: port.parse().ok()? }
            }
            (None, Some(service)) => Sought::Service(service.to_owned()),
            (None, None) => return None,
        };
        let state = State::new(upstream, text);
        Some(Self { text: text.to_owned(), sought, state, nothing_since: Mutex::default() })
    }

    pub fn is_service(&self) -> bool {
        matches!(self.sought, Sought::Service(_))
    }

    pub async fn follow(&self, upstream: &upstream::Shared) {
        loop {
            let answer = timeout(PATIENCE, self.look_up(&*upstream.resolver)).await;
            let answer = answer.unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {PATIENCE:?}"))));
            let wait = self.take(answer, &upstream.config.name);
            upstream.renew();
            sleep(wait).await;
        }
    }

    async fn look_up(&self, resolver: &dyn Resolve) -> io::Result<Answer<Found>> {
        match &self.sought {
            Sought::Host { host, port } => {
                let Answer { found, hold, incomplete } = addresses(resolver, host).await?;
                let endpoint = |ip: IpAddr| self.endpoint(SocketAddr::new(ip, *port), host, 0, 1);
                Ok(Answer { found: found.into_iter().map(endpoint).collect(), hold, incomplete })
            }
            Sought::Service(service) => self.look_up_targets(resolver, service).await,
        }
    }

    async fn look_up_targets(&self, resolver: &dyn Resolve, service: &str) -> io::Result<Answer<Found>> {
        let Answer { found: mut targets, mut hold, mut incomplete } = resolver.targets(service).await?;
        targets.truncate(TARGETS);
        let asked = targets.iter().map(|target| addresses(resolver, &target.host));
        let mut found = Vec::new();
        let mut failed = 0;
        for (Target { host, port, priority, weight }, answer) in targets.iter().zip(join_all(asked).await) {
            match answer {
                Ok(answer) => {
                    hold = hold.min(answer.hold);
                    let endpoint = |ip| self.endpoint(SocketAddr::new(ip, *port), host, *priority, *weight);
                    found.extend(answer.found.into_iter().map(endpoint));
                    incomplete = incomplete.or(answer.incomplete);
                }
                Err(error) => {
                    failed += 1;
                    incomplete = incomplete.or(Some(format!("{host}: {error}")));
                }
            }
        }
        if failed > 0 && failed == targets.len() {
            return Err(io::Error::other(incomplete.unwrap_or_default()));
        }
        Ok(Answer { found, hold, incomplete })
    }

    fn endpoint(&self, address: SocketAddr, host: &str, priority: u16, weight: u16) -> Found {
        let source = Some(Arc::from(self.text.as_str()));
        // RFC 2782: those of weight 0 have a very small chance.
        let origin = Origin { source, priority, weight: weight.max(1), ..Origin::default() };
        Found { address: address.to_string(), host: Some(host.trim_end_matches('.').to_owned()), origin }
    }

    /// Takes over what was answered. Returns when to ask again.
    fn take(&self, answer: io::Result<Answer<Found>>, upstream: &str) -> Duration {
        let mut state = self.state.lock();
        let mut nothing_since = self.nothing_since.lock();
        let (error, wait) = match answer {
            Ok(Answer { found, incomplete: None, .. }) if found.is_empty() => {
                let since = *nothing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= DISBELIEF {
                    state.found.clear();
                }
                (Some("the name has no address".to_owned()), RETRY)
            }
            Ok(Answer { mut found, hold, incomplete }) => {
                *nothing_since = None;
                let wait = if incomplete.is_some() { RETRY } else { hold.clamp(SHORTEST, LONGEST) };
                if incomplete.is_some() {
                    found.extend(state.found.iter().cloned());
                }
                // In one order, so that only what has changed is a change; of two priorities the lower one holds.
                found.sort_by(|a, b| a.address.cmp(&b.address).then(a.origin.priority.cmp(&b.origin.priority)));
                found.dedup_by(|a, b| a.address == b.address);
                found.truncate(ENDPOINTS);
                (state.found, state.at) = (found, Some(SystemTime::now()));
                (incomplete, wait)
            }
            Err(error) => {
                *nothing_since = None;
                (Some(error.to_string()), RETRY)
            }
        };
        if let Some(error) = error.as_ref().filter(|error| state.error.as_ref() != Some(error)) {
            let known = state.found.len();
            tracing::warn!(upstream, name = self.text, known, error, "a name can't be looked up");
        }
        state.fails(error);
        state.due = Some(std::time::Instant::now() + wait);
        wait
    }
}

async fn addresses(resolver: &dyn Resolve, host: &str) -> io::Result<Answer<IpAddr>> {
    match host.parse() {
        Ok(ip) => Ok(Answer::new(vec![ip], LONGEST)),
        Err(_) => resolver.addresses(host).await,
    }
}

/// A name for which there may be SRV records.
pub(super) fn is_service_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        Name::parse("things", "dns://things.internal:7001").unwrap()
    }

    fn found(name: &Name, addresses: &[&str], hold: u64) -> Answer<Found> {
        let endpoint = |address: &&str| name.endpoint(address.parse().unwrap(), "things.internal", 0, 1);
        Answer::new(addresses.iter().map(endpoint).collect(), Duration::from_secs(hold))
    }

    fn known(name: &Name) -> Vec<String> {
        name.state.lock().found.iter().map(|found| found.address.clone()).collect()
    }

    #[test]
    fn a_name_has_a_port() {
        assert!(matches!(
            name().sought,
            Sought::Host { host, port: 7001 } if host == "things.internal"
        ));
        assert!(Name::parse("things", "dns://things.internal").is_none());
        assert!(Name::parse("things", "things.internal:7001").is_none(), "that is one endpoint");
        assert!(Name::parse("things", "srv://_grpc._tcp.things.internal").unwrap().is_service());
    }

    #[test]
    fn a_service_is_a_name_without_a_port() {
        for good in ["_grpc._tcp.things.internal", "_http._tcp.things.internal.", "a.b"] {
            assert!(is_service_name(good), "{good}");
        }
        for bad in ["", "things", "_grpc._tcp.things:7001", "_grpc..things", "a b.c", "user@a.b"] {
            assert!(!is_service_name(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_answer_holds_within_bounds() {
        let name = name();
        let holds = |seconds| name.take(Ok(found(&name, &["10.0.0.1:7001"], seconds)), "things").as_secs();
        assert_eq!([holds(0), holds(1), holds(60), holds(86_400)], [1, 1, 60, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_nothing_is_believed_after_half_a_minute() {
        let name = name();
        let nothing = || Ok(Answer::new(Vec::new(), Duration::ZERO));
        name.take(Ok(found(&name, &["10.0.0.1:7001"], 1)), "things");
        name.take(nothing(), "things");
        tokio::time::advance(DISBELIEF / 2).await;
        name.take(Err(io::Error::other("away")), "things");
        // Only in a row.
        name.take(nothing(), "things");
        tokio::time::advance(DISBELIEF / 2).await;
        name.take(nothing(), "things");
        assert_eq!(known(&name), ["10.0.0.1:7001"]);
        tokio::time::advance(DISBELIEF / 2).await;
        name.take(nothing(), "things");
        assert!(known(&name).is_empty());
        assert_eq!(name.state.lock().error.as_deref(), Some("the name has no address"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_takes_nothing_away_however_long_it_lasts() {
        let name = name();
        name.take(Ok(found(&name, &["10.0.0.1:7001"], 1)), "things");
        for _ in 0..100 {
            tokio::time::advance(DISBELIEF).await;
            assert_eq!(name.take(Err(io::Error::other("away")), "things"), RETRY);
        }
        assert_eq!(known(&name), ["10.0.0.1:7001"]);
    }

    #[tokio::test]
    async fn half_an_answer_adds_and_takes_nothing_away() {
        let name = name();
        name.take(Ok(found(&name, &["10.0.0.1:7001"], 60)), "things");
        let half = Answer { incomplete: Some("no AAAA".to_owned()), ..found(&name, &["10.0.0.2:7001"], 60) };
        assert_eq!(name.take(Ok(half), "things"), RETRY);
        assert_eq!(known(&name), ["10.0.0.1:7001", "10.0.0.2:7001"]);
        name.take(Ok(found(&name, &["10.0.0.2:7001"], 60)), "things");
        assert_eq!(known(&name), ["10.0.0.2:7001"]);
        assert!(name.state.lock().error.is_none());
    }
}
