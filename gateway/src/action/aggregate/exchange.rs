//! A part that is asked for by HTTP: GET, or POST with a JSON body. Its answer must be 2xx and JSON, or nothing at all.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::IgnoredAny;
use tokio::time::timeout_at;
use upstream::{Body, BoxError, Client, Options};

use super::{
    super::{
        ConfigError,
        metadata::Forward,
        template::{Escape, Template},
    },
    body::Written,
    config::PartConfig,
    failure::Failure,
    text::{Scope, Text, Values, Variable},
};

/// The largest answer, in bytes: that of a gRPC message.
const LARGEST: usize = 4 << 20;

/// A compiled exchange.
pub struct Exchange {
    method: Method,
    /// As it is written.
    target: String,
    path: Text,
    /// Pairs in the order they are written.
    query: Vec<(String, Text)>,
    headers: Vec<(HeaderName, Text)>,
    body: Option<Written>,
}

/// What is asked; the same of two elements is asked once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    target: PathAndQuery,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Asked {
    /// How many bytes it has, about.
    pub fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        self.target.as_str().len() + headers + self.body.len()
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.target.as_str().as_bytes().to_vec();
        for (name, value) in &self.headers {
            bytes.push(b'\n');
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes.extend_from_slice(b"\n\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl Exchange {
    /// Of `target`, which is `path` with a query.
    pub fn new(
        key: &'static str,
        target: &str,
        config: &PartConfig,
        scope: &Scope<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if let Err(message) = check(target) {
            errors.push(ConfigError::new(key, message));
        }
        let mut text = |place: String, text: &str| {
            Text::parse(text, scope).map_err(|message| errors.push(ConfigError::new(place, message))).ok()
        };
        let path = text(key.to_owned(), path);
        let pairs =
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query = pairs.filter_map(|(name, value)| Some((name.to_owned(), text(key.to_owned(), value)?))).collect();
        let headers = config.headers.iter().filter_map(|(name, value)| {
            let value = text(format!("headers.{name}"), value)?;
            Some((name, value))
        });
        let headers: Vec<_> = headers.collect();
        let headers =
            headers.into_iter().filter_map(|(name, value)| match (Forward::new(&[name]), HeaderName::try_from(name)) {
                (Ok(_), Ok(header)) => Some((header, value)),
                (made, _) => {
                    let message = made.err().and_then(|mut errors| errors.pop()).map(|error| error.message);
                    errors.push(ConfigError::new(format!("headers.{name}"), message.unwrap_or_default()));
                    None
                }
            });
        let headers = headers.collect();
        let body = config.body.as_ref().and_then(|body| {
            Written::new(body, scope).map_err(|message| errors.push(ConfigError::new("body", message))).ok()
        });
        let method = if key == "post" { Method::POST } else { Method::GET };
        match path {
            Some(path) if errors.is_empty() => {
                Ok(Self { method, target: target.to_owned(), path, query, headers, body })
            }
            _ => Err(errors),
        }
    }

    /// Every text of it.
    pub fn texts(&self) -> Vec<&Text> {
        let mut texts = vec![&self.path];
        texts.extend(self.query.iter().map(|(_, text)| text));
        texts.extend(self.headers.iter().map(|(_, text)| text));
        self.body.iter().for_each(|body| body.texts(&mut texts));
        texts
    }

    /// `GET /authors/{parts.book.author}`
    pub fn written(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub fn is_safe(&self) -> bool {
        self.method.is_safe()
    }

    /// Whether a query parameter means something to it.
    pub fn takes(&self, parameter: &str) -> bool {
        let names = |variable: &Variable| matches!(variable, Variable::Query(name) if name == parameter);
        self.texts().into_iter().any(|text| text.variables().any(names))
    }

    pub fn asked(&self, values: &Values<'_>) -> Result<Asked, Failure> {
        let path = match self.path.path(values) {
            Some(path) => Some(path),
            None => expand(&self.path, Escape::Segment, values)?,
        };
        // A value can leave no segment, but be one that leads out of where it stands.
        let path = path.filter(|path| !path.split('/').any(|segment| matches!(segment, "." | "..")));
        let mut target = path.ok_or_else(|| Failure::no_input(None, "a value that can't stand in a path"))?;
        let mut separator = '?';
        for (name, text) in &self.query {
            if let Some(value) = expand(text, Escape::Segment, values)? {
                target.extend([separator]);
                target.push_str(name);
                target.push('=');
                target.push_str(&value);
                separator = '&';
            }
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, text) in &self.headers {
            if let Some(value) = expand(text, Escape::None, values)? {
                let value = HeaderValue::try_from(value).map_err(|error| Failure::no_input(None, error))?;
                headers.push((name.clone(), value));
            }
        }
        let mut body = Vec::new();
        if let Some(written) = &self.body {
            written.write(values, &mut body).map_err(|text| lacks(text, values))?;
        }
        let target = PathAndQuery::try_from(target).map_err(|error| Failure::no_input(None, error))?;
        Ok(Asked { target, headers, body: body.into() })
    }

    /// The answer, which is JSON.
    pub async fn ask(
        &self,
        client: &Client,
        metadata: HeaderMap,
        asked: Asked,
        options: Options,
    ) -> Result<Bytes, Failure> {
        let has_body = !asked.body.is_empty();
        let mut request = Request::new(Body::from(asked.body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = asked.target.into();
        *request.headers_mut() = metadata;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if has_body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.extend(asked.headers.into_iter().map(|(name, value)| (Some(name), value)));
        // Whatever the route is called by: what a POST does, nobody knows but the service.
        let safe = self.method.is_safe();
        let options = Options { idempotent: safe, safe, ..options };
        let response = client.send(request, options).await.map_err(|error| Failure::no_answer(&error))?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            return Err(Failure::of_response(head.status, &head.headers));
        }
        if let Some(coding) = head.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            return Err(Failure::malformed(format!("it is coded as {coding:?}, which was not asked for")));
        }
        let whole = gather(Limited::new(body, LARGEST));
        let whole = match options.deadline {
            Some(deadline) => timeout_at(deadline.into(), whole).await.map_err(|_| Failure::late())?,
            None => whole.await,
        };
        let json = whole.map_err(|error| {
            if error.is::<LengthLimitError>() { Failure::too_large() } else { Failure::malformed(error) }
        })?;
        validated(json)
    }
}

/// The JSON text alone; null where there is nothing.
fn validated(json: Bytes) -> Result<Bytes, Failure> {
    let text = std::str::from_utf8(&json).map_err(Failure::malformed)?.trim_ascii();
    if text.is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(Failure::malformed)?;
    Ok(json.slice_ref(text.as_bytes()))
}

async fn gather(mut body: Limited<Body>) -> Result<Bytes, BoxError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await.transpose()? {
        if let Ok(data) = frame.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// None where a query parameter isn't given.
fn expand(text: &Text, escape: Escape, values: &Values<'_>) -> Result<Option<String>, Failure> {
    match text.expand(escape, values) {
        Some(value) => Ok(Some(value.into_owned())),
        None if text.is_of_request() => Ok(None),
        None => Err(lacks(text, values)),
    }
}

fn lacks(text: &Text, values: &Values<'_>) -> Failure {
    Failure::no_input(text.lacks(values), "a value that isn't there")
}

/// Whether it is a path with a query once its variables are filled in.
fn check(target: &str) -> Result<(), String> {
    if !target.starts_with('/') || target.contains('#') {
        return Err("must be a path that starts with a slash".to_owned());
    }
    // What is wrong with its braces is told where its texts are read.
    let Ok(template) = Template::parse(target) else { return Ok(()) };
    let filled = template.expand(Escape::Segment, |_| Some("x".into())).unwrap_or_default();
    PathAndQuery::try_from(filled).map(|_| ()).map_err(|error| format!("is not a path with a query: {error}"))
}
