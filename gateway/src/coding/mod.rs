//! Content codings (RFC 9110, section 8.4): choosing one, writing bodies in it, reading them back.

mod accept;
mod compressed;
mod decoder;
mod decompressed;
mod encoder;
mod slots;

pub use accept::{Accepted, negotiate};
pub use compressed::{Compressed, at_once};
pub use decoder::{Decoder, Fault, RATIO};
pub use decompressed::{Decompressed, Outcome};
pub use encoder::Encoder;
pub use slots::Slots;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

/// A coding the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878), with windows of at most 8 MiB (RFC 9659).
    Zstd,
    Gzip,
}

/// How much a coding tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub coding: Coding,
    pub level: u32,
}

impl Coding {
    /// What `Content-Encoding` calls it.
    pub fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        })
    }

    /// The coding with this name, in either case.
    pub fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("br") {
            Some(Self::Br)
        } else {
            is("zstd").then_some(Self::Zstd)
        }
    }
}
