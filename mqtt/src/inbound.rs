//! Taking messages: subscribed as long as this dispatcher may, by one connection that is made again when it breaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bus::{Bus, Fence};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, QoS, RetainForwardRule, SubscribeFilterInput};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    intake::{Came, Intake},
    known::Known,
    link::{self, IN_FLIGHT, Session},
    metrics::{self, Taken},
    plan::Plan,
    settings::{Order, Settings},
};

/// What waits for the bus: what the broker may have on the way, and as much again of what it doesn't wait for (QoS 0).
const WAITING: usize = 2 * IN_FLIGHT as usize + 16;
/// Of that, what is kept free for what the broker waits for, and for what is told of connections.
const KEPT_FREE: usize = IN_FLIGHT as usize + 16;
/// How far back in each partition a message that comes again is looked for: what may have been on the way, and as much
/// again.
const RECALLED: usize = 2 * IN_FLIGHT as usize;
/// How long a connection that failed is left alone, at most; a random part of it.
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

    /// Takes messages until `stop`, or until the lease is somebody else's; what came by then is recorded first.
    pub(crate) async fn run(&self, fence: Option<Fence>, stop: &CancellationToken) -> anyhow::Result<Ended> {
        let id = self.client_id();
        let (client, events) = link::client(self.settings, &id, &Session::Kept)?;
        let (sender, came) = mpsc::channel(WAITING);
        let connection = Arc::new(AtomicU64::new(0));
        let known = self.recall(&id, stop).await;
        let Some(known) = known else { return Ok(Ended::Stopped) };
        let intake = Intake {
            bus: self.bus,
            plan: self.plan,
            source: self.source,
            known,
            fence,
            client: client.clone(),
            connection: connection.clone(),
        };
        let mut intake = std::pin::pin!(intake.run(came));
        let receiving = self.receive(&client, events, sender, &connection, stop);
        let mut receiving = std::pin::pin!(receiving);
        let ended = tokio::select! {
            // Nobody else writes any more in its name: its connection goes without a word, as if it had died.
            ended = &mut intake => match ended {
                Err(_) => Ended::Outlived,
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
                farewell(&client, &mut events).await;
                if ended.is_ok() { Ended::Stopped } else { Ended::Outlived }
            }
        };
        metrics::connected("in", false);
        Ok(ended)
    }

    /// What the end of the log says of messages that came by this client; None: told to stop before that could be read.
    async fn recall(&self, client_id: &str, stop: &CancellationToken) -> Option<Known> {
        loop {
            match stop.run_until_cancelled(self.recalled(client_id)).await? {
                Ok(known) => return Some(known),
                Err(error) => tracing::warn!(%error, "messages wait: the end of the log can't be read"),
            }
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await?;
        }
    }

    async fn recalled(&self, client_id: &str) -> Result<Known, bus::Error> {
        let mut known = Known::new(client_id);
        for status in self.bus.queues().await? {
            let name = &status.settings.name;
            if !self.plan.inbound.iter().any(|mapping| mapping.queue == *name) {
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

    /// Hands on what comes, until `stop`; the connection, which still lives then.
    async fn receive(
        &self,
        client: &AsyncClient,
        mut events: EventLoop,
        sender: mpsc::Sender<Came>,
        connection: &AtomicU64,
        stop: &CancellationToken,
    ) -> EventLoop {
        loop {
            let happened = tokio::select! {
                () = stop.cancelled() => return events,
                happened = events.poll() => happened,
            };
            match happened {
                Ok(Event::Incoming(Incoming::ConnAck(connected))) => {
                    metrics::connected("in", true);
                    tracing::info!(session = connected.session_present, "connected to the MQTT broker");
                    // There is room for both: the broker sends no more than it may.
                    let _ = sender.try_send(Came::Connected { session: connected.session_present });
                    if let Err(error) = client.try_subscribe_many(self.subscriptions()) {
                        tracing::error!(%error, "topics can't be subscribed to");
                    }
                }
                Ok(Event::Incoming(Incoming::SubAck(answer))) => {
                    if answer
                        .return_codes
                        .iter()
                        .any(|code| !matches!(code, rumqttc::mqttbytes::v5::SubscribeReasonCode::Success(_)))
                    {
                        tracing::error!(answer = ?answer.return_codes, "the MQTT broker refuses a subscription");
                    }
                }
                Ok(Event::Incoming(Incoming::Publish(message))) => {
                    let may_be_dropped = message.qos == QoS::AtMostOnce;
                    let came = Came::Message { message: Box::new(message), connection: connection.load(Relaxed) };
                    if may_be_dropped && sender.capacity() <= KEPT_FREE {
                        metrics::taken(Taken::Dropped);
                    } else if sender.try_send(came).is_err() && !may_be_dropped {
                        // What was sent again after connections that broke: it comes once more, in its order, on the next one.
                        events.clean();
                        connection.fetch_add(1, Relaxed);
                        metrics::connected("in", false);
                        let room = async {
                            while sender.capacity() < WAITING {
                                tokio::time::sleep(PAUSE).await;
                            }
                        };
                        if stop.run_until_cancelled(room).await.is_none() {
                            return events;
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    connection.fetch_add(1, Relaxed);
                    metrics::connected("in", false);
                    tracing::warn!(%error, "the connection to the MQTT broker broke");
                    let pause = PAUSE.mul_f64(rand::random_range(0.1..1.0));
                    if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return events;
                    }
                }
            }
        }
    }

    fn subscriptions(&self) -> Vec<SubscribeFilterInput> {
        let subscription = |mapping: &crate::plan::Inbound| {
            let filter = match self.settings.order {
                Order::Shared => format!("$share/{}/{}", self.settings.client_id, mapping.topic),
                Order::Strict => mapping.topic.to_string(),
            };
            let retained = match mapping.retained {
                true => RetainForwardRule::OnNewSubscribe,
                false => RetainForwardRule::Never,
            };
            SubscribeFilterInput::new(filter, mapping.qos).retain_forward_rule(retained)
        };
        self.plan.inbound.iter().map(subscription).collect()
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
