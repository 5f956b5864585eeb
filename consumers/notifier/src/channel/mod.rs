//! The ways to reach somebody. A channel is asked once an attempt, within its timeout and its number of attempts at once,
//! and says which of three things became of it ([`Outcome`]). It keeps nothing: what was sent is the ledger's to know.

mod console;
mod email;
pub(crate) mod http;
mod sms;
pub(crate) mod webhook;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    channel::{email::Mailer, http::Http, sms::Twilio, webhook::Webhook},
    mask, metrics,
    plan::{Address, Message, Recipient},
    rules::{self, Channel},
};

/// How many lines the console may write at once.
const CONSOLE_CONCURRENCY: usize = 64;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The channel has taken it, under this name of its own.
    Sent { reference: Option<String> },
    /// It won't ever take it.
    Refused { reason: String },
    /// It may take it later; it is not known whether it has taken it where the answer was lost.
    Retry { reason: String, after: Option<Duration> },
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The same in every attempt, and of no other message.
    pub id: String,
    pub rule: String,
    pub recipient: Recipient,
    pub message: Message,
    /// What it is about, for machines.
    pub about: Value,
}

pub(crate) struct Channels {
    sms: Option<(Twilio, Gate)>,
    email: Option<(Mailer, Gate)>,
    webhook: (Webhook, Gate),
    console: Gate,
}

/// How many attempts at once, and how long one may take.
struct Gate {
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Channels {
    /// Connects to nobody yet.
    pub fn new(settings: &rules::Channels) -> anyhow::Result<Self> {
        let http = Http::new()?;
        let gate = |permits, timeout| Gate { permits: Arc::new(Semaphore::new(permits)), timeout };
        let sms = match &settings.sms {
            Some(sms) => Some((Twilio::new(sms, http.clone())?, gate(sms.concurrency, sms.timeout))),
            None => None,
        };
        let email = match &settings.email {
            Some(email) => Some((Mailer::new(email)?, gate(email.concurrency, email.timeout))),
            None => None,
        };
        let webhook = (Webhook::new(http), gate(settings.webhook.concurrency, settings.webhook.timeout));
        Ok(Self { sms, email, webhook, console: gate(CONSOLE_CONCURRENCY, Duration::from_secs(1)) })
    }

    /// The longest that an attempt may take.
    pub fn timeout(&self, channel: Channel) -> Duration {
        self.gate(channel).map_or(Duration::ZERO, |gate| gate.timeout)
    }

    /// Waits until the channel may be asked.
    pub async fn permit(&self, channel: Channel) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.gate(channel)?.permits.clone().acquire_owned().await.ok()
    }

    /// Makes one attempt.
    pub async fn send(&self, letter: &Letter) -> Outcome {
        let channel = letter.recipient.channel;
        let span = span(letter);
        let begun = Instant::now();
        let attempt = tokio::time::timeout(self.timeout(channel), self.attempt(letter));
        let outcome = attempt
            .instrument(span.clone())
            .await
            .unwrap_or_else(|_| Outcome::Retry { reason: "no answer in time".to_owned(), after: None });
        metrics::sent(channel, outcome.label(), begun.elapsed());
        let outcome = outcome.masked();
        if let Outcome::Refused { reason } | Outcome::Retry { reason, .. } = &outcome {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", reason);
            span.record("error.type", outcome.label());
            let Letter { rule, recipient, .. } = letter;
            let (channel, outcome) = (channel.as_str(), outcome.label());
            tracing::warn!(channel, rule, recipient = recipient.name, outcome, reason, "a message is not sent");
        }
        outcome
    }

    async fn attempt(&self, letter: &Letter) -> Outcome {
        match (&letter.recipient.address, &self.sms, &self.email) {
            (Address::Console, ..) => console::write(letter),
            (Address::Phone(number), Some((twilio, _)), _) => twilio.send(number, &letter.message).await,
            (Address::Mailbox(mailbox), _, Some((mailer, _))) => mailer.send(mailbox, letter).await,
            (Address::Hook { endpoint, secret }, ..) => self.webhook.0.send(endpoint, secret.as_ref(), letter).await,
            // The rules are refused before it comes to this.
            _ => Outcome::Refused { reason: "the channel is not configured".to_owned() },
        }
    }

    fn gate(&self, channel: Channel) -> Option<&Gate> {
        match channel {
            Channel::Console => Some(&self.console),
            Channel::Sms => self.sms.as_ref().map(|(_, gate)| gate),
            Channel::Email => self.email.as_ref().map(|(_, gate)| gate),
            Channel::Webhook => Some(&self.webhook.1),
        }
    }
}

impl Outcome {
    fn label(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Refused { .. } => "refused",
            Self::Retry { .. } => "retry",
        }
    }

    /// A provider repeats addresses in its reasons; neither the log nor the ledger does.
    fn masked(self) -> Self {
        let mask = |reason: String| mask::text(&crate::template::shorten(&crate::template::clean(&reason), 300));
        match self {
            Self::Refused { reason } => Self::Refused { reason: mask(reason) },
            Self::Retry { reason, after } => Self::Retry { reason: mask(reason), after },
            sent => sent,
        }
    }
}

/// A client's span; what the channel knows of its request it adds itself.
fn span(letter: &Letter) -> Span {
    let name = match letter.recipient.channel {
        Channel::Console => "send console",
        Channel::Sms => "POST /2010-04-01/Accounts/{account}/Messages.json",
        Channel::Email => "send smtp",
        Channel::Webhook => "POST",
    };
    tracing::info_span!(
        "send",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        // A digest has no span above it that says so.
        turnpike.role = crate::NAME,
        turnpike.channel = letter.recipient.channel.as_str(),
        turnpike.rule = letter.rule,
        turnpike.recipient = letter.recipient.name,
        messaging.message.id = letter.id,
        http.request.method = Empty,
        http.response.status_code = Empty,
        server.address = Empty,
        server.port = Empty,
        error.type = Empty,
    )
}
