//! `authorise:` what a caller must have, beyond being known.

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;

/// `authorise: { all: [{ scope: catalog:write }, { claim: tenant, is: "{tenant}" }] }`. Whatever stands in one requirement
/// holds together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requirement {
    /// Each of these.
    pub all: Option<Vec<Requirement>>,
    /// At least one of these.
    pub any: Option<Vec<Requirement>>,
    /// Anything but this.
    pub not: Option<Box<Requirement>>,
    /// Each of these scopes.
    pub scope: OneOrMany<String>,
    /// A subject, or with `*` at its end all that begin so: `operators/*`.
    pub subject: Option<String>,
    /// A claim, by its name; alone it must only be there.
    pub claim: Option<String>,
    /// The claim's whole value. `{name}` is what the request has for that variable of the route's path.
    pub is: Option<String>,
    /// One of these is the claim's whole value.
    pub r#in: Option<Vec<String>>,
    /// A word of the claim's value, in which lists are written with spaces between.
    pub has: Option<String>,
}
