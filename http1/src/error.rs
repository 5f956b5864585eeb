//! What can be wrong with a message.

use http::HeaderName;

/// What is wrong with a message. Its text is for whoever sent it. After any of them nothing on the connection can be
/// trusted to begin where it seems to: it is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- lines
    #[error("a line does not end with CR LF")]
    BareLf,
    #[error("more than one empty line comes before the request line")]
    EmptyLine,

    // --- the first line
    #[error("the first line is not that of a request")]
    RequestLine,
    #[error("the method is not a token")]
    Method,
    /// Longer than any method there is: 501 (RFC 9112, section 3).
    #[error("the method is not known")]
    MethodTooLong,
    #[error("the request target is not well formed")]
    Target,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the first line is not that of a response")]
    StatusLine,
    #[error("the protocol is not HTTP/1.1")]
    Protocol,
    /// HTTP, but of another major version.
    #[error("the version of HTTP is not supported on this connection")]
    Version,

    // --- fields
    #[error("a header field has no name, or one that is not a token directly before its colon")]
    FieldName,
    #[error("a header field's value holds a control character")]
    FieldValue,
    /// A line that begins with whitespace (obs-fold).
    #[error("a header field is folded over more than one line")]
    Folded,
    /// None where the name is not known yet.
    #[error("{}", too_long(.0.as_ref()))]
    FieldTooLong(Option<HeaderName>),
    #[error("there are too many header fields")]
    TooManyFields,
    #[error("the header fields are too long together")]
    FieldsTooLong,

    // --- where the body ends
    #[error("Content-Length is not one number")]
    ContentLength,
    #[error("Content-Length and Transfer-Encoding contradict each other")]
    LengthAndCoding,
    #[error("Transfer-Encoding does not end with chunked, once")]
    Coding,
    /// Well formed, but more than `chunked`: 501 (RFC 9112, section 6.1).
    #[error("no transfer coding but chunked is understood")]
    CodingNotKnown,
    #[error("HTTP/1.0 knows no Transfer-Encoding")]
    CodingOnHttp10,

    // --- chunks
    #[error("a chunk's size is not a hexadecimal number in a line of its own")]
    ChunkSize,
    #[error("a chunk's extensions are too long or hold a control character")]
    ChunkExtension,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
}

fn too_long(name: Option<&HeaderName>) -> String {
    name.map_or_else(|| "a header field is too long".to_owned(), |name| format!("the header field {name} is too long"))
}
