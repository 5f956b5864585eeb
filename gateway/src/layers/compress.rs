//! Codes answers in what the client takes: br, zstd or gzip. An answer that is small, is coded already, or whose form
//! gains nothing by it goes out as it came, and costs next to nothing.
//!
//! What must not be changed is not: event streams, gRPC, ranges, `no-transform`, what carries a digest of its bytes,
//! and the answer that opens a session. Bodies that hold a secret beside what a caller chose can give it away by their
//! length (BREACH): such routes turn compression off.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use pin_project_lite::pin_project;
use upstream::Body;

use super::{Checked, Request, Response, refuse};
use crate::{
    auth::session,
    coding::{Accepted, Compressed, Encoder, Level, Slots, at_once, negotiate},
    config::{self, ConfigError, Switch},
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// The section `compression:`, compiled.
#[derive(Clone, Debug)]
pub struct Config {
    minimum: u64,
    algorithms: Vec<Level>,
    types: Vec<Type>,
}

/// A pattern of media types.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    Exact(String),
    /// `text/*`: with the slash.
    Under(String),
    /// `*+json`: with the plus sign.
    Suffix(String),
}

impl Config {
    /// None: nothing is compressed.
    ///
    /// # Errors
    /// No algorithm or one twice, levels there are not, types that are none.
    pub fn new(written: &Switch<config::Compression>) -> Result<Option<Self>, Vec<ConfigError>> {
        let Some(written) = written.on() else { return Ok(None) };
        let mut errors = Vec::new();
        let mut fault = |path: String, message: String| errors.push(ConfigError::new(path, message));
        if written.algorithms.is_empty() {
            fault("compression.algorithms".into(), "names none: `compression: false` turns it off".into());
        }
        let mut algorithms: Vec<Level> = Vec::new();
        for (at, coding) in written.algorithms.iter().enumerate() {
            if algorithms.iter().any(|other| other.coding == *coding) {
                fault(format!("compression.algorithms[{at}]"), "is there already".into());
            }
            algorithms.push(written.levels.of(*coding));
        }
        for (name, level, most) in written.levels.each() {
            if !(1..=most).contains(&level) {
                fault(format!("compression.levels.{name}"), format!("must be within 1 to {most}"));
            }
        }
        let mut types = Vec::new();
        for (at, text) in written.types.iter().enumerate() {
            match Type::parse(text) {
                Some(pattern) => types.push(pattern),
                None => fault(
                    format!("compression.types[{at}]"),
                    format!("`{text}` is no media type such as text/html, text/* or *+json"),
                ),
            }
        }
        let config = Self { minimum: written.minimum.0, algorithms, types };
        if errors.is_empty() { Ok(Some(config)) } else { Err(errors) }
    }

    /// Whether answers of a media type are worth it.
    fn covers(&self, content_type: &HeaderValue) -> bool {
        let media_type = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|pattern| pattern.covers(media_type))
    }

    fn apply(&self, mut response: Response, accepted: Accepted, head: bool, slots: &Slots) -> Response {
        // Most answers are small, and only looked at thus far.
        let headers = response.headers();
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.or_else(|| response.body().size_hint().exact());
        let forced = matches!(accepted, Accepted::Coded { plain: false, .. });
        if length.is_some_and(|length| length == 0 || length < self.minimum && !forced) {
            return response;
        }
        if !has_whole_body(response.status()) || !may_change(headers) {
            return response;
        }
        let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return response };
        if is_as_it_must_be(content_type) || !(forced || self.covers(content_type)) {
            return response;
        }
        // A cache must know of it also where this client takes none.
        vary(response.headers_mut());
        let Accepted::Coded { level, .. } = accepted else { return response };
        if head {
            coded(response.headers_mut(), level);
            return response;
        }
        if let Some(plain) = response.body().bytes()
            && let Some(bytes) = at_once(plain, level)
        {
            if bytes.len() < plain.len() || forced {
                coded(response.headers_mut(), level);
                *response.body_mut() = bytes.into();
            }
            return response;
        }
        let Some(slot) = slots.take() else { return response };
        match Encoder::new(level) {
            Ok(encoder) => {
                coded(response.headers_mut(), level);
                response.map(|body| Body::new(Compressed::new(body, encoder, slot)))
            }
            Err(error) => {
                tracing::warn!(%error, "an answer goes out as it is: it could not be compressed");
                response
            }
        }
    }
}

