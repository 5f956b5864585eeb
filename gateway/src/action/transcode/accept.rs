//! Which form of the answer the client takes (RFC 9110, section 12.5.1).

use http::{HeaderMap, HeaderValue, header};

use crate::error::{Error, ErrorKind};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One document: an object, or an array of all messages of a stream.
    Json,
    /// A line a message.
    NdJson,
    /// A server-sent event a message.
    Sse,
}

impl Format {
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        })
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application", "json"),
            Self::NdJson => ("application", "x-ndjson"),
            Self::Sse => ("text", "event-stream"),
        }
    }

    /// How much a client wants this form: the quality of the most specific range that covers it.
    fn quality(self, accept: &str) -> f32 {
        let (mine, sub) = self.media_type();
        let mut best = (0, 0.0);
        for range in accept.split(',') {
            let mut parameters = range.split(';').map(str::trim);
            let (of, subtype) = parameters.next().and_then(|range| range.split_once('/')).unwrap_or_default();
            let specificity = match (of, subtype) {
                _ if of.eq_ignore_ascii_case(mine) && subtype.eq_ignore_ascii_case(sub) => 3,
                (of, "*") if of.eq_ignore_ascii_case(mine) => 2,
                ("*", "*") => 1,
                _ => continue,
            };
            let quality =
                parameters.find_map(|parameter| parameter.strip_prefix("q=").or(parameter.strip_prefix("Q=")));
            let quality = quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0));
            if specificity > best.0 {
                best = (specificity, quality);
            }
        }
        best.1
    }
}

/// The form the client wants most of those there are; the first of them where it has no preference.
///
/// # Errors
/// 406 if it takes none.
pub fn negotiate(headers: &HeaderMap, formats: &[Format]) -> Result<Format, Error> {
    let mut accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accept.peek().is_none() {
        return formats.first().copied().ok_or_else(not_acceptable);
    }
    let accept = accept.collect::<Vec<_>>().join(",");
    let mut best = None;
    for format in formats {
        let quality = format.quality(&accept);
        if quality > 0.0 && best.is_none_or(|(_, best)| quality > best) {
            best = Some((*format, quality));
        }
    }
    best.map(|(format, _)| format).ok_or_else(not_acceptable)
}

fn not_acceptable() -> Error {
    Error::new(ErrorKind::NotAcceptable, "the answer has no form that `Accept` takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(accept: &str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        negotiate(&headers, &[Format::Json, Format::NdJson, Format::Sse]).ok()
    }

    #[test]
    fn the_most_wanted_form_is_taken() {
        assert_eq!(negotiate(&HeaderMap::new(), &[Format::Json]).ok(), Some(Format::Json));
        assert_eq!(wants("text/event-stream"), Some(Format::Sse));
        assert_eq!(wants("text/html, */*;q=0.1"), Some(Format::Json));
        assert_eq!(wants("application/json;q=0.5, application/x-ndjson"), Some(Format::NdJson));
        assert_eq!(wants("application/*, application/json;q=0"), Some(Format::NdJson));
        assert_eq!(wants("text/html"), None);
        assert_eq!(wants("application/json;q=0"), None);
        assert_eq!(wants(""), None);
    }
}
