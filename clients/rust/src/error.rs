use std::{borrow::Cow, fmt};

/// Something was refused or is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
}

impl Error {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }

    pub(crate) fn closed() -> Self {
        Self::new("closed", "the client was closed")
    }

    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new("unavailable", detail)
    }

    /// What programs go by: the broker's kinds (docs/errors.md), and `closed`, `timeout`, `protocol`,
    /// `version`, `goaway`; of a durable subscription `taken` and `removed`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What people read.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

impl std::error::Error for Error {}
