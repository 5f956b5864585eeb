//! Who is delivered to: members of the endpoints' groups, as many as there are enabled endpoints. What changes in the database
//! shows within a second, at once where it was changed here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bus::{Consumers, Group, Mode, Retry, Start};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Endpoint, Error, Webhooks,
    deliver::{AT_ONCE, Deliverer},
    handle::Inner,
    store::Revision,
};

/// How late a change made elsewhere shows.
const LOOK: Duration = Duration::from_secs(1);
/// How often a spared endpoint is asked about.
const REST: Duration = Duration::from_millis(200);
/// How long to wait for a bus that refuses.
const AGAIN: Duration = Duration::from_secs(5);

/// An endpoint that is delivered to.
struct Attended {
    revision: i64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Webhooks {
    /// Delivers until `drain`, finishes what it has until `drop`. Any number of processes may: an event goes to one of them.
    /// Survives a bus and a database that are away.
    pub async fn run(&self, drain: CancellationToken, drop: CancellationToken) {
        let inner = self.inner();
        let tending = tokio::spawn(crate::tend::tend(inner.clone(), drain.clone()));
        let mut attended = HashMap::new();
        let mut ending = JoinSet::new();
        while !drain.is_cancelled() {
            // Before looking, so that what changes during the look is not missed.
            let changed = inner.changed.notified();
            match inner.store.revisions().await {
                Ok(revisions) => attend(inner, &revisions, &mut attended, &mut ending, &drain, &drop).await,
                Err(error) => tracing::debug!(%error, "the endpoints can't be listed at the moment"),
            }
            while ending.try_join_next().is_some() {}
            tokio::select! {
                () = drain.cancelled() => {}
                () = changed => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        for (_, one) in attended {
            ending.spawn(async move { drop_error(one.task.await) });
        }
        while ending.join_next().await.is_some() {}
        drop_error(tending.await);
    }
}

/// Begins with those that are new or another than they were, ends with those that aren't there or disabled.
async fn attend(
    inner: &Arc<Inner>,
    revisions: &[Revision],
    attended: &mut HashMap<String, Attended>,
    ending: &mut JoinSet<()>,
    drain: &CancellationToken,
    drop: &CancellationToken,
) {
    let current: HashMap<&str, i64> =
        revisions.iter().filter(|one| one.enabled).map(|one| (one.id.as_str(), one.revision)).collect();
    let over: Vec<String> = attended
        .iter()
        .filter(|(id, one)| current.get(id.as_str()) != Some(&one.revision))
        .map(|(id, _)| id.clone())
        .collect();
    for one in over.iter().filter_map(|id| attended.remove(id)) {
        one.stop.cancel();
        // What it has sent it finishes, beside whoever comes after it.
        ending.spawn(async move { drop_error(one.task.await) });
    }
    for (id, revision) in current {
        if attended.contains_key(id) {
            continue;
        }
        match inner.store.get(id).await {
            Ok(endpoint) if endpoint.is_enabled() && endpoint.revision == revision => {
                let stop = drain.child_token();
                let task = tokio::spawn(serve(inner.clone(), endpoint, stop.clone(), drop.clone()));
                attended.insert(id.to_owned(), Attended { revision, stop, task });
            }
            // It changed meanwhile: the next look finds it as it is.
            Ok(_) | Err(Error::NoEndpoint(_)) => {}
            Err(error) => tracing::warn!(webhook = id, %error, "an endpoint can't be delivered to"),
        }
    }
}

/// Delivers to an endpoint until it stops. While it is spared nothing is claimed.
async fn serve(inner: Arc<Inner>, endpoint: Endpoint, stop: CancellationToken, drop: CancellationToken) {
    let id = endpoint.id.clone();
    let deliverer = match Deliverer::new(inner.clone(), endpoint) {
        Ok(deliverer) => Arc::new(deliverer),
        Err(error) => {
            tracing::error!(webhook = id, %error, "an endpoint can't be delivered to");
            return;
        }
    };
    while !stop.is_cancelled() {
        if !deliverer.may_claim() {
            sleep(REST, &stop).await;
            continue;
        }
        let rest = stop.child_token();
        deliverer.claims_until(rest.clone());
        let worked = match consumers(&inner, &deliverer.endpoint, deliverer.clone()) {
            Ok(consumers) => consumers.run(rest.clone(), drop.clone()).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = worked {
            tracing::error!(webhook = id, %error, "an endpoint can't be delivered to");
            sleep(AGAIN, &stop).await;
        }
        // It was disabled, or is another by now: whoever looks at the endpoints stops this one, or begins it anew.
        if rest.is_cancelled() && deliverer.may_claim() {
            sleep(LOOK, &stop).await;
        }
    }
}

async fn sleep(time: Duration, stop: &CancellationToken) {
    let _ = tokio::time::timeout(time, stop.cancelled()).await;
}

/// The members of an endpoint's groups. One that comes into being here begins with its queue: where it began otherwise, it was
/// declared when that was asked. What the groups take and the endpoint doesn't, the handler passes over, for it alone knows
/// whether the endpoint is still the same.
pub(crate) fn consumers(
    inner: &Arc<Inner>,
    endpoint: &Endpoint,
    handler: Arc<dyn bus::Handler>,
) -> Result<Consumers, Error> {
    let mode = if endpoint.ordered { Mode::Keyed } else { Mode::Parallel };
    let consumers = Consumers::new(inner.bus.clone(), &endpoint.group(), endpoint.patterns()?, mode, handler);
    let revision = endpoint.revision.unsigned_abs();
    Ok(consumers.role("webhooks").unsifted().each(move |group| settings(group, revision)))
}

/// How an endpoint's groups work.
fn settings(group: Group, revision: u64) -> Group {
    let (concurrency, in_flight) = (AT_ONCE, AT_ONCE);
    let group = Group { start: Start::Earliest, retry: Retry::Patient, max_processing: None, ..group };
    Group { concurrency, in_flight, revision, ..group }
}

/// A task that panicked has said so.
fn drop_error<T, E>(_: Result<T, E>) {}