impl Type {
    fn parse(text: &str) -> Option<Self> {
        let good = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        if let Some(suffix) = text.strip_prefix("*+") {
            return good(suffix).then(|| Self::Suffix(format!("+{suffix}")));
        }
        let (main, sub) = text.split_once('/')?;
        match sub {
            "*" if good(main) => Some(Self::Under(format!("{main}/"))),
            _ => (good(main) && good(sub)).then(|| Self::Exact(text.to_owned())),
        }
    }

    fn covers(&self, media_type: &[u8]) -> bool {
        let (part, pattern) = match self {
            Self::Exact(pattern) => (Some(media_type), pattern),
            Self::Under(pattern) => (media_type.get(..pattern.len()), pattern),
            Self::Suffix(pattern) => {
                (media_type.len().checked_sub(pattern.len()).and_then(|start| media_type.get(start..)), pattern)
            }
        };
        part.is_some_and(|part| part.eq_ignore_ascii_case(pattern.as_bytes()))
    }
}

fn has_whole_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
}

/// Whether nothing about the answer depends on its very bytes.
fn may_change(headers: &HeaderMap) -> bool {
    const FIXED: [&str; 6] =
        ["content-encoding", "content-range", "content-digest", "repr-digest", "digest", "content-md5"];
    let no_transform = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    };
    let opens_session = |value: &HeaderValue| {
        value.as_bytes().strip_prefix(session::COOKIE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    !FIXED.iter().any(|name| headers.contains_key(*name))
        && !headers.get_all(header::CACHE_CONTROL).iter().any(no_transform)
        && !headers.get_all(header::SET_COOKIE).iter().any(opens_session)
}

/// Streams whose pieces mean something one by one.
fn is_as_it_must_be(content_type: &HeaderValue) -> bool {
    ["text/event-stream", "application/grpc", "multipart/"].iter().any(|start| {
        content_type.as_bytes().get(..start.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(start.as_bytes()))
    })
}

fn vary(headers: &mut HeaderMap) {
    let named = headers.get_all(header::VARY).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let covered = named
        .map(<[u8]>::trim_ascii)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(header::ACCEPT_ENCODING.as_str().as_bytes()));
    if !covered {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// The header of an answer that is coded from here on.
fn coded(headers: &mut HeaderMap, level: Level) {
    headers.insert(header::CONTENT_ENCODING, level.coding.value());
    headers.remove(header::CONTENT_LENGTH);
    // Ranges would be of the bytes as they were.
    headers.remove(header::ACCEPT_RANGES);
    if let Some(etag) = headers.get(header::ETAG)
        && etag.as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat())
    {
        // It named those bytes; it still names this version.
        headers.insert(header::ETAG, weak);
    }
}

/// Makes the tags of `If-Match` strong again that `coded` made weak, or no browser could ever change what it has read.
/// Tags that were weak at their origin match nothing there either way (RFC 9110, section 13.1.1).
fn strengthen(headers: &mut HeaderMap) {
    let Some(value) = headers.get(header::IF_MATCH) else { return };
    if !value.as_bytes().windows(3).any(|bytes| bytes == b"W/\"") {
        return;
    }
    // What stands within quotes is the tag itself, commas and all.
    let (mut strong, mut quoted) = (Vec::with_capacity(value.len()), false);
    for byte in value.as_bytes() {
        if *byte == b'"' {
            if !quoted && strong.ends_with(b"W/") {
                strong.truncate(strong.len() - 2);
            }
            quoted = !quoted;
        }
        strong.push(*byte);
    }
    if let Ok(strong) = HeaderValue::from_bytes(&strong) {
        headers.insert(header::IF_MATCH, strong);
    }
}

/// A core's own: each answer counts a reference to it. None: nothing is compressed.
#[derive(Clone)]
pub struct Layer(pub Option<Arc<(Config, Slots)>>);

#[derive(Clone)]
pub struct Compress<S> {
    inner: S,
    layer: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Compress<S>;
    fn layer(&self, inner: S) -> Compress<S> {
        Compress { inner, layer: self.clone() }
    }
}

impl<S> tower::Service<Request> for Compress<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Compressing<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let wish = match self.layer.wish(&mut request) {
            Ok(wish) => wish,
            Err(error) => return refuse(error),
        };
        Checked::Right(Compressing { inner: self.inner.call(request), wish })
    }
}

