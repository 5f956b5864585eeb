//! Events, as protobuf has them and as envelopes.

use events::{Data, Envelope, EnvelopeError, Name};
use proto::turnpike::bus::v1 as wire;
use serde_json::Value;
use telemetry::TraceContext;
use wire::{attribute::Value as Attribute, event::Data as WireData};

use super::moment::{time, timestamp};
use crate::{
    problem::{Kind, Problem},
    query::refuse,
};

/// Attributes whose field is called otherwise.
const FIELDS: [(&str, &str); 13] = [
    ("partitionkey", "partition_key"),
    ("correlationid", "correlation_id"),
    ("causationid", "causation_id"),
    ("recordedtime", "recorded_time"),
    ("expirytime", "expiry_time"),
    ("deliverytime", "delivery_time"),
    ("replyto", "reply_to"),
    ("expectedversion", "expected_version"),
    ("datacontenttype", "data_content_type"),
    ("dataschema", "data_schema"),
    ("dataref", "data_ref"),
    ("data", "json"),
    ("data_base64", "binary"),
];

/// The `at`-th event of a publish, as one of `source`. What the bus stamps is ignored.
pub(super) fn read(at: usize, event: wire::Event, source: &str) -> Result<Envelope, Problem> {
    envelope(event, source)
        .map_err(|problem| Problem { detail: format!("events[{at}].{}", problem.detail).into(), ..problem })
}

/// An event as it is told, with its place if that is known.
pub(super) fn told(envelope: &Envelope, cursor: Option<String>) -> wire::Event {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let extensions = envelope.extensions.iter().filter_map(|(name, value)| Some((name.clone(), attribute(value)?)));
    wire::Event {
        id: envelope.id.clone(),
        source: envelope.source.clone(),
        r#type: envelope.r#type.clone(),
        queue: envelope.queue.to_string(),
        event: envelope.event.to_string(),
        subject: text(&envelope.subject),
        partition_key: text(&envelope.partitionkey),
        time: Some(timestamp(envelope.time)),
        recorded_time: envelope.recordedtime.map(timestamp),
        sequence: envelope.sequence.unwrap_or(0),
        cursor: cursor.or_else(|| envelope.cursor.clone()).unwrap_or_default(),
        correlation_id: text(&envelope.correlationid),
        causation_id: text(&envelope.causationid),
        traceparent: text(&envelope.traceparent),
        tracestate: text(&envelope.tracestate),
        expiry_time: envelope.expirytime.map(timestamp),
        delivery_time: envelope.deliverytime.map(timestamp),
        priority: Some(envelope.priority.into()),
        owner: text(&envelope.owner),
        reply_to: text(&envelope.replyto),
        expected_version: envelope.expectedversion,
        data_content_type: text(&envelope.datacontenttype),
        data_schema: text(&envelope.dataschema),
        data_ref: text(&envelope.dataref),
        data: envelope.data.as_ref().map(|data| match data {
            Data::Json(value) => WireData::Json(value.to_string()),
            Data::Binary(bytes) => WireData::Binary(bytes.clone()),
        }),
        extensions: extensions.collect(),
    }
}

