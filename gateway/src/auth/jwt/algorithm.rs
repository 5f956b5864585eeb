//! The signatures that are believed. What is symmetric, or none at all, has no name here and so can't be configured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a token is signed (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

const ALL: [(&str, Algorithm, jsonwebtoken::Algorithm); 9] = [
    ("RS256", Algorithm::RS256, jsonwebtoken::Algorithm::RS256),
    ("RS384", Algorithm::RS384, jsonwebtoken::Algorithm::RS384),
    ("RS512", Algorithm::RS512, jsonwebtoken::Algorithm::RS512),
    ("PS256", Algorithm::PS256, jsonwebtoken::Algorithm::PS256),
    ("PS384", Algorithm::PS384, jsonwebtoken::Algorithm::PS384),
    ("PS512", Algorithm::PS512, jsonwebtoken::Algorithm::PS512),
    ("ES256", Algorithm::ES256, jsonwebtoken::Algorithm::ES256),
    ("ES384", Algorithm::ES384, jsonwebtoken::Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA, jsonwebtoken::Algorithm::EdDSA),
];

impl Algorithm {
    /// All of them: the default of the allow-list.
    pub fn all() -> Vec<Self> {
        ALL.iter().map(|(_, own, _)| *own).collect()
    }

    /// Of what a token's header says; names are told apart by their case.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(own, ..)| *own == name).map(|(_, own, _)| *own)
    }

    pub fn name(self) -> &'static str {
        ALL.iter().find(|(_, own, _)| *own == self).map_or("", |(name, ..)| name)
    }

    /// As the library that verifies calls it.
    pub(super) fn verified_as(self) -> Option<jsonwebtoken::Algorithm> {
        ALL.iter().find(|(_, own, _)| *own == self).map(|(.., theirs)| *theirs)
    }

    pub(super) fn is_rsa(self) -> bool {
        !matches!(self, Self::ES256 | Self::ES384 | Self::EdDSA)
    }
}