impl Layer {
    /// What is to become of the answer. None: nothing.
    fn wish(&self, request: &mut Request) -> Result<Option<Wish>, Error> {
        let Some(core) = &self.0 else { return Ok(None) };
        if !RequestContext::of(request)?.route()?.policy.compression {
            return Ok(None);
        }
        let accepted = negotiate(request.headers(), &core.0.algorithms);
        if accepted == Accepted::Nothing {
            let detail = "the answer can't be had in any coding that `Accept-Encoding` takes";
            return Err(Error::new(ErrorKind::NotAcceptable, detail));
        }
        if !request.method().is_safe() {
            strengthen(request.headers_mut());
        }
        let head = request.method() == Method::HEAD;
        Ok(Some(Wish { core: Arc::clone(core), accepted, head }))
    }
}

struct Wish {
    core: Arc<(Config, Slots)>,
    accepted: Accepted,
    head: bool,
}

pin_project! {
    pub struct Compressing<F> {
        #[pin]
        inner: F,
        wish: Option<Wish>,
    }
}

impl<F> Future for Compressing<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context))?;
        Poll::Ready(Ok(match this.wish.take() {
            Some(Wish { core, accepted, head }) => core.0.apply(response, accepted, head, &core.1),
            None => response,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Option<Config>, Vec<ConfigError>> {
        Config::new(&serde_saphyr::from_str(text).unwrap())
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        assert!(compile("false").unwrap().is_none());
        assert_eq!(compile("true").unwrap().unwrap().algorithms.len(), 3);
        let text = "{algorithms: [br, br], levels: {br: 12, gzip: 0}, types: [text, 'a b/c', 'text/*', '*+json', a/b]}";
        let errors = compile(text).unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.trim_start_matches("compression.")).collect();
        assert_eq!(paths, ["algorithms[1]", "levels.br", "levels.gzip", "types[0]", "types[1]"]);
        assert!(compile("{algorithms: []}").is_err());
    }

    #[test]
    fn text_is_worth_it_and_what_is_compressed_already_is_not() {
        let config = compile("{}").unwrap().unwrap();
        let covers = |text: &'static str| config.covers(&HeaderValue::from_static(text));
        for good in [
            "text/html; charset=utf-8",
            "TEXT/plain",
            "application/json",
            "application/problem+json",
            "application/x-ndjson",
            "image/svg+xml",
            "application/wasm",
        ] {
            assert!(covers(good), "{good}");
        }
        for bad in ["image/png", "video/mp4", "application/zip", "application/octet-stream", "", "json", "+json x"] {
            assert!(!covers(bad), "{bad}");
        }
    }

    #[test]
    fn a_tag_that_was_made_weak_is_strong_again_on_its_way_back() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static("\"7\""));
        coded(&mut headers, Level { coding: crate::coding::Coding::Br, level: 4 });
        assert_eq!(headers[header::ETAG], "W/\"7\"");
        for (sent, passed) in [
            ("W/\"7\"", "\"7\""),
            ("\"7\"", "\"7\""),
            ("*", "*"),
            ("W/\"a\", \"b\"", "\"a\", \"b\""),
            ("W/\"a,b\",W/\"c\"", "\"a,b\",\"c\""),
            ("W/\"a\", \"bW/\"", "\"a\", \"bW/\""),
        ] {
            headers.insert(header::IF_MATCH, HeaderValue::from_static(sent));
            strengthen(&mut headers);
            assert_eq!(headers[header::IF_MATCH], passed);
        }
    }

    #[test]
    fn vary_is_merged() {
        for (given, merged) in [
            (&[][..], &["accept-encoding"][..]),
            (&["origin"], &["origin", "accept-encoding"]),
            (&["Origin, Accept-Encoding"], &["Origin, Accept-Encoding"]),
            (&["*"], &["*"]),
        ] {
            let fields = given.iter().map(|value| (header::VARY, HeaderValue::from_static(value)));
            let mut headers: HeaderMap = fields.collect();
            vary(&mut headers);
            assert_eq!(headers.get_all(header::VARY).iter().collect::<Vec<_>>(), merged, "{given:?}");
        }
    }
}
