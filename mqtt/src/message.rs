//! From a message to the event that it is mapped to.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use events::{Address, Data, Envelope, Name};
use rumqttc::Publish;
use serde_json::{Value, json};
use telemetry::TraceContext;
use time::{Duration, OffsetDateTime};

use crate::{
    known::{Known, property},
    plan::{Inbound, Plan},
    settings::Form,
    topic::MAX_BYTES,
};

/// What is kept of a payload that is rejected.
const KEPT: usize = 64 * 1024;

/// The user property that says by which dispatcher an event became a message, and of which topic: whoever copies the properties
/// of what it got to a message of its own, of another topic, has said something of its own.
pub(crate) const VIA: &str = "via";

/// Whether a message is an event that this dispatcher itself gave to the broker.
pub(crate) fn is_own(message: &Publish, source: &str) -> bool {
    let topic = property(message, VIA).and_then(|via| via.strip_prefix(source)?.strip_prefix(' '));
    topic.is_some_and(|topic| topic.as_bytes() == &message.topic[..])
}

/// A message that can't become the event that it is mapped to, and why.
#[derive(Debug)]
pub(crate) struct Rejected(pub String);

impl Plan {
    /// The event of a message; the first mapping that takes its topic says which.
    pub(crate) fn event(&self, message: &Publish, source: &str, known: &mut Known) -> Result<Envelope, Rejected> {
        let topic = std::str::from_utf8(&message.topic).map_err(|_| Rejected("the topic is not UTF-8".to_owned()))?;
        let mapped = self.inbound.iter().find_map(|mapping| Some((mapping, mapping.topic.captures(topic)?)));
        let Some((mapping, captured)) = mapped else {
            return Err(Rejected("no mapping takes this topic".to_owned()));
        };
        mapping.event(message, (topic, &captured), source, known)
    }

    /// What is recorded of a message that is rejected; once, also where it comes again.
    pub(crate) fn rejection(&self, message: &Publish, why: &Rejected, source: &str, known: &mut Known) -> Envelope {
        let Address { queue, event } = self.rejected.clone();
        let kept = &message.payload[..message.payload.len().min(KEPT)];
        let mut rejection = Envelope::new(source, queue, event).id(known.mark(message));
        rejection.data = Some(Data::Json(json!({
            "topic": String::from_utf8_lossy(&message.topic).chars().take(MAX_BYTES).collect::<String>(),
            "reason": why.0,
            "bytes": message.payload.len(),
            "payload_base64": BASE64_STANDARD.encode(kept),
        })));
        rejection
    }
}

impl Inbound {
    fn event(
        &self,
        message: &Publish,
        (topic, captured): (&str, &[&str]),
        source: &str,
        known: &mut Known,
    ) -> Result<Envelope, Rejected> {
        let numbers: Vec<String> = (1..=captured.len()).map(|number| number.to_string()).collect();
        let mut values: HashMap<&str, &str> =
            numbers.iter().map(String::as_str).zip(captured.iter().copied()).collect();
        let name = self.event.fill(&values).to_ascii_uppercase();
        let name = Name::new(&name).map_err(|error| Rejected(format!("the event's name: {error}")))?;
        values.insert("topic", topic);
        let mut event = Envelope::new(source, self.queue.clone(), name).id(known.id(message, self.same));
        event.subject = self.subject.as_ref().map(|template| template.fill(&values));
        event.partitionkey = self.key.as_ref().map(|template| template.fill(&values));
        let properties = message.properties.as_ref();
        event.data = self.data(&message.payload)?;
        if matches!(event.data, Some(Data::Binary(_))) {
            let given = properties.and_then(|properties| properties.content_type.clone());
            event.datacontenttype = Some(given.unwrap_or_else(|| "application/octet-stream".to_owned()));
        }
        let expires = properties.and_then(|properties| properties.message_expiry_interval);
        event.expirytime = expires.map(|seconds| OffsetDateTime::now_utc() + Duration::seconds(seconds.into()));
        event.correlationid = property(message, "correlation-id").map(str::to_owned);
        if let Some(trace) = TraceContext::of(property(message, "traceparent"), property(message, "tracestate")) {
            event.traceparent = Some(trace.to_string());
            event.tracestate = trace.state().map(str::to_owned);
        }
        event.check().map_err(|error| Rejected(error.to_string()))?;
        Ok(event)
    }

    fn data(&self, payload: &[u8]) -> Result<Option<Data>, Rejected> {
        if payload.is_empty() && self.form != Form::Binary {
            return Ok(None);
        }
        if self.form == Form::Binary {
            return Ok(Some(Data::Binary(payload.to_vec())));
        }
        match serde_json::from_slice::<Value>(payload) {
            Ok(value) => Ok(Some(Data::Json(value))),
            Err(_) if self.form == Form::Auto => Ok(Some(Data::Binary(payload.to_vec()))),
            Err(error) => Err(Rejected(format!("the payload is not JSON: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::QoS;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_message_that_is_rejected_again_is_the_same_rejection_also_for_the_next_process() {
        let settings = r#"{"inbound": [{"topic": "a", "to": "DB/CREATE", "data": "json"}]}"#;
        let plan = Plan::of(&serde_json::from_str::<Settings>(settings).unwrap()).unwrap();
        let mut message = Publish::new("a", QoS::AtLeastOnce, "no json", None);
        message.pkid = 7;
        let mut known = Known::new("turnpike");
        let why = plan.event(&message, "/mqtt/turnpike", &mut known).unwrap_err();
        let first = plan.rejection(&message, &why, "/mqtt/turnpike", &mut known);
        assert!(first.check().is_ok(), "{first:?}");
        let mut next = Known::new("turnpike");
        next.recall(&first);
        message.dup = true;
        let why = plan.event(&message, "/mqtt/turnpike", &mut next).unwrap_err();
        assert_eq!(plan.rejection(&message, &why, "/mqtt/turnpike", &mut next).id, first.id);
    }
}
