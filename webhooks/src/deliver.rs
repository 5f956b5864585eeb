//! One delivery: a request, what it came to, and what becomes of the event.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Delivery, Failure, Handler};
use events::{Envelope, Pattern};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field::Empty};
use uuid::Uuid;

use crate::{
    Attempt, Class, Endpoint, Error, Late,
    ack::{Ack, Known},
    answer::{Verdict, judge},
    breaker::{Admission, Breaker},
    handle::Inner,
    metrics,
    request::signed,
    store::{Found, Health, Wait},
};

/// Requests at once to an endpoint, in this process; and by all together, of each of its groups.
pub(crate) const AT_ONCE: usize = 8;
/// How long an event waits whose endpoint can't be asked about, because the database is away.
const AWAY: Duration = Duration::from_secs(5);
/// What can't be sent from here any more is given back, for whoever comes next.
const GIVEN_BACK: Duration = Duration::ZERO;
/// Between two looks at an event that was accepted: a quarter of how long that is.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long the address of an acknowledgement is good after its time, for one that crosses with the next attempt.
const GRACE: i64 = 24 * 3600;

/// Delivers to one endpoint, as it was when this was made.
pub(crate) struct Deliverer {
    inner: Arc<Inner>,
    pub(crate) endpoint: Endpoint,
    patterns: Vec<Pattern>,
    breaker: Mutex<Breaker>,
    /// While the breaker is half open, requests go one after another.
    probe: tokio::sync::Mutex<()>,
    places: Semaphore,
    /// Ends the claiming, until the breaker lets it begin again.
    rest: Mutex<CancellationToken>,
    /// Until when the database isn't asked, which was away.
    away: Mutex<Option<OffsetDateTime>>,
}

impl Deliverer {
    pub fn new(inner: Arc<Inner>, endpoint: Endpoint) -> Result<Self, Error> {
        Ok(Self {
            inner,
            patterns: endpoint.patterns()?,
            endpoint,
            breaker: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            rest: Mutex::new(CancellationToken::new()),
            away: Mutex::default(),
        })
    }

    /// Whether it may claim now.
    pub fn may_claim(&self) -> bool {
        let now = self.inner.now();
        let is_away = self.away.lock().is_some_and(|until| until > now);
        !is_away && !matches!(self.breaker.lock().admission(now), Admission::Rest(_))
    }

    /// Claims until this is cancelled.
    pub fn claims_until(&self, rest: CancellationToken) {
        *self.rest.lock() = rest;
    }

    /// What comes of a delivery that may be sent now.
    async fn attempt(&self, delivery: &Delivery) -> Result<(), Failure> {
        let known = Known::of(delivery);
        let now = self.inner.now();
        let ack_url = self.endpoint.ack_within.map(|within| {
            let until = now + within;
            self.inner.ack_url(&self.endpoint.keys.ack.token(&Ack {
                endpoint: self.uuid(),
                event: known,
                partition: delivery.partition,
                position: delivery.position,
                until: until.unix_timestamp() + GRACE,
            }))
        });
        let number = delivery.attempt;
        let (attempt, verdict) =
            send(&self.inner, &self.endpoint, &delivery.envelope, ack_url.as_deref(), number).await?;
        let health = match verdict.class {
            Class::Delivered => Health::Well,
            // Until it is acknowledged, or is not.
            Class::Accepted => Health::Untold,
            Class::Gone => Health::Gone,
            _ => Health::Failed,
        };
        self.note(&attempt, self.endpoint.revision, health).await;
        match verdict {
            Verdict { class: Class::Delivered, .. } => {
                self.breaker.lock().succeeded();
                Ok(())
            }
            Verdict { class: Class::Accepted, .. } => {
                self.breaker.lock().succeeded();
                let until = self.inner.now() + self.endpoint.ack_within.unwrap_or_default();
                self.inner
                    .store
                    .accepted(self.of(), known, &delivery.group, until)
                    .await
                    .map_err(|error| self.away(error))?;
                // It may have been acknowledged before it was answered.
                match self.inner.store.find(self.of(), known).await.map_err(|error| self.away(error))? {
                    Found::Accepted(wait, by) => self.waiting(delivery, known, wait, by).await,
                    Found::Outdated | Found::Nothing => Err(Failure::Defer { delay: GIVEN_BACK }),
                }
            }
            Verdict { class: Class::Gone, .. } => {
                self.rest.lock().cancel();
                Err(Failure::Defer { delay: GIVEN_BACK })
            }
            Verdict { error, retry_after, .. } => {
                if self.breaker.lock().failed(self.inner.now()) && !self.rest.lock().is_cancelled() {
                    let id = &self.endpoint.id;
                    tracing::warn!(
                        webhook = id,
                        host = self.endpoint.host(),
                        error,
                        "an endpoint fails again and again: it is spared for a while"
                    );
                    metrics::rests();
                    self.rest.lock().cancel();
                }
                Err(Failure::Retry { reason: error.unwrap_or_default(), delay: retry_after })
            }
        }
    }

