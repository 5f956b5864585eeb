//! gRPC-Web for services that speak gRPC alone
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>): messages are framed alike; what gRPC says in trailers,
//! which a browser can't read, is the last frame of the body. As text, all of it is in base64, in pieces that may each be
//! padded.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use upstream::{Body, BoxError};

use crate::{dialect::Dialect, grpc_problem};

const GRPC: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What an answer without messages says in its head.
const TRAILERS: [HeaderName; 3] =
    [STATUS, HeaderName::from_static("grpc-message"), HeaderName::from_static("grpc-status-details-bin")];
/// What only says that it is gRPC-Web.
const MARK: HeaderName = HeaderName::from_static("x-grpc-web");

/// How the answer is to be written.
pub struct Answer {
    is_text: bool,
    /// How messages are written: `+proto`, or nothing.
    suffix: String,
}

/// Makes a call of gRPC of one in gRPC-Web. None for anything else, which is left as it is.
pub fn translate(request: &mut Request<Body>) -> Option<Answer> {
    let written = kind(request.headers())?;
    let is_text = match written.0 {
        Dialect::GrpcWeb => false,
        Dialect::GrpcWebText => true,
        Dialect::Http | Dialect::Grpc => return None,
    };
    let answer = Answer { is_text: Dialect::of(request.headers()) == Dialect::GrpcWebText, suffix: written.1 };
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(GRPC, &answer.suffix));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    for name in [MARK, header::ACCEPT, header::ACCEPT_ENCODING] {
        headers.remove(name);
    }
    if is_text {
        headers.remove(header::CONTENT_LENGTH);
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = decoded(body);
    }
    Some(answer)
}

impl Answer {
    /// Makes gRPC-Web of an answer in gRPC; what is none goes on as it is.
    pub fn translate(self, mut response: Response<Body>) -> Response<Body> {
        if !matches!(kind(response.headers()), Some((Dialect::Grpc, _))) {
            return response;
        }
        let is_text = self.is_text;
        let named = if is_text { "application/grpc-web-text" } else { "application/grpc-web" };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type(named, &self.suffix));
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRAILER);
        let mut early = HeaderMap::new();
        if headers.contains_key(STATUS) {
            early.extend(TRAILERS.into_iter().filter_map(|name| Some((name.clone(), headers.remove(name)?))));
        }
        response.map(|body| {
            let early = (!early.is_empty()).then_some(early);
            let frames = futures_util::stream::unfold((body, early), move |(mut body, mut early)| async move {
                let data = match body.frame().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => grpc_problem::frame(&frame.into_trailers().unwrap_or_default()),
                    },
                    Some(Err(error)) => return Some((Err(error), (body, None))),
                    None => grpc_problem::frame(&early.take()?),
                };
                let data = if is_text { STANDARD.encode(data).into() } else { data };
                Some((Ok(Frame::data(data)), (body, early)))
            });
            Body::new(StreamBody::new(frames))
        })
    }
}

/// Which form of gRPC a content type names, with its suffix.
fn kind(headers: &HeaderMap) -> Option<(Dialect, String)> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = content_type.split(';').next()?.trim();
    let suffix = media_type.find('+').map_or("", |plus| &media_type[plus..]);
    Some((Dialect::named(media_type.as_bytes()), suffix.to_owned()))
}

fn content_type(named: &str, suffix: &str) -> HeaderValue {
    // The suffix came in a header itself.
    HeaderValue::try_from(format!("{named}{suffix}")).unwrap_or(HeaderValue::from_static(GRPC))
}

/// A body out of base64, as it comes.
fn decoded(body: Body) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let frames = futures_util::stream::unfold(Some((body, BytesMut::new())), |state| async {
        let (mut body, mut unread) = state?;
        loop {
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Some((Err(error), None)),
                None if unread.is_empty() => return None,
                None => return Some((Err("the body ends within a group of base64".into()), None)),
            };
            let Ok(data) = frame.into_data() else { continue };
            unread.extend_from_slice(&data);
            match take(&mut unread) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some((Ok(Frame::data(bytes)), Some((body, unread)))),
                Err(error) => return Some((Err(error), None)),
            }
        }
    });
    Body::new(StreamBody::new(frames))
}

/// Decodes all groups of four that are there. A padded one ends a piece, and another piece may follow.
fn take(unread: &mut BytesMut) -> Result<Bytes, BoxError> {
    let mut groups = unread.split_to(unread.len() / 4 * 4);
    let mut bytes = Vec::with_capacity(groups.len() / 4 * 3);
    while !groups.is_empty() {
        let padded = groups.iter().position(|byte| *byte == b'=');
        let piece = groups.split_to(padded.map_or(groups.len(), |at| (at / 4 + 1) * 4));
        STANDARD.decode_vec(&piece, &mut bytes).map_err(|_| "the body is not base64")?;
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spoken(content_type: &'static str, accept: Option<&'static str>) -> Option<(String, bool)> {
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        accept.map(|accept| request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept)));
        let answer = translate(&mut request)?;
        Some((request.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned(), answer.is_text))
    }

    #[test]
    fn a_call_keeps_how_its_messages_are_written() {
        for (content_type, accept, call) in [
            ("application/grpc-web", None, Some(("application/grpc", false))),
            ("application/grpc-web+proto", None, Some(("application/grpc+proto", false))),
            ("application/grpc-web-text+proto", None, Some(("application/grpc+proto", true))),
            (
                "application/grpc-web+json; x=1",
                Some("application/grpc-web-text"),
                Some(("application/grpc+json", true)),
            ),
            ("application/grpc-web-text", Some("application/grpc-web"), Some(("application/grpc", false))),
            ("application/grpc+proto", None, None),
            ("application/json", Some("application/grpc-web"), None),
        ] {
            let expected = call.map(|(name, is_text): (&str, bool)| (name.to_owned(), is_text));
            assert_eq!(spoken(content_type, accept), expected, "{content_type} {accept:?}");
        }
    }

    async fn read(text: &str, size: usize) -> Result<Vec<u8>, String> {
        let pieces: Vec<_> = text.as_bytes().chunks(size.max(1)).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
        let body = decoded(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
        body.collect().await.map(|body| body.to_bytes().to_vec()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn base64_that_is_none_or_unfinished_is_refused() {
        for text in ["AAA", "AAAAA", "AA=A", "A===", "AA A", "AAAA=", "____"] {
            for size in 1..=text.len() {
                assert!(read(text, size).await.is_err(), "{text} by {size}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn pieces_of_base64_are_read_however_they_are_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6), size in 1_usize..12,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let text: String = pieces.iter().map(|piece| STANDARD.encode(piece)).collect();
            prop_assert_eq!(runtime.block_on(read(&text, size)), Ok(pieces.concat()));
        }
    }
}
