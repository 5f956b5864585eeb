//! Taking a request's JSON body into memory, within bounds of size and time.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use upstream::{Body, BoxError};

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
    check_coding(headers)?;
    Ok(body)
}

/// # Errors
/// 415 for a body in a content coding.
pub fn check_coding(headers: &HeaderMap) -> Result<(), Error> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        // RFC 9110, section 8.4: what can't be decoded must not be taken for what it is not.
        return Err(Error::new(ErrorKind::UnsupportedMediaType, "the body must not have a content coding")
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    Ok(())
}

/// The most bytes that are read whole for a request.
pub fn whole(context: &RequestContext) -> u64 {
    context.route.as_ref().map_or(LARGEST, |route| route.policy.whole_body)
}

/// The whole body, whatever it is.
///
/// # Errors
/// 413 beyond what its route lets it have, 400 if it breaks off or isn't there by the deadline.
pub async fn collect(body: Body, context: &RequestContext) -> Result<Bytes, Error> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = whole(context);
    let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    let collected = tokio::time::timeout_at(context.deadline.into(), gather(limited));
    match collected.await {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Error::new(ErrorKind::BodyTooLarge, format!("the body is larger than {}", Size(limit))))
        }
        Ok(Err(error)) => Err(Error::new(ErrorKind::BadRequest, "the request body could not be read").cause(error)),
        Err(_) => Err(Error::new(ErrorKind::BadRequest, "the request body did not arrive in time")),
    }
}

/// Into one buffer: who sends a body a byte at a time must not have each kept by itself, at many times its size.
async fn gather(mut body: Limited<Body>) -> Result<Bytes, BoxError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await.transpose()? {
        if let Ok(data) = frame.into_data() {
            if whole.is_empty() && body.is_end_stream() {
                return Ok(data);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

/// What the body is, without parameters.
pub fn media_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_body_is_whole_however_it_was_cut() {
        for (pieces, within) in [(vec!["abc"], true), (vec!["a", "", "b", "c"], true), (vec!["ab", "cd"], false)] {
            let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
            let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
            let whole = gather(Limited::new(body, 3)).await;
            assert_eq!(whole.ok().as_deref(), within.then_some(&b"abc"[..]));
        }
    }
}
