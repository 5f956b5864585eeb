//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): reading it, writing it, and making a span its child.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::state;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A place in a trace: what `traceparent` and `tracestate` say. `Display` writes the value of `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub sampled: bool,
    /// What the tracing systems on the way have written for themselves; passed on as it came.
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// A new trace that nobody records; its ids are for logs and error documents.
    pub fn unsampled() -> Self {
        let (trace_id, span_id) = (nonzero(rand::random::<u128>), nonzero(rand::random::<u64>));
        Self { trace_id, span_id, sampled: false, state: None }
    }

    /// The same trace, one span further.
    pub fn child(&self) -> Self {
        Self { span_id: nonzero(rand::random::<u64>), ..self.clone() }
    }

    /// Reads a `traceparent` value: version 00, or a later one read as 00 with its extra fields left alone.
    pub fn parse(value: &str) -> Option<Self> {
        let bytes = value.as_bytes();
        if bytes.len() < 55 || !value.is_ascii() || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let version = hex(&value[0..2])?;
        if version == 0xff
            || (version == 0 && bytes.len() != 55)
            || (version > 0 && bytes.len() > 55 && bytes[55] != b'-')
        {
            return None;
        }
        let trace_id = hex(&value[3..35])?;
        let span_id = u64::try_from(hex(&value[36..52])?).ok()?;
        let flags = hex(&value[53..55])?;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1, state: None })
    }

    /// Reads both values as an event's envelope holds them. A `tracestate` that is malformed or longer than 512 bytes is
    /// left out; it never costs the trace itself.
    pub fn of(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<Self> {
        Self::parse(traceparent?).map(|context| context.with_state(tracestate.unwrap_or_default()))
    }

    /// The value of `tracestate`, if there is one.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    fn with_state(mut self, value: &str) -> Self {
        self.state = state::is_valid(value).then(|| value.into());
        self
    }

    /// The value of `traceparent`.
    fn header(&self) -> [u8; 55] {
        // Written without `format!`, which takes longer than routing the request does.
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id.to_be_bytes(), &mut text[3..35]);
        write_hex(&self.span_id.to_be_bytes(), &mut text[36..52]);
        write_hex(&[u8::from(self.sampled)], &mut text[53..55]);
        text
    }

    fn to_otel(&self) -> SpanContext {
        SpanContext::new(
            TraceId::from(self.trace_id),
            SpanId::from(self.span_id),
            if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
            true,
            self.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default(),
        )
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.header()).map_err(|_| fmt::Error)?)
    }
}

/// The trace context of the span that is entered now, if it belongs to a trace.
pub fn current() -> Option<TraceContext> {
    of_span(&Span::current())
}

/// The trace context of a span, if it belongs to a trace.
pub fn of_span(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = span_context(&context);
    span.is_valid().then(|| {
        let here = TraceContext {
            trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(span.span_id().to_bytes()),
            sampled: span.is_sampled(),
            state: None,
        };
        here.with_state(&span.trace_state().header())
    })
}

/// Whether the span that is entered now is recorded. Who makes spans below it that few need asks first.
pub fn is_recording() -> bool {
    let span = Span::current();
    !span.is_none() && span_context(&span.context()).is_sampled()
}

fn span_context(context: &Context) -> SpanContext {
    context.span().span_context().clone()
}

/// Reads the caller's trace context from headers or gRPC metadata.
pub fn extract(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let value = values.next()?;
    // The specification has a request with several start a new trace.
    if values.next().is_some() {
        return None;
    }
    let context = TraceContext::parse(value.to_str().ok()?)?;
    let mut states = headers.get_all(&TRACESTATE).iter();
    let Some(state) = states.next() else { return Some(context) };
    // Several are one list.
    let more: Vec<&[u8]> = states.map(HeaderValue::as_bytes).collect();
    let list = if more.is_empty() { state.as_bytes() } else { &[&[state.as_bytes()], &*more].concat().join(&b',') };
    Some(context.with_state(std::str::from_utf8(list).unwrap_or_default()))
}

/// Writes a trace context into headers or gRPC metadata, over what was there.
pub fn inject(context: &TraceContext, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_bytes(&context.header()) {
        headers.insert(TRACEPARENT, value);
    }
    match context.state().map(HeaderValue::from_str) {
        Some(Ok(value)) => _ = headers.insert(TRACESTATE, value),
        // One that came with another `traceparent`, or with none, means nothing beside this one.
        _ => _ = headers.remove(&TRACESTATE),
    }
}

/// Makes `span`, which must not have been entered yet, a child of `parent`.
pub fn set_parent(span: &Span, parent: &TraceContext) {
    // Fails only where the span is disabled or no trace layer is installed: there is nothing to link then.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent.to_otel()));
}

/// Renames a span that is on its way: recording the field `otel.name` changes nothing once its context was asked for.
pub fn rename(span: &Span, name: &str) {
    span.context().span().update_name(name.to_owned());
}

/// Writes bytes in lower-case hexadecimal, two digits each.
pub fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn hex(digits: &str) -> Option<u128> {
    // from_str_radix takes a sign and upper case, which the header may not hold.
    digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then(|| u128::from_str_radix(digits, 16).ok())?
}

fn nonzero<T: Default + PartialEq>(next: impl Fn() -> T) -> T {
    loop {
        let id = next();
        if id != T::default() {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_header_survives_a_round_trip() {
        let context = TraceContext::parse(VALID).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), VALID);
        assert_eq!(context.child().trace_id, context.trace_id);
        assert_ne!(context.child().span_id, context.span_id);
    }

    #[test]
    fn headers_that_the_specification_calls_invalid_are_refused() {
        for invalid in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01extra",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        assert!(TraceContext::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }

    #[test]
    fn the_state_travels_with_the_parent_and_never_costs_it() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, VALID.parse().unwrap());
        headers.append(TRACESTATE, "rojo=00f067aa0ba902b7".parse().unwrap());
        headers.append(TRACESTATE, "congo=t61rcWkgMzE".parse().unwrap());
        let context = extract(&headers).unwrap();
        assert_eq!(context.state(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        assert_eq!(context.child().state(), context.state());
        let of_envelope = TraceContext::of(Some(VALID), context.state());
        assert_eq!(of_envelope.as_ref(), Some(&context));

        let mut onward = HeaderMap::new();
        onward.insert(TRACESTATE, "stale=1".parse().unwrap());
        inject(&context, &mut onward);
        assert_eq!(onward[TRACESTATE], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        for malformed in ["no list", "a=b,a=c", &format!("a={}", "x".repeat(600))] {
            headers.insert(TRACESTATE, malformed.parse().unwrap());
            let context = extract(&headers).unwrap();
            assert_eq!((context.to_string().as_str(), context.state()), (VALID, None), "{malformed}");
            inject(&context, &mut onward);
            assert!(!onward.contains_key(TRACESTATE));
        }
    }

    #[test]
    fn two_headers_start_a_new_trace() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, VALID.parse().unwrap());
        assert!(extract(&headers).is_some());
        headers.append(TRACEPARENT, VALID.parse().unwrap());
        assert_eq!(extract(&headers), None);
    }
}
