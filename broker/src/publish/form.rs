//! The forms in which events come: CloudEvents 1.0 over HTTP in structured, batched and binary mode
//! (<https://github.com/cloudevents/spec>), the shorthand `{"queue", "event", "payload"}`, and bare data.
//!
//! What an attribute may be is the envelope's own business (`events`).

use axum::body::Body;
use bytes::Bytes;
use events::{Data, Envelope};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use telemetry::TraceContext;

use crate::{
    body::{self, MediaType},
    problem::{Kind, Problem},
    query::refuse,
};

/// The most events of a batch.
pub(crate) const BATCH: usize = 256;
/// The most bytes of a document; an event's data is bounded by itself.
const DOCUMENT_BYTES: usize = 1 << 20;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";
const READ: &str =
    "application/cloudevents+json, application/cloudevents-batch+json, application/json, or any with ce- fields";
/// What `curl -d` says of any body.
const FORM: &str = "application/x-www-form-urlencoded";
/// Attributes of binary mode.
const PREFIX: &str = "ce-";

/// What a request asks to have published.
pub(super) enum Form {
    One(Box<Envelope>),
    Batch(Vec<Envelope>),
}

/// Reads the events of a `POST /events`, as those of `source`.
pub(super) async fn read(headers: &HeaderMap, body: Body, source: &str) -> Result<Form, Problem> {
    let media = MediaType::of(headers)?;
    match media.as_ref().map(|media| media.essence.as_str()) {
        Some(STRUCTURED) => attributes(object(json(body).await?)?, source).map(Box::new).map(Form::One),
        Some(BATCHED) => batch(json(body).await?, source).map(Form::Batch),
        _ if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) => {
            let bytes = body::read(body, Envelope::MAX_DATA_BYTES).await?;
            binary(headers, media, bytes, source).map(Box::new).map(Form::One)
        }
        Some("application/json") | None => {
            let members = object(json(body).await?)?;
            if members.contains_key("specversion") {
                return attributes(members, source).map(Box::new).map(Form::One);
            }
            Ok(Form::One(Box::new(Envelope::read_shorthand(source, members)?)))
        }
        Some(_) => Err(media.map_or_else(|| Problem::invalid("content-type"), |media| media.unsupported(READ))),
    }
}

/// Gives an event the body as its data: JSON, or the bytes of another media type.
pub(super) fn give_data(envelope: &mut Envelope, media: Option<MediaType>, bytes: &Bytes) -> Result<(), Problem> {
    if !bytes.is_empty() {
        envelope.data = Some(match &media {
            Some(media) if media.essence == FORM => {
                let detail = "content-type: a form is no data; with curl -d say -H 'content-type: application/json'";
                return Err(Problem::new(Kind::UnsupportedMediaType, detail));
            }
            Some(media) if !media.is_json() => Data::Binary(bytes.to_vec()),
            _ => Data::Json(
                serde_json::from_slice(bytes)
                    .map_err(|error| Problem::invalid(format!("data: is not JSON: {error}")))?,
            ),
        });
        envelope.datacontenttype = Some(media.map_or_else(|| "application/json".to_owned(), |media| media.written));
    }
    Ok(envelope.check()?)
}

/// Reads an event's attributes, as an event of `source`.
pub(crate) fn attributes(mut attributes: Map<String, Value>, source: &str) -> Result<Envelope, Problem> {
    attributes.insert("source".to_owned(), source.into());
    leave_out_no_trace(&mut attributes);
    Ok(Envelope::read(attributes)?)
}

/// A trace that is none, or a state that is malformed or too long, costs the event nothing (W3C Trace Context): it is left
/// out, as that of a request is.
fn leave_out_no_trace(attributes: &mut Map<String, Value>) {
    let text = |name| attributes.get(name).and_then(Value::as_str);
    let trace = TraceContext::of(text("traceparent"), text("tracestate"));
    let has_state = trace.as_ref().is_some_and(|trace| trace.state().is_some());
    for (name, valid) in [("traceparent", trace.is_some()), ("tracestate", has_state)] {
        if !valid && attributes.get(name).is_some_and(Value::is_string) {
            attributes.remove(name);
        }
    }
}

fn batch(events: Value, source: &str) -> Result<Vec<Envelope>, Problem> {
    let Value::Array(events) = events else {
        return Err(Problem::invalid("a batch must be a JSON array of events"));
    };
    if !(1..=BATCH).contains(&events.len()) {
        return Err(Problem::invalid(format!("a batch must be 1 to {BATCH} events, not {}", events.len())));
    }
    let events = events.into_iter().enumerate().map(|(at, event)| {
        let event = object(event).and_then(|members| attributes(members, source));
        event.map_err(|problem| problem_of(at, problem))
    });
    events.collect()
}

/// Says of which event of a batch a problem speaks.
pub(super) fn problem_of(at: usize, problem: Problem) -> Problem {
    Problem { detail: format!("events[{at}]: {}", problem.detail).into(), ..problem }
}

fn binary(headers: &HeaderMap, media: Option<MediaType>, bytes: Bytes, source: &str) -> Result<Envelope, Problem> {
    let mut members = Map::new();
    for (field, value) in headers {
        let field = field.as_str();
        let Some(name) = field.strip_prefix(PREFIX) else { continue };
        if matches!(name, "data" | "data_base64" | "datacontenttype") {
            return Err(refuse(field, "is not an attribute here: the data is the body, of its content-type"));
        }
        let text = value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok());
        let text = text.ok_or_else(|| refuse(field, "must be printable ASCII, other characters percent-encoded"))?;
        let value = match (name, text.parse::<u64>()) {
            ("priority", Ok(number)) => number.into(),
            _ => text.into(),
        };
        if members.insert(name.to_owned(), value).is_some() {
            return Err(refuse(field, "is given twice"));
        }
    }
    let mut envelope = attributes(members, source)?;
    give_data(&mut envelope, media, &bytes)?;
    Ok(envelope)
}

async fn json(body: Body) -> Result<Value, Problem> {
    let bytes = body::read(body, DOCUMENT_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(format!("the body is not JSON: {error}")))
}

fn object(value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(members) => Ok(members),
        Value::Array(_) => {
            Err(Problem::invalid(format!("an event must be a JSON object; a batch is sent as {BATCHED}")))
        }
        _ => Err(Problem::invalid("an event must be a JSON object")),
    }
}
