//! Request bodies, read whole within bounds of size and time.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes of a command.
const COMMAND_BYTES: usize = 128 * 1024;

/// A body of at most `limit` bytes.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(PATIENCE, to_bytes(body, limit)).await;
    let read = read.map_err(|_| Problem::invalid(format!("the body took longer than {PATIENCE:?}")))?;
    read.map_err(|error| {
        let too_long = std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>());
        if too_long { too_large(limit) } else { Problem::invalid("the body ended early") }
    })
}

pub(crate) fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("the body is larger than {limit} bytes"))
}

/// A command in JSON: its members are known, and refused by name where they are not.
pub(crate) async fn command<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    command_within(headers, body, COMMAND_BYTES).await
}

/// A command of at most so many bytes.
pub(crate) async fn command_within<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<T, Problem> {
    parse(&json(headers, body, limit).await?)
}

/// A command that may be left out.
pub(crate) async fn optional<T: DeserializeOwned + Default>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    optional_within(headers, body, COMMAND_BYTES).await
}

/// A command of at most so many bytes, which may be left out.
pub(crate) async fn optional_within<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<T, Problem> {
    let bytes = json(headers, body, limit).await?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(&bytes) }
}

async fn json(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let media = MediaType::of(headers)?;
    let bytes = read(body, limit).await?;
    match media {
        // Of nothing it doesn't matter what it says it is: `curl -X POST` says it is a form.
        Some(media) if !media.is_json() && !bytes.is_empty() => Err(media.unsupported("application/json")),
        _ => Ok(bytes),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

/// A command that may be left out: nothing is none.
pub(crate) async fn command_or_none<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<T>, Problem> {
    match axum::body::HttpBody::is_end_stream(&body) {
        true => Ok(None),
        false => command(headers, body).await.map(Some),
    }
}

/// What a body says it is, without parameters and in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType {
    pub essence: String,
    /// As it was written.
    pub written: String,
}

impl MediaType {
    /// The `Content-Type`, if there is one; text in another encoding than UTF-8 is refused.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
        let written = value.to_str().map_err(|_| Problem::invalid("content-type: is not a media type"))?.trim();
        let mut parts = written.split(';').map(|part| part.trim().to_ascii_lowercase());
        let essence = parts.next().unwrap_or_default();
        if essence.split('/').filter(|part| !part.is_empty()).count() != 2 {
            return Err(Problem::invalid("content-type: is not a media type"));
        }
        let charset = parts.find_map(|part| part.strip_prefix("charset=").map(|charset| charset.replace('"', "")));
        let media = Self { essence, written: written.to_owned() };
        if media.is_json() && charset.is_some_and(|charset| charset != "utf-8" && charset != "us-ascii") {
            return Err(Problem::new(Kind::UnsupportedMediaType, "content-type: JSON is read in UTF-8 alone"));
        }
        Ok(Some(media))
    }

    pub fn is_json(&self) -> bool {
        matches!(self.essence.as_str(), "application/json" | "text/json") || self.essence.ends_with("+json")
    }

    pub fn unsupported(&self, known: &str) -> Problem {
        Problem::new(
            Kind::UnsupportedMediaType,
            format!("content-type: {} is not read here, but {known}", self.essence),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<Option<MediaType>, Problem> {
        MediaType::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]))
    }

    #[test]
    fn a_media_type_is_known_by_its_essence() {
        for json in ["application/json", "Application/JSON; charset=UTF-8", "application/cloudevents+json"] {
            assert!(of(json).unwrap().unwrap().is_json(), "{json}");
        }
        assert!(!of("text/plain; charset=latin1").unwrap().unwrap().is_json());
        assert_eq!(of("application/json; charset=utf-16").unwrap_err().kind, Kind::UnsupportedMediaType);
        for wrong in ["json", "", "/", "a/", "a/b/c"] {
            assert_eq!(of(wrong).unwrap_err().kind, Kind::Invalid, "{wrong}");
        }
    }
}
