//! What a handler publishes because of a delivery: the same event, however often it is handled.

use events::{Address, Envelope};
use telemetry::TraceContext;
use uuid::Uuid;

use crate::Delivery;

/// Of the ids that derive from a delivery.
const STEPS: Uuid = Uuid::from_u128(0x2f9d_10c3_94c1_4e65_8b1e_40a7_d3c6_5b92);

impl Delivery {
    /// An event that the handler publishes because of this one. Its id derives from the group, this event and `step`
    /// (UUIDv5): a handler that is run again, here or elsewhere, publishes the same event, which the dedupe window knows. A
    /// handler that publishes several gives each a step of its own. Causation, correlation and trace are set.
    ///
    /// It is recorded once within the window (two hours unless the queue says otherwise); a handler that may be run again
    /// later than that has an [`crate::Inbox`], or an outbox.
    pub fn follow_up(&self, step: &str, source: impl Into<String>, address: Address) -> Envelope {
        let cause = &*self.envelope;
        let identity = format!("{}\0{}\0{}\0{step}", self.group, cause.source, cause.id);
        let id = Uuid::new_v5(&STEPS, identity.as_bytes()).to_string();
        let event = Envelope::new(source, address.queue, address.event).id(id).caused_by(cause);
        match telemetry::current() {
            Some(trace) => Envelope {
                traceparent: Some(trace.to_string()),
                tracestate: TraceContext::state(&trace).map(str::to_owned),
                ..event
            },
            None => Envelope { traceparent: cause.traceparent.clone(), tracestate: cause.tracestate.clone(), ..event },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use events::Name;

    use super::*;

    fn delivery(group: &str, source: &str, id: &str) -> Delivery {
        let name = |text| Name::new(text).unwrap();
        let mut envelope = Envelope::new(source, name("DB"), name("CREATE")).id(id);
        envelope.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        Delivery {
            group: group.into(),
            envelope: Arc::new(envelope),
            partition: 0,
            position: 1,
            attempt: 1,
            generation: 1,
            cancelled: Default::default(),
        }
    }

    #[test]
    fn a_step_of_a_delivery_has_one_id() {
        let id = |delivery: &Delivery, step| delivery.follow_up(step, "/s", "MAIL/SEND".parse().unwrap()).id;
        let first = delivery("notifier", "/services/product", "1");
        // Golden: another version may handle the event again.
        assert_eq!(id(&first, "mail"), "f9761237-bc00-5a5d-bf84-47f04aa1e61b");
        for other in [
            id(&first, "sms"),
            id(&delivery("logger", "/services/product", "1"), "mail"),
            id(&delivery("notifier", "/services/order", "1"), "mail"),
            id(&delivery("notifier", "/services/product", "2"), "mail"),
        ] {
            assert_ne!(other, id(&first, "mail"));
        }
    }

    #[test]
    fn it_says_what_caused_it_and_goes_on_with_the_trace() {
        let cause = delivery("notifier", "/services/product", "1");
        let event = cause.follow_up("mail", "/consumers/notifier", "MAIL/SEND".parse().unwrap());
        assert_eq!((event.causationid.as_deref(), event.correlationid.as_deref()), (Some("1"), Some("1")));
        assert_eq!(event.traceparent, cause.envelope.traceparent);
    }
}
