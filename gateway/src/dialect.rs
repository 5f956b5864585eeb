//! What a caller speaks, and so what a refusal is written in.

use http::{HeaderMap, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Anything that isn't gRPC, browsers that would like HTML included: one form of error is what programs can rely
    /// on.
    Http,
    Grpc,
    /// gRPC-Web: what would be trailers is the last frame of the body.
    GrpcWeb,
    /// The same in base64, for clients that can't take bytes.
    GrpcWebText,
}

impl Dialect {
    /// What the request's body is written in; where that is no gRPC, what its answer is wanted in.
    pub fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get(header::CONTENT_TYPE).map_or(Self::Http, |kind| Self::named(kind.as_bytes()));
        if sent == Self::Grpc {
            return sent;
        }
        let accepted = headers.get(header::ACCEPT).map_or(Self::Http, |accept| {
            let named = accept.as_bytes().split(|byte| *byte == b',').map(Self::named);
            named.into_iter().find(|named| *named != Self::Http).unwrap_or(Self::Http)
        });
        // A gRPC-Web client may send bytes and want text back.
        if matches!(accepted, Self::Http | Self::Grpc) && sent != Self::Http { sent } else { accepted }
    }

    pub fn is_grpc(self) -> bool {
        self != Self::Http
    }

    /// What a media type names; parameters don't matter.
    pub fn named(media_type: &[u8]) -> Self {
        const GRPC: &[u8] = b"application/grpc";
        let media_type = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let Some((start, rest)) = media_type.split_at_checked(GRPC.len()) else { return Self::Http };
        if !start.eq_ignore_ascii_case(GRPC) {
            return Self::Http;
        }
        // What follows the plus sign is how messages are written, which no refusal has.
        match rest.split(|byte| *byte == b'+').next().unwrap_or_default() {
            b"" => Self::Grpc,
            web if web.eq_ignore_ascii_case(b"-web") => Self::GrpcWeb,
            text if text.eq_ignore_ascii_case(b"-web-text") => Self::GrpcWebText,
            _ => Self::Http,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn spoken(content_type: Option<&'static str>, accept: Option<&'static str>) -> Dialect {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::CONTENT_TYPE, content_type), (header::ACCEPT, accept)] {
            value.map(|value| headers.insert(name, HeaderValue::from_static(value)));
        }
        Dialect::of(&headers)
    }

    #[test]
    fn the_content_type_says_it_and_else_accept() {
        for (content_type, accept, dialect) in [
            (None, None, Dialect::Http),
            (Some("application/json"), Some("text/html, */*"), Dialect::Http),
            (Some("application/grpc"), None, Dialect::Grpc),
            (Some("application/grpc+proto"), Some("*/*"), Dialect::Grpc),
            (Some("Application/gRPC;x=1"), None, Dialect::Grpc),
            (Some("application/grpc-web"), None, Dialect::GrpcWeb),
            (Some("application/grpc-web+proto"), Some("application/grpc-web-text"), Dialect::GrpcWebText),
            (Some("application/grpc-web-text+proto"), Some("*/*"), Dialect::GrpcWebText),
            (None, Some("text/html, application/grpc-web-text"), Dialect::GrpcWebText),
            (Some("application/grpcfoo"), None, Dialect::Http),
            (Some("application/grpc-webfoo"), None, Dialect::Http),
            (Some("application/grp"), None, Dialect::Http),
        ] {
            assert_eq!(spoken(content_type, accept), dialect, "{content_type:?} {accept:?}");
        }
    }
}
