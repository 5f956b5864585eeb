//! `aggregate:` as it is written.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{action::duration, cache::Per};

/// `aggregate: [ { part, call, … }, … ]`, 1 to 16 parts.
pub type Config = Vec<PartConfig>;

/// One of `call`, `get` and `post` says what is asked for. Texts may hold `{id}`, a variable of the route; `{query.page}`, a
/// query parameter; `{parts.NAME.a.b}`, a value of another part's answer; and, with `for_each`, `{item.a.b}`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Part")]
pub struct PartConfig {
    /// The part's member in the answer; `_meta` is taken.
    pub part: String,
    /// `package.Service/Method`, unary.
    #[serde(default)]
    pub call: Option<String>,
    /// A path with its query, to be asked for by GET of an upstream that speaks HTTP.
    #[serde(default)]
    pub get: Option<String>,
    /// A path with its query, to be asked for by POST.
    #[serde(default)]
    pub post: Option<String>,
    /// Where it is asked; default: the route's upstream, and for a call also the one of the route that serves the service
    /// (`grpc: package.Service`).
    #[serde(default)]
    pub upstream: Option<String>,
    /// Of `call`: request fields by name, a text or the field's value in JSON. Default: the variables and query parameters
    /// whose names are fields.
    #[serde(default)]
    pub request: Option<BTreeMap<String, Value>>,
    /// Of `get` and `post`: header fields beside those that every part has.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Of `post`: JSON. A text in it that is a value of another part, or of an element, and nothing else becomes what stands
    /// there, whatever its kind.
    #[serde(default)]
    pub body: Option<Value>,
    /// Its failure is the answer's failure. Default false: the part is its fallback, or null.
    #[serde(default)]
    pub required: bool,
    /// What stands in for the part when it fails; with `for_each`, for each answer that isn't there.
    #[serde(default)]
    pub fallback: Option<Value>,
    /// Only this field of the answer.
    #[serde(default)]
    pub pick: Option<String>,
    /// Of a call: its members become members of the answer. Default false.
    #[serde(default)]
    pub flatten: bool,
    /// Default 2 s, from when it is asked; never beyond the request's deadline.
    #[serde(default, deserialize_with = "duration::option")]
    pub timeout: Option<Duration>,
    /// `"{parts.NAME.list}"`: asks once for each element of the list.
    #[serde(default)]
    pub for_each: Option<String>,
    /// With `for_each` and `call`: one call for all elements, by a repeated field of the request.
    #[serde(default)]
    pub batch: Option<BatchConfig>,
    /// With `for_each`: the member that each element gets its answer as. Default: the part is a list of its own.
    #[serde(default)]
    pub into: Option<String>,
    /// With `for_each`: calls at once, 1 to 64; default 8.
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// How long its answers are kept: those to GET and HEAD, and those of methods whose `idempotency_level` says that asking
    /// twice does no harm. Default: they are not.
    #[serde(default)]
    pub cache: Option<CacheConfig>,
    /// With `for_each`: elements that are asked for, 1 to 1000; default 100. Those beyond are left out.
    #[serde(default)]
    pub max_elements: Option<usize>,
}

/// `cache: { ttl: 30s, tags: ["things:{id}"], per: public }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PartCache")]
pub struct CacheConfig {
    /// Above 0s, at most 8760h.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ttl: Duration,
    /// What purges an answer, as on routes; with the variables of the part's texts. Default none.
    #[serde(default)]
    pub tags: Vec<String>,
    /// `principal`, the default: for the caller whom it was given to; `public`: for everybody, and the service is not told
    /// who calls.
    #[serde(default)]
    pub per: Per,
}

/// `batch: { list: products, key: id }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Batch")]
pub struct BatchConfig {
    /// Where the answer has what was asked for: a repeated field.
    pub list: String,
    /// The field of each that holds the key it was asked for by.
    pub key: String,
}
