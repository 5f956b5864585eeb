//! The connection over which messages come: made again when it breaks, subscribed each time that it is made.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, Publish, QoS, StateError, SubAck, SubscribeFilter,
    SubscribeReasonCode, UnsubAck, UnsubAckReason, mqttbytes::v5::DisconnectReasonCode,
};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    inbound::{KEPT_FREE, WAITING},
    intake::Came,
    link::Trouble,
    metrics::{self, Taken},
};

/// How often it is looked whether what came has been taken.
const LOOK: Duration = Duration::from_secs(1);

/// Hands on what comes.
pub(crate) struct Reception<'a> {
    pub client: &'a AsyncClient,
    pub sender: mpsc::Sender<Came>,
    /// The how manieth connection it is.
    pub connection: &'a AtomicU64,
    pub wanted: Vec<SubscribeFilter>,
    /// What the session may be subscribed to, and shall not be.
    pub stale: Vec<String>,
    /// Hears that it isn't any more.
    pub released: &'a Notify,
    pub trouble: Trouble,
}

/// A connection that can't go on as it is.
struct Useless;

impl Reception<'_> {
    /// Until `stop`; the connection, which still lives then.
    pub(crate) async fn run(mut self, mut events: EventLoop, stop: &CancellationToken) -> EventLoop {
        loop {
            let happened = tokio::select! {
                () = stop.cancelled() => return events,
                happened = events.poll() => happened,
            };
            let heard = match happened {
                Ok(Event::Incoming(Incoming::ConnAck(connected))) => self.connected(connected.session_present),
                Ok(Event::Incoming(Incoming::SubAck(answer))) => {
                    self.subscribed(&answer);
                    Ok(())
                }
                Ok(Event::Incoming(Incoming::UnsubAck(answer))) => {
                    self.unsubscribed(&answer);
                    Ok(())
                }
                Ok(Event::Incoming(Incoming::Publish(message))) => self.came(message),
                Ok(_) => Ok(()),
                Err(error) => {
                    if stop.run_until_cancelled(self.broke(&error)).await.is_none() {
                        return events;
                    }
                    Ok(())
                }
            };
            if heard.is_err() {
                events.clean();
                if stop.run_until_cancelled(self.cut()).await.is_none() {
                    return events;
                }
            }
        }
    }

    fn connected(&mut self, session: bool) -> Result<(), Useless> {
        metrics::connected("in", true);
        self.trouble.is_over();
        tracing::info!(session, "connected to the MQTT broker");
        // There is room for both: the broker sends no more than it may.
        let _ = self.sender.try_send(Came::Connected { session });
        if !session {
            self.release();
        }
        // What is wanted comes first: a topic that both mean is then taken twice for a moment rather than not at all.
        if !self.wanted.is_empty() {
            self.client.try_subscribe_many(self.wanted.clone()).map_err(|error| useless(&error))?;
        }
        if !self.stale.is_empty() {
            self.client.try_unsubscribe_many(self.stale.clone()).map_err(|error| useless(&error))?;
        }
        Ok(())
    }

    fn subscribed(&self, answer: &SubAck) {
        for (filter, code) in self.wanted.iter().zip(&answer.return_codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                tracing::error!(topic = filter.path, answer = ?code, "the MQTT broker refuses a subscription");
            }
        }
    }

    fn unsubscribed(&mut self, answer: &UnsubAck) {
        let gone =
            |reason: &UnsubAckReason| matches!(reason, UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted);
        if answer.reasons.iter().all(gone) {
            tracing::info!(topics = ?self.stale, "topics that nothing is mapped to any more are unsubscribed from");
            self.release();
        } else {
            tracing::error!(topics = ?self.stale, answer = ?answer.reasons, "the MQTT broker keeps subscriptions that nobody wants");
        }
    }

    fn release(&mut self) {
        self.stale.clear();
        self.released.notify_one();
    }

    fn came(&self, message: Publish) -> Result<(), Useless> {
        let may_be_dropped = message.qos == QoS::AtMostOnce;
        let came = Came::Message { message: Box::new(message), connection: self.connection.load(Relaxed) };
        if may_be_dropped && self.sender.capacity() <= KEPT_FREE {
            metrics::taken(Taken::Dropped);
            return Ok(());
        }
        // What was sent again after connections that broke: it comes once more, in its order, on the next one.
        self.sender.try_send(came).or(if may_be_dropped { Ok(()) } else { Err(Useless) })
    }

    /// Leaves a connection that can't go on until what came by it is taken.
    async fn cut(&self) {
        self.connection.fetch_add(1, Relaxed);
        metrics::connected("in", false);
        while self.sender.capacity() < WAITING {
            sleep(LOOK).await;
        }
    }

    async fn broke(&mut self, error: &ConnectionError) {
        self.connection.fetch_add(1, Relaxed);
        metrics::connected("in", false);
        if let ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) = error
            && *reason_code == DisconnectReasonCode::SessionTakenOver
        {
            tracing::warn!(
                "another client came by the same name: with `order: shared` each `instance` is one dispatcher's"
            );
        }
        sleep(self.trouble.pause(error)).await;
    }
}

fn useless(error: &rumqttc::ClientError) -> Useless {
    tracing::warn!(%error, "topics can't be subscribed to: the connection is made again");
    Useless
}