fn envelope(event: wire::Event, source: &str) -> Result<Envelope, Problem> {
    let name = |field: &str, name: &str| Name::new(name).map_err(|error| refuse(field, error));
    let mut envelope = Envelope::new(source, name("queue", &event.queue)?, name("event", &event.event)?);
    if let Some(id) = text(event.id) {
        envelope.id = id;
    }
    if let Some(of) = text(event.r#type) {
        envelope.r#type = of;
    }
    envelope.subject = text(event.subject);
    envelope.partitionkey = text(event.partition_key);
    if let Some(happened) = event.time {
        envelope.time = time("time", happened)?;
    }
    envelope.correlationid = text(event.correlation_id);
    envelope.causationid = text(event.causation_id);
    // A trace that is none costs the event nothing (W3C Trace Context): it is left out.
    let trace = TraceContext::of(text(event.traceparent).as_deref(), text(event.tracestate).as_deref());
    envelope.traceparent = trace.as_ref().map(ToString::to_string);
    envelope.tracestate = trace.as_ref().and_then(TraceContext::state).map(str::to_owned);
    envelope.expirytime = event.expiry_time.map(|moment| time("expiry_time", moment)).transpose()?;
    envelope.deliverytime = event.delivery_time.map(|moment| time("delivery_time", moment)).transpose()?;
    if let Some(priority) = event.priority {
        envelope.priority = u8::try_from(priority).unwrap_or(u8::MAX);
    }
    envelope.replyto = text(event.reply_to);
    envelope.expectedversion = event.expected_version;
    envelope.data = event.data.map(data).transpose()?;
    envelope.datacontenttype = text(event.data_content_type)
        .or_else(|| matches!(envelope.data, Some(Data::Json(_))).then(|| "application/json".to_owned()));
    envelope.dataschema = text(event.data_schema);
    envelope.dataref = text(event.data_ref);
    for (name, attribute) in event.extensions {
        let value = match attribute.value {
            Some(Attribute::Text(text)) => text.into(),
            Some(Attribute::Flag(flag)) => flag.into(),
            Some(Attribute::Number(number)) => number.into(),
            None => return Err(refuse("extensions", format!("{name} has no value"))),
        };
        envelope.extensions.insert(name, value);
    }
    envelope.check().map_err(unsound)?;
    Ok(envelope)
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn data(data: WireData) -> Result<Data, Problem> {
    match data {
        // Refused before it is read: reading takes several times its size.
        WireData::Json(text) if text.len() > 2 * Envelope::MAX_DATA_BYTES => {
            Err(Problem::new(Kind::TooLarge, "json: must be at most 256 KiB"))
        }
        WireData::Json(text) => {
            let value = serde_json::from_str(&text);
            value.map(Data::Json).map_err(|error| refuse("json", format!("is not JSON: {error}")))
        }
        WireData::Binary(bytes) => Ok(Data::Binary(bytes)),
    }
}

fn attribute(value: &Value) -> Option<wire::Attribute> {
    let value = match value {
        Value::String(text) => Attribute::Text(text.clone()),
        Value::Bool(flag) => Attribute::Flag(*flag),
        value => Attribute::Number(i32::try_from(value.as_i64()?).ok()?),
    };
    Some(wire::Attribute { value: Some(value) })
}

/// Names the field as it is called here.
fn unsound(error: EnvelopeError) -> Problem {
    let kind = if error.is_too_large() { Kind::TooLarge } else { Kind::Invalid };
    let field = FIELDS.iter().find(|(attribute, _)| *attribute == error.field);
    let field = field.map_or(error.field.as_str(), |(_, field)| field);
    Problem::new(kind, format!("{field}: {}", error.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> wire::Event {
        wire::Event { queue: "DB".into(), event: "CREATE".into(), ..wire::Event::default() }
    }

    #[test]
    fn every_attribute_survives_its_wire_form() {
        let full = include_bytes!("../../../events/tests/golden/full.json");
        let envelope = Envelope::parse(full).unwrap();
        let read = read(0, told(&envelope, None), &envelope.source).unwrap();
        // Whose it is, is the bus's to say.
        assert_eq!(Envelope { owner: envelope.owner.clone(), ..read }, envelope);
        let binary = Envelope::new("/a", envelope.queue.clone(), envelope.event).binary("image/png", vec![0, 255]);
        assert_eq!(super::read(0, told(&binary, None), "/a").unwrap(), binary);
    }

    #[test]
    fn what_is_left_out_is_as_in_json() {
        let read = read(0, minimal(), "/clients/a").unwrap();
        assert_eq!((read.r#type.as_str(), read.priority, read.subject), ("turnpike.db.create", 4, None));
        assert_eq!((read.id.len(), read.datacontenttype), (36, None));
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path() {
        let large = "x".repeat(Envelope::MAX_DATA_BYTES);
        for (event, detail) in [
            (wire::Event { queue: "db".into(), ..minimal() }, "events[2].queue: "),
            (wire::Event { partition_key: "\n".into(), ..minimal() }, "events[2].partition_key: "),
            (wire::Event { priority: Some(10), ..minimal() }, "events[2].priority: "),
            (wire::Event { data: Some(WireData::Json("{".into())), ..minimal() }, "events[2].json: is not JSON"),
            (wire::Event { data: Some(WireData::Json(format!("{large:?}"))), ..minimal() }, "events[2].json: must be"),
            (
                wire::Event { time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), ..minimal() },
                "events[2].time: ",
            ),
        ] {
            let problem = read(2, event, "/a").unwrap_err();
            assert!(problem.detail.starts_with(detail), "{}", problem.detail);
        }
    }
}
