//! An error as a caller reads it that speaks gRPC: a status with details (`google.rpc`), as an answer of trailers
//! alone, or, in gRPC-Web, as a body of nothing but the frame that holds them.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use prost::Message as _;
use upstream::Body;

use crate::{
    action::rpc_status::{BadRequest, ErrorInfo, FieldViolation, RequestInfo, RetryInfo, Status, any},
    dialect::Dialect,
    error::Error,
    problem::{self, Occurrence},
};

/// Who defines the reasons.
const DOMAIN: &str = "turnpike.dev";
/// What a gRPC message must escape: all but printable ASCII, and the percent sign.
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
/// Clients take 8 KiB of trailers; this much is kept for the fields of a `BadRequest`, and as much for the message.
const ROOM: usize = 2048;
/// Set in the first byte of a frame that holds trailers, not a message.
const TRAILERS: u8 = 0x80;

/// The answer, but for the header fields that every form of an error has.
pub fn answer(error: &Error, occurrence: &Occurrence) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let trailers = HeaderMap::from_iter(trailers(error, occurrence));
    let (content_type, body) = match occurrence.dialect {
        Dialect::GrpcWeb => ("application/grpc-web+proto", Some(frame(&trailers))),
        Dialect::GrpcWebText => ("application/grpc-web-text+proto", Some(STANDARD.encode(frame(&trailers)).into())),
        Dialect::Grpc | Dialect::Http => ("application/grpc", None),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    match body {
        Some(body) => *response.body_mut() = body.into(),
        None => response.headers_mut().extend(trailers),
    }
    response
}

fn trailers(error: &Error, occurrence: &Occurrence) -> [(HeaderName, HeaderValue); 3] {
    let code = problem::status(error.kind).grpc;
    let message = clipped(&error.detail);
    let details = Status { code: code.into(), message: message.to_owned(), details: details(error, occurrence) };
    let details = STANDARD_NO_PAD.encode(details.encode_to_vec());
    let message = percent_encoding::utf8_percent_encode(message, ESCAPED).to_string();
    // Both are printable ASCII by now.
    let value = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    [
        (HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(code))),
        (HeaderName::from_static("grpc-message"), value(message)),
        (HeaderName::from_static("grpc-status-details-bin"), value(details)),
    ]
}

fn details(error: &Error, occurrence: &Occurrence) -> Vec<prost_types::Any> {
    let kind = problem::status(error.kind).kind;
    let info = ErrorInfo {
        // AIP-193 has reasons in this form.
        reason: kind.to_ascii_uppercase().replace('-', "_"),
        domain: DOMAIN.to_owned(),
        metadata: [("trace_id".to_owned(), occurrence.trace_id()), ("type".to_owned(), problem::type_of(kind))].into(),
    };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    let mut room = ROOM;
    let fields = error.violations.iter().map_while(|violation| {
        room = room.checked_sub(violation.field.len() + violation.reason.len())?;
        Some(FieldViolation { field: violation.field.clone(), description: violation.reason.clone() })
    });
    let field_violations: Vec<_> = fields.collect();
    if !field_violations.is_empty() {
        details.push(any("google.rpc.BadRequest", &BadRequest { field_violations }));
    }
    let wait = error.headers.iter().find(|(name, _)| *name == header::RETRY_AFTER);
    if let Some(seconds) = wait.and_then(|(_, value)| value.to_str().ok()?.parse().ok()) {
        let retry_delay = Some(prost_types::Duration { seconds, nanos: 0 });
        details.push(any("google.rpc.RetryInfo", &RetryInfo { retry_delay }));
    }
    let request_id = occurrence.request_id.to_string();
    details.push(any("google.rpc.RequestInfo", &RequestInfo { request_id, serving_data: String::new() }));
    details
}

/// A frame as a message has it, marked as trailers: fields a line, in lower case.
pub fn frame(trailers: &HeaderMap) -> Bytes {
    let mut lines = Vec::with_capacity(256);
    for (name, value) in trailers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(lines.len() + 5);
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(lines.len()).unwrap_or_default());
    frame.put_slice(&lines);
    frame.freeze()
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(ROOM / 3)]
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::error::{ErrorKind, Violation};

    fn told(error: &Error) -> (Response<Body>, Status) {
        let response = answer(error, &Occurrence::unknown(Dialect::Grpc));
        let details = STANDARD_NO_PAD.decode(&response.headers()["grpc-status-details-bin"]).unwrap();
        (response, Status::decode(details.as_slice()).unwrap())
    }

    #[test]
    fn a_grpc_caller_reads_a_status() {
        let (response, status) = told(&Error::new(ErrorKind::NotFound, "no route é 100%"));
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/grpc".parse().unwrap())
        );
        assert_eq!(response.headers()["grpc-status"], "5");
        assert_eq!(response.headers()["grpc-message"], "no route %C3%A9 100%25");
        assert_eq!((status.code, status.message.as_str()), (5, "no route é 100%"));
        let info: ErrorInfo = status.detail("google.rpc.ErrorInfo").unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_FOUND", DOMAIN));
        assert_eq!(info.metadata["type"], "https://turnpike.dev/problems/not-found");
        assert_eq!(status.detail::<BadRequest>("google.rpc.BadRequest"), None);
    }

    #[test]
    fn the_details_say_what_a_problem_document_does() {
        let violation = Violation { field: "quantity".into(), reason: "must be at least 1".into() };
        let error = Error::new(ErrorKind::RateLimited, "wait")
            .violations(vec![violation])
            .header(header::RETRY_AFTER, HeaderValue::from_static("7"));
        let (_, status) = told(&error);
        let fields = status.detail::<BadRequest>("google.rpc.BadRequest").unwrap().field_violations;
        assert_eq!((fields[0].field.as_str(), fields[0].description.as_str()), ("quantity", "must be at least 1"));
        let wait = status.detail::<RetryInfo>("google.rpc.RetryInfo").unwrap().retry_delay.unwrap();
        assert_eq!(wait.seconds, 7);
        assert!(status.detail::<RequestInfo>("google.rpc.RequestInfo").is_some());
    }

    #[test]
    fn however_much_is_wrong_the_trailers_stay_small() {
        let violation = |at| Violation { field: format!("lines[{at}].é"), reason: "é".repeat(100) };
        let error = Error::new(ErrorKind::Invalid, "é".repeat(5000)).violations((0..500).map(violation).collect());
        let (response, status) = told(&error);
        let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size < 8192, "{size}");
        assert!(!status.detail::<BadRequest>("google.rpc.BadRequest").unwrap().field_violations.is_empty());
    }

    #[tokio::test]
    async fn a_grpc_web_caller_reads_a_frame_of_trailers() {
        let error = Error::new(ErrorKind::Unavailable, "away");
        let read = async |dialect| {
            let response = answer(&error, &Occurrence::unknown(dialect));
            assert!(!response.headers().contains_key("grpc-status"), "one place is enough");
            let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
            (kind, response.into_body().collect().await.unwrap().to_bytes())
        };
        let (kind, bytes) = read(Dialect::GrpcWeb).await;
        assert_eq!((kind.as_str(), bytes[0]), ("application/grpc-web+proto", TRAILERS));
        assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
        assert!(bytes[5..].starts_with(b"grpc-status: 14\r\ngrpc-message: away\r\ngrpc-status-details-bin: "));
        let (kind, text) = read(Dialect::GrpcWebText).await;
        assert_eq!(kind, "application/grpc-web-text+proto");
        assert_eq!(STANDARD.decode(&text).unwrap(), bytes);
    }
}