    /// What becomes of an event that was accepted, by a revision of the endpoint where that is known.
    async fn waiting(&self, delivery: &Delivery, known: Known, wait: Wait, by: Option<i64>) -> Result<(), Failure> {
        let id = &self.endpoint.id;
        let by = by.unwrap_or(self.endpoint.revision);
        let failure = match wait {
            Wait::Said(Late::Done) => {
                self.inner.store.done_later((id, by), self.inner.now()).await.map_err(|error| self.away(error))?;
                self.inner.store.settled(id, known).await.map_err(|error| self.away(error))?;
                return Ok(());
            }
            Wait::Until(until) if until > self.inner.now() => {
                let left = Duration::try_from(until - self.inner.now()).unwrap_or_default();
                let age = self.endpoint.ack_within.unwrap_or_default().saturating_sub(left);
                // The acknowledgement hurries it, unless it came between two steps of ours.
                let delay = (age / 4).clamp(AGAIN.0, AGAIN.1).min(left);
                return Err(Failure::Defer { delay });
            }
            Wait::Until(_) => "it was accepted, and not acknowledged in time".to_owned(),
            Wait::Said(Late::Failed(reason)) => format!("it was accepted, and failed: {reason}"),
        };
        self.inner.store.settled(id, known).await.map_err(|error| self.away(error))?;
        metrics::not_acknowledged();
        let verdict =
            Verdict { class: Class::NotAcknowledged, status: None, error: Some(failure.clone()), retry_after: None };
        let attempt = remembered(&delivery.envelope, delivery.attempt, self.inner.now(), Duration::ZERO, &verdict, &[]);
        self.note(&attempt, by, Health::Failed).await;
        Err(Failure::Retry { reason: failure, delay: None })
    }

    /// Writes an attempt of a revision down. What can't be written is still told in the metrics and the log.
    async fn note(&self, attempt: &Attempt, revision: i64, health: Health) {
        let id = &self.endpoint.id;
        match self.inner.store.attempted((id, revision), attempt, health).await {
            Ok(None) => {}
            Ok(Some(reason)) => {
                tracing::error!(
                    webhook = id,
                    host = self.endpoint.host(),
                    reason = reason.as_str(),
                    "an endpoint is disabled"
                );
                metrics::disabled(reason);
                self.rest.lock().cancel();
                self.inner.changed.notify_waiters();
            }
            Err(error) => tracing::warn!(webhook = id, event = attempt.event, %error, "an attempt isn't written down"),
        }
    }

    /// Nothing is sent as of this revision any more: whoever looks at the endpoints sees which one it is.
    fn outdated(&self) {
        self.rest.lock().cancel();
        self.inner.changed.notify_waiters();
    }

    /// Not the endpoint's fault, and no attempt. Nothing more is claimed meanwhile, which could only be put off as well.
    fn away(&self, error: Error) -> Failure {
        tracing::warn!(webhook = self.endpoint.id, %error, "an event waits for the database of webhooks");
        *self.away.lock() = Some(self.inner.now() + AWAY);
        self.rest.lock().cancel();
        Failure::Defer { delay: AWAY }
    }

    /// The endpoint, as of which revision.
    fn of(&self) -> (&str, i64) {
        (&self.endpoint.id, self.endpoint.revision)
    }

