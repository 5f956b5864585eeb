//! Serves what the gateway says of itself: the OpenAPI document, and a page to read it and try it out.
//!
//! The page is Scalar's API reference (docs/adr/0005), in the program itself: nothing is fetched from anywhere else, and
//! the page's policy would not let it. Its assets lie below a folder named after their contents, so that they may be kept
//! for ever.

use std::{
    io::Read as _,
    sync::{Arc, LazyLock, OnceLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use upstream::Body;

use super::variable;
use crate::{
    auth::keys::digest,
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// Scripts and requests of our own origin alone. The reference sets styles from its script, hence `unsafe-inline` there.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
                      font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const HTML: &str = include_str!("../../page/docs.html");
const CSS: &str = include_str!("../../page/docs.css");
const JS: &str = include_str!("../../page/docs.js");
/// Coded by gzip when the gateway was built: it is large, and nearly every browser takes it so.
const REFERENCE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scalar.js.gz"));

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let digests = [REFERENCE, HTML.as_bytes(), CSS.as_bytes(), JS.as_bytes()].map(digest).concat();
    hex(&digest(&digests)[..8])
});

/// The document, once the snapshot that it is of is made.
pub type Pending = Arc<OnceLock<Written>>;

/// A text with the tag of its contents.
#[derive(Clone, Debug)]
pub struct Written {
    text: Bytes,
    etag: HeaderValue,
}

/// One of the things that are served.
pub enum Document {
    OpenApi(Pending),
    Page(Written),
    /// By the variables `version` and `name`.
    Asset,
}

impl Written {
    pub fn new(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let etag = HeaderValue::try_from(format!("\"{}\"", hex(&digest(&text)[..8])));
        Self { text, etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"0\"")) }
    }
}

impl Document {
    /// The page at `docs` that reads the document at `openapi`.
    pub fn page(title: &str, docs: &str, openapi: &str) -> Self {
        let assets = format!("{}/assets/{}", docs.trim_end_matches('/'), *VERSION);
        let html = HTML.replace("{{assets}}", &escape(&assets));
        let html = html.replace("{{openapi}}", &escape(openapi)).replace("{{title}}", &escape(title));
        Self::Page(Written::new(html))
    }

    /// # Errors
    /// 404 for an asset there is not.
    pub fn call(&self, request: &Parts, context: &RequestContext) -> Result<Response<Body>, Error> {
        let wanted = &request.headers;
        match self {
            Self::OpenApi(pending) => {
                let written = pending.get().ok_or_else(|| Error::new(ErrorKind::Unavailable, "it is not made yet"))?;
                Ok(whole(written, "application/json", wanted))
            }
            Self::Page(page) => {
                let mut response = whole(page, "text/html; charset=utf-8", wanted);
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
                Ok(response)
            }
            Self::Asset => asset(wanted, context),
        }
    }
}

fn whole(written: &Written, media_type: &'static str, wanted: &HeaderMap) -> Response<Body> {
    let known = wanted.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/").as_bytes());
    let is_known = tags.any(|tag| tag == b"*" || tag == written.etag.as_bytes());
    let mut response = match is_known {
        true => Response::new(Body::empty()),
        false => Response::new(Body::from(written.text.clone())),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, written.etag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    response
}

fn asset(wanted: &HeaderMap, context: &RequestContext) -> Result<Response<Body>, Error> {
    let nothing = || Error::new(ErrorKind::NotFound, "the page has another version now");
    let name = variable(context, "name").filter(|_| variable(context, "version") == Some(VERSION.as_str()));
    let mut response = match name.ok_or_else(nothing)? {
        "docs.css" => plain(CSS, "text/css; charset=utf-8"),
        "docs.js" => plain(JS, "text/javascript; charset=utf-8"),
        "scalar.js" => reference(wanted)?,
        _ => return Err(nothing()),
    };
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    Ok(response)
}

fn plain(text: &'static str, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn reference(wanted: &HeaderMap) -> Result<Response<Body>, Error> {
    let accepted = wanted.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let takes_gzip = accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        is_gzip && !refused
    });
    let body = if takes_gzip { Bytes::from_static(REFERENCE) } else { decoded()? };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if takes_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// For clients that take no gzip; rare enough to be done each time.
fn decoded() -> Result<Bytes, Error> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(REFERENCE)
        .read_to_end(&mut text)
        .map_err(|error| Error::new(ErrorKind::Internal, "the page can't be read").cause(error))?;
    Ok(text.into())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_says_stays_text() {
        let Document::Page(page) = Document::page("<b>\"A & B\"</b>", "/docs/", "/openapi.json") else { panic!() };
        let html = String::from_utf8(page.text.to_vec()).unwrap();
        assert!(html.contains("&lt;b&gt;&quot;A &amp; B&quot;&lt;/b&gt;"));
        assert!(html.contains(&format!("/docs/assets/{}/docs.js", *VERSION)) && !html.contains("{{"), "{html}");
    }

    #[test]
    fn what_is_embedded_is_the_reference() {
        assert!(decoded().unwrap().windows(18).any(|bytes| bytes == b"createApiReference"));
    }
}
