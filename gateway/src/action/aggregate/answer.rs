//! Putting the parts together.

use http::{HeaderValue, Response, header};
use serde::Serialize;
use upstream::Body;

use super::{
    META,
    part::{Failure, Part},
};
use crate::{
    error::{Error, ErrorKind},
    problem,
};

/// What became of a part.
pub enum Outcome {
    /// Its JSON.
    Answered(Vec<u8>),
    Failed(Failure),
}

/// `_meta.parts.<name>`.
#[derive(Serialize)]
struct Meta {
    /// `ok`; `fallback`, where the part failed and its fallback stands there; `failed`, where null does.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
}

/// The answer, with its parts in the order of the configuration.
pub fn answer(parts: &[Part], outcomes: &[Outcome]) -> Result<Response<Body>, Error> {
    let partial = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)));
    let mut response = Response::new(Body::from(bytes::Bytes::from(document(parts, outcomes).map_err(internal)?)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if partial {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

fn document(parts: &[Part], outcomes: &[Outcome]) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::with_capacity(1024);
    for (part, outcome) in parts.iter().zip(outcomes) {
        json.push(if json.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut json, &part.name)?;
        json.push(b':');
        json.extend_from_slice(match outcome {
            Outcome::Answered(part) => part,
            Outcome::Failed(_) => part.fallback.as_deref().unwrap_or("null").as_bytes(),
        });
    }
    let mut separator: &[u8] = b"";
    json.extend_from_slice(format!(",\"{META}\":{{\"parts\":{{").as_bytes());
    for (part, outcome) in parts.iter().zip(outcomes) {
        json.extend_from_slice(separator);
        serde_json::to_writer(&mut json, &part.name)?;
        json.push(b':');
        serde_json::to_writer(&mut json, &meta(part, outcome))?;
        separator = b",";
    }
    json.extend_from_slice(b"}}}");
    Ok(json)
}

fn meta(part: &Part, outcome: &Outcome) -> Meta {
    match outcome {
        Outcome::Answered(_) => Meta { status: "ok", reason: None, http_status: None },
        Outcome::Failed(failure) => Meta {
            status: if part.fallback.is_some() { "fallback" } else { "failed" },
            reason: Some(failure.reason),
            http_status: Some(problem::status(failure.error.kind).http.as_u16()),
        },
    }
}

fn internal(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "the parts could not be put together").cause(error)
}
