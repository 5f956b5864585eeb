//! Taking a request's JSON body into memory, within bounds of size and time.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use upstream::Body;

use crate::{
    config::Size,
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// The largest body where no route says how large it may be, in bytes.
const LARGEST: u64 = 1 << 20;

/// The whole body, not empty only if it is `application/json`.
///
/// # Errors
/// 413 beyond what its route lets it have, 415 for another type or a content coding, 400 if it breaks off or isn't there by
/// the deadline.
pub async fn json(headers: &HeaderMap, body: Body, context: &RequestContext) -> Result<Bytes, Error> {
    let body = collect(body, context).await?;
    if !body.is_empty() && !is_json(headers) {
        return Err(Error::new(ErrorKind::UnsupportedMediaType, "the body must be application/json"));
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        // RFC 9110, section 8.4: what can't be decoded must not be taken for what it is not.
        return Err(Error::new(ErrorKind::UnsupportedMediaType, "the body must not have a content coding")
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    Ok(body)
}

/// The whole body, whatever it is.
///
/// # Errors
/// 413 beyond what its route lets it have, 400 if it breaks off or isn't there by the deadline.
pub async fn collect(body: Body, context: &RequestContext) -> Result<Bytes, Error> {
    if http_body::Body::is_end_stream(&body) {
        return Ok(Bytes::new());
    }
    let limit = context.route.as_ref().map_or(LARGEST, |route| route.policy.whole_body);
    let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    let collected = tokio::time::timeout_at(context.deadline.into(), limited.collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Error::new(ErrorKind::BodyTooLarge, format!("the body is larger than {}", Size(limit))))
        }
        Ok(Err(error)) => Err(Error::new(ErrorKind::BadRequest, "the request body could not be read").cause(error)),
        Err(_) => Err(Error::new(ErrorKind::BadRequest, "the request body did not arrive in time")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}
