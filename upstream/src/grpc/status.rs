//! How a call ended: read from trailers, from a response that isn't gRPC's, or made here where none came.

use std::fmt;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use percent_encoding::percent_decode;

use crate::{BoxError, Error, ErrorKind};

pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Writers differ in whether they pad; both must be read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The codes this crate gives itself (<https://grpc.io/docs/guides/status-codes/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// The name of a code as it stands in a header.
pub(crate) fn code_name(code: &str) -> &'static str {
    telemetry::code_name(code.parse().unwrap_or(Code::Unknown as i32))
}

/// A gRPC status (<https://grpc.io/docs/guides/status-codes/>), with its details still encoded (`grpc-status-details-bin`, a google.rpc.Status).
#[derive(Clone, Debug)]
pub struct Status {
    pub code: i32,
    pub message: String,
    pub details: Bytes,
    pub metadata: HeaderMap,
    /// Set where the status was made here because no answer came.
    pub local: Option<ErrorKind>,
}

impl Status {
    /// Made here, from an answer that can't be used.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
            details: Bytes::new(),
            metadata: HeaderMap::new(),
            local: None,
        }
    }

    /// Made here, because no answer came.
    pub(super) fn local(kind: ErrorKind, message: impl Into<String>) -> Self {
        let code = match kind {
            ErrorKind::Unreachable | ErrorKind::Full | ErrorKind::Open { .. } | ErrorKind::Broken => Code::Unavailable,
            ErrorKind::Deadline => Code::DeadlineExceeded,
            ErrorKind::RequestBody => Code::Cancelled,
        };
        Self { local: Some(kind), ..Self::new(code, message) }
    }

    pub(super) fn deadline() -> Self {
        Self::local(ErrorKind::Deadline, "no answer within the deadline")
    }

    /// The status in trailers, or in the head of a response that has nothing else. None where there is none.
    pub(super) fn read(mut metadata: HeaderMap) -> Option<Self> {
        let code = metadata.remove(STATUS)?;
        // A code that is no number is told apart from all others by UNKNOWN, as the specification has it.
        let code = code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(Code::Unknown as i32);
        let message = metadata.remove(MESSAGE);
        let message =
            message.map(|text| percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned()).unwrap_or_default();
        let details = metadata.remove(DETAILS).and_then(|encoded| BASE64.decode(encoded.as_bytes()).ok());
        Some(Self { code, message, details: details.unwrap_or_default().into(), metadata, local: None })
    }

    /// What a response says that isn't gRPC's: likely a proxy's in between.
    /// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
    pub(super) fn from_http(status: StatusCode, metadata: HeaderMap) -> Self {
        let code = match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Self { metadata, ..Self::new(code, format!("the service answered HTTP {status} without a gRPC status")) }
    }

    /// The stream broke off.
    pub(super) fn from_body(error: &BoxError) -> Self {
        let reset = error.downcast_ref::<h2::Error>().filter(|error| error.is_reset()).and_then(h2::Error::reason);
        let code = match reset {
            Some(h2::Reason::CANCEL) => Code::Cancelled,
            Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
            Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
            Some(h2::Reason::REFUSED_STREAM) | None => Code::Unavailable,
            Some(_) => Code::Internal,
        };
        Self { local: Some(ErrorKind::Broken), ..Self::new(code, format!("the answer broke off: {error}")) }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code == Code::Ok as i32
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::local(error.kind, error.detail)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC status {}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Option<Status> {
        Status::read(headers.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect())
    }

    #[test]
    fn message_and_details_are_decoded() {
        for details in ["CAUSBG5vcGU=", "CAUSBG5vcGU"] {
            let status = read(&[
                ("grpc-status", "5"),
                ("grpc-message", "no%20caf%C3%A9"),
                ("grpc-status-details-bin", details),
                ("x-more", "1"),
            ])
            .unwrap();
            assert_eq!((status.code, status.message.as_str()), (5, "no café"));
            assert_eq!(&status.details[..], b"\x08\x05\x12\x04nope");
            assert_eq!(status.metadata.len(), 1);
        }
    }

    #[test]
    fn a_code_that_is_no_number_is_unknown() {
        assert_eq!(read(&[("grpc-status", "five")]).unwrap().code, 2);
        assert!(read(&[("x-more", "1")]).is_none());
    }

    #[test]
    fn an_http_error_maps_as_the_specification_has_it() {
        let code = |status: u16| Status::from_http(StatusCode::from_u16(status).unwrap(), HeaderMap::new()).code;
        assert_eq!([400, 401, 403, 404, 429, 502, 503, 504, 500, 200].map(code), [13, 16, 7, 12, 14, 14, 14, 14, 2, 2]);
    }
}
