//! Taking messages: subscribed as long as this dispatcher may, by one connection (`receive.rs`), from which what comes goes into
//! the bus (`intake.rs`).

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bus::{Bus, Error, Fence};
use events::Name;
use rumqttc::{AsyncClient, EventLoop, RetainForwardRule, SubscribeFilter};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    intake::{Intake, Outlived},
    known::Known,
    link::{self, IN_FLIGHT, Session, Trouble},
    metrics,
    plan::{self, Plan},
    receive::Reception,
    settings::{Order, Settings},
    subscribed::Subscribed,
};

/// What waits for the bus: what the broker may have on the way, and as much again of what it doesn't wait for (QoS 0).
pub(crate) const WAITING: usize = 2 * IN_FLIGHT as usize + 16;
/// Of that, what is kept free for what the broker waits for, and for what is told of connections.
pub(crate) const KEPT_FREE: usize = IN_FLIGHT as usize + 16;
/// How far back in each partition a message that comes again is looked for: what may have been on the way, and as much
/// again.
const RECALLED: usize = 2 * IN_FLIGHT as usize;
/// How long the bus is left alone that couldn't say what is needed to begin.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the broker has to take our leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why taking messages came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// Somebody else does it now.
    Outlived,
}

pub(crate) struct Inbound<'a> {
    pub settings: &'a Settings,
    pub plan: &'a Plan,
    pub bus: &'a Bus,
    pub source: &'a str,
}

impl Inbound<'_> {
    /// What the broker knows this dispatcher by.
    fn client_id(&self) -> String {
        match (self.settings.order, &self.settings.instance) {
            (Order::Shared, Some(instance)) => format!("{}-{instance}", self.settings.client_id),
            _ => self.settings.client_id.clone(),
        }
    }

    /// Whether there is something to take, or something that an earlier one subscribed to is to be given up; false if it is
    /// stopped before that is known.
    pub(crate) async fn is_wanted(&self, stop: &CancellationToken) -> bool {
        let id = self.client_id();
        !self.plan.inbound.is_empty() || patiently(stop, || Subscribed::is_to_any(self.bus, &id)).await == Some(true)
    }

    /// Takes messages until `stop`, or until the lease is somebody else's; what came by then is recorded first.
    pub(crate) async fn run(&self, fence: Option<Fence>, stop: &CancellationToken) -> anyhow::Result<Ended> {
        let id = self.client_id();
        let (client, events) = link::client(self.settings, &id, &Session::Kept)?;
        let (sender, came) = mpsc::channel(WAITING);
        let connection = Arc::new(AtomicU64::new(0));
        let Some(known) = patiently(stop, || self.recalled(&id)).await else { return Ok(Ended::Stopped) };
        let wanted: BTreeSet<String> = self.plan.inbound.iter().map(|mapping| self.filter(mapping)).collect();
        let subscribed = patiently(stop, || Subscribed::open(self.bus, &id, wanted.clone())).await;
        let Some(subscribed) = subscribed else { return Ok(Ended::Stopped) };
        let released = Notify::new();
        let intake = Intake {
            bus: self.bus,
            plan: self.plan,
            source: self.source,
            known,
            fence,
            client: client.clone(),
            connection: connection.clone(),
        };
        let reception = Reception {
            client: &client,
            sender,
            connection: &connection,
            wanted: self.subscriptions(),
            stale: subscribed.stale(),
            released: &released,
            trouble: Trouble::default(),
        };
        let taking = take(intake.run(came), reception.run(events, stop), (&client, &connection));
        let ended = tokio::select! {
            ended = taking => ended,
            () = subscribed.keep(&released) => Ended::Outlived,
        };
        metrics::connected("in", false);
        Ok(ended)
    }

    /// What the end of the log says of messages that came by this client, also of those that were rejected.
    async fn recalled(&self, client_id: &str) -> Result<Known, Error> {
        let mut known = Known::new(client_id);
        for status in self.bus.queues().await? {
            let name = &status.settings.name;
            if !self.writes().any(|queue| queue == name) {
                continue;
            }
            for (number, partition) in (0..).zip(&status.partitions) {
                let mut from = partition.next.saturating_sub(RECALLED as u64).max(partition.floor);
                while from < partition.next {
                    let page = self.bus.read(name, number, from, RECALLED).await?;
                    let Some(last) = page.events.last() else { break };
                    from = last.position + 1;
                    let own = page.events.iter().filter(|event| event.envelope.source == self.source);
                    own.for_each(|event| known.recall(&event.envelope));
                }
            }
        }
        Ok(known)
    }

    /// The queues that messages go to.
    pub(crate) fn writes(&self) -> impl Iterator<Item = &Name> {
        self.plan.inbound.iter().map(|mapping| &mapping.queue).chain([&self.plan.rejected.queue])
    }

    /// What is mapped, as the broker is asked for it.
    fn filter(&self, mapping: &plan::Inbound) -> String {
        match self.settings.order {
            Order::Shared => format!("$share/{}/{}", self.settings.client_id, mapping.topic),
            Order::Strict => mapping.topic.to_string(),
        }
    }

    fn subscriptions(&self) -> Vec<SubscribeFilter> {
        let subscription = |mapping: &plan::Inbound| SubscribeFilter {
            retain_forward_rule: match mapping.retained {
                true => RetainForwardRule::OnNewSubscribe,
                false => RetainForwardRule::Never,
            },
            ..SubscribeFilter::new(self.filter(mapping), mapping.qos)
        };
        self.plan.inbound.iter().map(subscription).collect()
    }
}

/// Takes what is received, until no more is, or until the lease is somebody else's.
async fn take(
    intake: impl Future<Output = Result<(), Outlived>>,
    receiving: impl Future<Output = EventLoop>,
    (client, connection): (&AsyncClient, &AtomicU64),
) -> Ended {
    let (mut intake, mut receiving) = (std::pin::pin!(intake), std::pin::pin!(receiving));
    tokio::select! {
        // Nobody else writes any more in its name: its connection goes without a word, as if it had died.
        ended = &mut intake => match ended {
            Err(Outlived) => Ended::Outlived,
            Ok(()) => Ended::Stopped,
        },
        mut events = &mut receiving => {
            // What came is recorded, and acknowledged while the connection lives.
            let polling = async {
                while events.poll().await.is_ok() {}
                connection.fetch_add(1, Relaxed);
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                ended = &mut intake => ended,
                () = polling => Ok(()),
            };
            farewell(client, &mut events).await;
            if ended.is_ok() { Ended::Stopped } else { Ended::Outlived }
        }
    }
}

/// Takes leave in order: the broker keeps the session, and what it has for it.
async fn farewell(client: &AsyncClient, events: &mut EventLoop) {
    let leaving = async {
        if client.disconnect().await.is_ok() {
            while events.poll().await.is_ok() {}
        }
    };
    let _ = timeout(FAREWELL, leaving).await;
}

/// Asks the bus until it says; None: told to stop before.
async fn patiently<T, F>(stop: &CancellationToken, ask: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match stop.run_until_cancelled(ask()).await? {
            Ok(said) => return Some(said),
            Err(error) => tracing::warn!(%error, "messages wait: the bus can't be asked what to begin with"),
        }
        stop.run_until_cancelled(sleep(PAUSE)).await?;
    }
}
