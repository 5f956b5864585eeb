//! Endpoints by DNS: `dns://name:port` is all addresses that the name has, looked up again and again.
//!
//! A look-up that fails, or finds nothing, changes nothing: the last known addresses stay, because a name server in trouble
//! must not take a service down. A new address joins at once; one that is gone gets no new requests, and finishes those it
//! has.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::upstream;

const SCHEME: &str = "dns://";
/// How long the system's answers are taken to hold: it doesn't say how long they do.
const SYSTEM_HOLDS: Duration = Duration::from_secs(5);
/// However long an answer says that it holds, it is asked for again within these bounds.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// After a look-up that failed.
const RETRY: Duration = Duration::from_secs(1);
/// The most a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most addresses of one name; more are left out.
const ADDRESSES: usize = 256;

/// Who knows a name's addresses.
pub trait Resolve: Send + Sync + 'static {
    /// # Errors
    /// If they can't be found out now.
    fn resolve<'a>(&'a self, name: &'a str, port: u16) -> BoxFuture<'a, io::Result<Addresses>>;
}

/// The addresses of a name.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub found: Vec<SocketAddr>,
    /// How long they hold; bounded to 1 to 30 s.
    pub hold: Duration,
}

/// The system's resolver, with its hosts file and search domains. Asked every 5 s.
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, name: &'a str, port: u16) -> BoxFuture<'a, io::Result<Addresses>> {
        async move {
            let found = tokio::net::lookup_host((name, port)).await?.collect();
            Ok(Addresses { found, hold: SYSTEM_HOLDS })
        }
        .boxed()
    }
}

/// How an operator reads a name's look-ups.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Lookup {
    /// `dns://name:port`
    pub name: String,
    /// The last ones that were found.
    pub addresses: Vec<SocketAddr>,
    /// When they were found, in seconds before now; none if they never were.
    pub found_seconds_ago: Option<u64>,
    /// Why the last look-up failed, if it did.
    pub error: Option<String>,
}

/// A name of the configuration.
pub(crate) struct Name {
    /// As it stands there.
    pub text: String,
    host: String,
    port: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    at: Option<SystemTime>,
    error: Option<String>,
}

impl Name {
    /// None if the text doesn't begin with `dns://`, or what follows is no `name:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = strip(text)?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { text: text.to_owned(), host, port: port.parse().ok()?, state: Mutex::default() })
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.state.lock().addresses.clone()
    }

    pub fn view(&self) -> Lookup {
        let state = self.state.lock();
        let ago = |at: SystemTime| at.elapsed().unwrap_or_default().as_secs();
        Lookup {
            name: self.text.clone(),
            addresses: state.addresses.clone(),
            found_seconds_ago: state.at.map(ago),
            error: state.error.clone(),
        }
    }

    /// Looks it up. Returns when to do so again.
    async fn look_up(&self, resolver: &dyn Resolve, upstream: &str) -> Duration {
        let answer = match timeout(PATIENCE, resolver.resolve(&self.host, self.port)).await {
            Ok(Ok(Addresses { found, .. })) if found.is_empty() => Err("the name has no address".to_owned()),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        let mut state = self.state.lock();
        match answer {
            Ok(Addresses { mut found, hold }) => {
                // In one order, so that only what has changed is a change.
                found.sort_unstable();
                found.dedup();
                found.truncate(ADDRESSES);
                *state = State { addresses: found, at: Some(SystemTime::now()), error: None };
                hold.clamp(SHORTEST, LONGEST)
            }
            Err(error) => {
                if state.error.as_ref() != Some(&error) {
                    let known = state.addresses.len();
                    tracing::warn!(upstream, name = self.text, known, error, "a name can't be looked up");
                }
                state.error = Some(error);
                RETRY
            }
        }
    }
}

/// What follows `dns://`.
pub(crate) fn strip(text: &str) -> Option<&str> {
    text.strip_prefix(SCHEME)
}

/// Follows all names of an upstream until told to stop. Returns at once where there are none.
pub(crate) async fn follow(upstream: &Arc<upstream::Shared>, stop: &CancellationToken) {
    let names = upstream.names().map(|name| async move {
        loop {
            let wait = name.look_up(&*upstream.resolver, &upstream.config.name).await;
            upstream.renew();
            sleep(wait).await;
        }
    });
    tokio::select! {
        _ = join_all(names) => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_port() {
        let name = Name::parse("dns://review.internal:7001").unwrap();
        assert_eq!((name.host.as_str(), name.port), ("review.internal", 7001));
        assert!(Name::parse("dns://review.internal").is_none());
        assert!(Name::parse("review.internal:7001").is_none(), "that is one endpoint");
    }
}
