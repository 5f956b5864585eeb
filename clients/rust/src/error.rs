use std::{borrow::Cow, fmt, time::Duration};

/// Something was refused or is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl Error {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), detail: detail.into(), retry_after: None }
    }

    pub(crate) fn closed() -> Self {
        Self::new("closed", "the client was closed")
    }

    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new("unavailable", detail)
    }

    pub(crate) fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// Whether it may be otherwise in a while: what the broker says when to try again, and that the bus is away.
    pub(crate) fn passes(&self) -> bool {
        self.retry_after.is_some() || self.code == "unavailable"
    }

    /// What programs go by: the broker's kinds (docs/errors.md), and `closed`, `timeout`, `protocol`,
    /// `version`, `goaway`, `tls`; of a durable subscription `taken` and `removed`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What people read.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// When the server would be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

impl std::error::Error for Error {}
