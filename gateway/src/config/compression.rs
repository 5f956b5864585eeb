//! `compression:` which answers are compressed, and how.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Size;
use crate::coding::{Coding, Level};

/// `compression: { minimum: 2KiB, algorithms: [gzip] }`; nothing has to stand here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compression {
    /// Smaller answers go out as they are; 1 KiB.
    pub minimum: Size,
    /// Where a client takes several as gladly, the first of them; `[br, zstd, gzip]`.
    pub algorithms: Vec<Coding>,
    pub levels: Levels,
    /// Media types, `text/*` and `*+json` among them; by default text, JSON, XML, scripts and the like.
    pub types: Vec<String>,
}

/// How much each coding tries: the more, the smaller the answer and the more processor time it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    /// 1 to 11; 4.
    pub br: u32,
    /// 1 to 19; 3.
    pub zstd: u32,
    /// 1 to 9; 5.
    pub gzip: u32,
}

impl Levels {
    pub fn of(&self, coding: Coding) -> Level {
        let level = match coding {
            Coding::Br => self.br,
            Coding::Zstd => self.zstd,
            Coding::Gzip => self.gzip,
        };
        Level { coding, level }
    }

    /// Name, level and the highest there is.
    pub fn each(&self) -> [(&'static str, u32, u32); 3] {
        [("br", self.br, 11), ("zstd", self.zstd, 19), ("gzip", self.gzip, 9)]
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self { br: 4, zstd: 3, gzip: 5 }
    }
}

impl Default for Compression {
    fn default() -> Self {
        let types = [
            "text/*",
            "*+json",
            "*+xml",
            "application/json",
            "application/javascript",
            "application/wasm",
            "application/x-ndjson",
            "application/xml",
            "application/yaml",
        ];
        Self {
            minimum: Size::kib(1),
            algorithms: vec![Coding::Br, Coding::Zstd, Coding::Gzip],
            levels: Levels::default(),
            types: types.map(str::to_owned).to_vec(),
        }
    }
}
