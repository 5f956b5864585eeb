//! An event becomes messages: each rule it matches, each recipient. What is sent stays sent; what isn't brings the event
//! back.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Delivery, Failure, Handler};
use events::Envelope;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::{
    channel::Letter,
    ledger::Shown,
    ledger::{Admission, Key},
    metrics,
    plan::{Plan, Planned, Recipient},
    sender::{Sender, Unsent},
};

/// Messages of one event that are under way at once.
const AT_ONCE: usize = 16;

/// Follows the rules.
pub(crate) struct Notify {
    plan: Arc<Plan>,
    sender: Sender,
}

impl Notify {
    pub fn new(plan: Arc<Plan>, sender: Sender) -> Self {
        Self { plan, sender }
    }

    async fn message(&self, rule: &Planned, recipient: &Recipient, delivery: &Delivery) -> Result<(), Unsent> {
        let channel = recipient.channel;
        let away = |reason: &str| Unsent { reason: reason.to_owned(), after: None };
        let permit = self.sender.channels.permit(channel).await.ok_or_else(|| away("no such channel"))?;
        if delivery.cancelled.is_cancelled() {
            return Err(away("the delivery is somebody else's"));
        }
        let envelope = &delivery.envelope;
        let key = Key {
            source: envelope.source.clone(),
            event: envelope.id.clone(),
            rule: rule.name.clone(),
            channel,
            recipient: recipient.name.clone(),
        };
        let message = rule.message(envelope, recipient);
        let shown = Shown { address: recipient.masked(), title: message.title() };
        let letter = Letter {
            id: key.id(),
            rule: rule.name.clone(),
            recipient: recipient.clone(),
            message,
            about: about(envelope),
        };
        let (now, until) = (self.sender.now(), self.sender.until(&letter));
        let admission = self.sender.ledger.admit(&key, &shown, rule.limit.as_ref(), now, until).await;
        match admission.map_err(|error| away(&error.to_string()))? {
            Admission::Mine(seq) => self.sender.attempt(seq, letter, permit, Duration::ZERO).await,
            Admission::Held => {
                metrics::held(channel);
                Ok(())
            }
            Admission::Done => Ok(()),
            Admission::Busy(until) => Err(Unsent {
                reason: "another attempt may be under way".to_owned(),
                after: Some(Duration::try_from(until - now).unwrap_or_default()),
            }),
        }
    }
}

#[async_trait]
impl Handler for Notify {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let rules = self.plan.rules.iter().filter(|rule| rule.matches(&delivery.envelope));
        let messages = rules.flat_map(|rule| rule.recipients.iter().map(move |recipient| (rule, recipient)));
        let attempts: Vec<_> = messages
            .map(|(rule, recipient)| async move {
                let sent = self.message(rule, recipient, delivery).await;
                sent.map_err(|unsent| (rule, recipient, unsent))
            })
            .collect();
        let unsent: Vec<_> =
            stream::iter(attempts).buffer_unordered(AT_ONCE).filter_map(async |sent| sent.err()).collect().await;
        let Some((rule, recipient, first)) = unsent.first() else { return Ok(()) };
        // Those that came too early come again with those that must wait longest.
        let delay = unsent.iter().filter_map(|(.., unsent)| unsent.after).max();
        let (rule, channel, name) = (&rule.name, recipient.channel.as_str(), &recipient.name);
        let more = match unsent.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Err(Failure::Retry { reason: format!("{rule} to {name} by {channel}: {}{more}", first.reason), delay })
    }
}

/// The event's attributes, for a machine.
fn about(envelope: &Envelope) -> Value {
    json!({
        "id": envelope.id,
        "source": envelope.source,
        "queue": envelope.queue.as_str(),
        "event": envelope.event.as_str(),
        "subject": envelope.subject,
        "time": envelope.time.format(&Rfc3339).ok(),
    })
}