    /// Whether it gets an event. An alert never goes through the endpoint that it is about.
    fn takes(&self, envelope: &Envelope) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(envelope)) && !is_about(envelope, &self.endpoint.id)
    }

    fn uuid(&self) -> Uuid {
        uuid(&self.endpoint.id).unwrap_or_default()
    }
}

#[async_trait]
impl Handler for Deliverer {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let known = Known::of(delivery);
        match self.inner.store.find(self.of(), known).await.map_err(|error| self.away(error))? {
            // Also what it doesn't take may be what the endpoint takes by now.
            Found::Outdated => {
                self.outdated();
                return Err(Failure::Defer { delay: GIVEN_BACK });
            }
            _ if !self.takes(&delivery.envelope) => return Ok(()),
            Found::Accepted(wait, by) => return self.waiting(delivery, known, wait, by).await,
            Found::Nothing => {}
        }
        let Ok(_place) = self.places.acquire().await else { return Err(Failure::Defer { delay: GIVEN_BACK }) };
        // It was disabled, or is spared, since this was claimed.
        if self.rest.lock().is_cancelled() {
            return Err(Failure::Defer { delay: GIVEN_BACK });
        }
        let admission = self.breaker.lock().admission(self.inner.now());
        match admission {
            Admission::Go => self.attempt(delivery).await,
            Admission::Rest(delay) => Err(Failure::Defer { delay }),
            Admission::Probe => {
                let turn = self.probe.lock().await;
                // What became of the one before decides.
                let admission = self.breaker.lock().admission(self.inner.now());
                match admission {
                    Admission::Rest(delay) => Err(Failure::Defer { delay }),
                    Admission::Go => {
                        drop(turn);
                        self.attempt(delivery).await
                    }
                    Admission::Probe => self.attempt(delivery).await,
                }
            }
        }
    }
}

/// One request, and what is remembered of it.
pub(crate) async fn send(
    inner: &Inner,
    endpoint: &Endpoint,
    envelope: &Envelope,
    ack_url: Option<&str>,
    number: u32,
) -> Result<(Attempt, Verdict), Error> {
    let span = tracing::info_span!(
        "webhook",
        otel.name = "POST",
        otel.kind = "client",
        otel.status_code = Empty,
        turnpike.webhook = endpoint.id,
        messaging.message.id = envelope.id,
        http.request.method = "POST",
        http.response.status_code = Empty,
        error.type = Empty,
    );
    let at = inner.now();
    let exchange = async {
        let request = signed(envelope, &endpoint.keys, ack_url, at)?;
        Ok::<_, Error>(inner.client.post(&endpoint.url, request.headers, request.body).await)
    };
    let tried = exchange.instrument(span.clone()).await?;
    let verdict = judge(&tried.answer, ack_url.is_some(), inner.now());
    if let Some(status) = verdict.status {
        span.record("http.response.status_code", status.as_u16());
    }
    if !verdict.class.is_success() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", verdict.class.as_str());
    }
    metrics::attempted(verdict.class, tried.took);
    let answer = tried.answer.as_ref().map(|answer| &answer.body[..]).unwrap_or_default();
    Ok((remembered(envelope, number, at, tried.took, &verdict, answer), verdict))
}

fn remembered(
    envelope: &Envelope,
    number: u32,
    at: OffsetDateTime,
    took: Duration,
    verdict: &Verdict,
    answer: &[u8],
) -> Attempt {
    Attempt {
        event: envelope.id.clone(),
        source: envelope.source.clone(),
        address: format!("{}/{}", envelope.queue, envelope.event),
        number,
        at,
        took,
        class: verdict.class,
        status: verdict.status.map(|status| status.as_u16()),
        error: verdict.error.clone(),
        answer: answer.to_vec(),
    }
}

/// Whether it is an alert about this endpoint.
fn is_about(envelope: &Envelope, id: &str) -> bool {
    envelope.queue.as_str() == "SYS" && envelope.json().is_some_and(|data| data["webhook"] == id)
}

/// The number in an endpoint's id.
pub(crate) fn uuid(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id.strip_prefix("wh_")?).ok()
}
