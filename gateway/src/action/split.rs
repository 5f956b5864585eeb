//! Which of several upstreams gets a request: by weight, and where that is wanted always the same one for the same caller.
//!
//! Who goes where follows from the key and the weights alone, so that every gateway decides alike, also after a restart.
//! A weight that grows at the end of the list takes callers over and sends none of its own away.

use http::{HeaderMap, HeaderName, header};
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{context::RequestContext, worker::UpstreamId};

/// `{ upstream: v2, weight: 5 }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    pub upstream: String,
    /// Its share of the sum of all weights, 0 to 1,000,000; 0 gets nothing.
    pub weight: u32,
}

/// By what a caller stays with one upstream: `principal`, `client_address`, `header:NAME` or `cookie:NAME`. A request
/// without it goes by chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    Principal,
    ClientAddress,
    Header(HeaderName),
    Cookie(String),
}

/// Upstreams with their weights.
#[derive(Clone, Debug)]
pub struct Split {
    shares: Box<[(UpstreamId, u32)]>,
    total: u64,
    sticky: Option<Sticky>,
}

/// The largest weight.
pub const MAX_WEIGHT: u32 = 1_000_000;

impl From<UpstreamId> for Split {
    fn from(upstream: UpstreamId) -> Self {
        Self { shares: [(upstream, 1)].into(), total: 1, sticky: None }
    }
}

impl Split {
    /// None if nothing has a weight.
    pub fn new(shares: impl IntoIterator<Item = (UpstreamId, u32)>, sticky: Option<Sticky>) -> Option<Self> {
        let shares: Box<[_]> = shares.into_iter().collect();
        let total = shares.iter().map(|(_, weight)| u64::from(*weight)).sum();
        (total > 0).then_some(Self { shares, total, sticky })
    }

    /// The upstream of a request.
    pub fn choose(&self, headers: &HeaderMap, context: &RequestContext) -> UpstreamId {
        if let [(only, _)] = &*self.shares {
            return *only;
        }
        match self.sticky.as_ref().and_then(|sticky| sticky.of(headers, context)) {
            Some(hash) => self.at(((u128::from(hash) * u128::from(self.total)) >> 64) as u64),
            None => self.at(rand::rng().random_range(0..self.total)),
        }
    }

    /// Every upstream with its share, 0 to 1.
    pub fn shares(&self) -> impl Iterator<Item = (UpstreamId, f64)> {
        self.shares.iter().map(|(upstream, weight)| (*upstream, f64::from(*weight) / self.total as f64))
    }

    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    fn at(&self, point: u64) -> UpstreamId {
        let mut end = 0;
        let within = |(_, weight): &&(UpstreamId, u32)| {
            end += u64::from(*weight);
            point < end
        };
        let (upstream, _) = self.shares.iter().find(within).unwrap_or(&self.shares[0]);
        *upstream
    }
}

impl Sticky {
    /// The caller of a request as a number, the same everywhere.
    pub fn of(&self, headers: &HeaderMap, context: &RequestContext) -> Option<u64> {
        match self {
            Self::Principal => context.principal.as_ref().map(|caller| hash(caller.principal.subject.as_bytes())),
            Self::ClientAddress => Some(match context.client.ip().to_canonical() {
                std::net::IpAddr::V4(address) => hash(&address.octets()),
                std::net::IpAddr::V6(address) => hash(&address.octets()),
            }),
            Self::Header(name) => headers.get(name).map(|value| hash(value.as_bytes())),
            Self::Cookie(name) => cookie(headers, name).map(|value| hash(value.as_bytes())),
        }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// FNV-1a, stirred (MurmurHash3's finaliser): the upper bits decide, and must hang on every byte. Not meant to be hard to
/// guess: whoever wants the other version may have it.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl std::fmt::Display for Sticky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Principal => f.write_str("principal"),
            Self::ClientAddress => f.write_str("client_address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

impl schemars::JsonSchema for Sticky {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sticky".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^(principal|client_address|header:.+|cookie:.+)$" })
    }
}

impl<'de> Deserialize<'de> for Sticky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = match text.split_once(':') {
            None if text == "principal" => Some(Self::Principal),
            None if text == "client_address" => Some(Self::ClientAddress),
            Some(("header", name)) => HeaderName::try_from(name).ok().map(Self::Header),
            // A cookie's name is made of what a header's name is made of (RFC 6265, section 4.1.1).
            Some(("cookie", name)) => HeaderName::try_from(name).ok().map(|_| Self::Cookie(name.to_owned())),
            _ => None,
        };
        known.ok_or_else(|| {
            let names = "principal, client_address, header:NAME or cookie:NAME";
            D::Error::custom(format!("`{text}` is not what a caller could be known by: {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn context() -> RequestContext {
        let client = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        RequestContext::new("1".into(), telemetry::TraceContext::unsampled(), client)
    }

    fn split(weights: &[u32], sticky: Option<&str>) -> Split {
        let shares = weights.iter().enumerate().map(|(at, weight)| (UpstreamId(at), *weight));
        let sticky = sticky.map(|sticky| serde_json::from_value(sticky.into()).unwrap());
        Split::new(shares, sticky).unwrap()
    }

    fn caller(number: u32) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from(number));
        headers.append(header::COOKIE, HeaderValue::from_static("a=b"));
        headers.append(header::COOKIE, HeaderValue::try_from(format!("c=d; user={number}")).unwrap());
        headers
    }

    #[test]
    fn requests_fall_as_the_weights_say() {
        for sticky in [None, Some("header:x-user"), Some("cookie:user")] {
            let split = split(&[90, 0, 10], sticky);
            let mut fallen = [0; 3];
            for number in 0..10_000 {
                fallen[split.choose(&caller(number), &context()).0] += 1;
            }
            assert!(fallen[1] == 0 && (800..1200).contains(&fallen[2]), "{sticky:?} {fallen:?}");
        }
    }

    #[test]
    fn a_caller_stays_and_a_growing_canary_sends_nobody_back() {
        let (before, after) = (split(&[95, 5], Some("cookie:user")), split(&[80, 20], Some("cookie:user")));
        for number in 0..1_000 {
            let first = before.choose(&caller(number), &context());
            assert_eq!(before.choose(&caller(number), &context()), first);
            assert!(first.0 == 0 || after.choose(&caller(number), &context()) == first, "{number}");
        }
    }

    #[test]
    fn nothing_with_a_weight_is_no_split() {
        assert!(Split::new([(UpstreamId(0), 0)], None).is_none());
        assert!(Split::new([], None).is_none());
        for wrong in ["cookie:", "header:x y", "route", "cookie"] {
            assert!(serde_json::from_value::<Sticky>(wrong.into()).is_err(), "{wrong}");
        }
    }
}
