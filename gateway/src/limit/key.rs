//! Whom a limit counts.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::LazyLock,
};

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{auth::keys::digest, context::RequestContext};

/// `client_address`, `principal`, `api_key`, `route` or `header:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// An IPv4 address, or the /64 network of an IPv6 address: one client has all of it.
    ClientAddress,
    Principal,
    /// The API key, not whom it speaks for.
    Credential,
    /// All requests of the route together.
    Route,
    Header(HeaderName),
}

// Two seeds, because 64 bits are few enough to look for collisions. Random, so that nobody can look for them elsewhere.
static SEEDS: LazyLock<(RandomState, RandomState)> = LazyLock::new(|| (RandomState::new(), RandomState::new()));

impl Key {
    /// The key of a request; None if the request has none: the limit doesn't apply to it then.
    pub fn of(&self, headers: &HeaderMap, context: &RequestContext) -> Option<u128> {
        match self {
            Self::ClientAddress => Some(address(context.client.ip())),
            Self::Principal => context.principal.as_ref().map(|caller| hash(caller.principal.subject.as_bytes())),
            Self::Credential => context.api_key.as_ref().map(|id| hash(id.as_bytes())),
            Self::Route => Some(0),
            Self::Header(name) => headers.get(name).map(|value| hash(value.as_bytes())),
        }
    }

    /// The same for all gateways: what [`Key::of`] gives differs with every start. `place` keeps limits apart.
    pub fn digest(&self, place: &[u8], headers: &HeaderMap, context: &RequestContext) -> Option<[u8; 32]> {
        let whole = |value: &[u8]| digest(&[place, value].concat());
        match self {
            Self::ClientAddress => Some(whole(&address(context.client.ip()).to_be_bytes())),
            Self::Principal => context.principal.as_ref().map(|caller| whole(caller.principal.subject.as_bytes())),
            Self::Credential => context.api_key.as_ref().map(|id| whole(id.as_bytes())),
            Self::Route => Some(whole(&[])),
            Self::Header(name) => headers.get(name).map(|value| whole(value.as_bytes())),
        }
    }
}

fn address(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

fn hash(bytes: &[u8]) -> u128 {
    let (high, low) = &*SEEDS;
    u128::from(high.hash_one(bytes)) << 64 | u128::from(low.hash_one(bytes))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientAddress => f.write_str("client_address"),
            Self::Principal => f.write_str("principal"),
            Self::Credential => f.write_str("api_key"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "client_address" => Ok(Self::ClientAddress),
            "principal" => Ok(Self::Principal),
            "api_key" => Ok(Self::Credential),
            "route" => Ok(Self::Route),
            other => other
                .strip_prefix("header:")
                .and_then(|name| HeaderName::try_from(name.trim()).ok())
                .map(Self::Header)
                .ok_or_else(|| {
                    let known = "client_address, principal, api_key, route or header:NAME";
                    D::Error::custom(format!("`{other}` is not a key: {known}"))
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_one_address_or_one_network() {
        let of = |text: &str| address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
