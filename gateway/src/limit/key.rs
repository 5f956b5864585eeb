//! Whom a limit counts: what is the same of requests that count together.

use std::{
    fmt::{self, Write as _},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{auth::keys::digest, config::OneOrMany, context::RequestContext};

/// The most parts a key has.
const PARTS: usize = 4;

/// `principal`, or several together: `[client_address, route]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// All requests together.
    Everyone,
    /// An IPv4 address, or an IPv6 network of so many bits: one client has all of it. By default 64.
    ClientAddress(u8),
    Principal,
    /// The API key, not whom it speaks for.
    Credential,
    /// The requests of each route.
    Route,
    Header(HeaderName),
}

/// What one part is in a request.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Address(u128),
    Text(&'a [u8]),
}

/// What a key is in a request: a value for each part.
pub struct Values<'a> {
    key: &'a Key,
    values: [Value<'a>; PARTS],
}

// Two seeds, because 64 bits are few enough to look for collisions. Random, so that nobody can look for them elsewhere.
static SEEDS: LazyLock<(RandomState, RandomState)> = LazyLock::new(|| (RandomState::new(), RandomState::new()));

impl Key {
    /// The key of a request; None if the request lacks a part of it: the limit doesn't apply to it then.
    pub fn of<'a>(&'a self, headers: &'a HeaderMap, context: &'a RequestContext) -> Option<Values<'a>> {
        let mut values = [Value::Text(&[]); PARTS];
        for (value, part) in values.iter_mut().zip(&self.0) {
            *value = part.of(headers, context)?;
        }
        Some(Values { key: self, values })
    }

    /// The key that an operator writes, a text for each part.
    pub fn read<'a>(&'a self, texts: &'a [String]) -> Option<Values<'a>> {
        let mut values = [Value::Text(&[]); PARTS];
        if texts.len() != self.0.len() {
            return None;
        }
        for ((value, part), text) in values.iter_mut().zip(&self.0).zip(texts) {
            *value = match part {
                Part::ClientAddress(bits) => {
                    let address = text.split('/').next()?.parse().ok()?;
                    Value::Address(network(address, *bits))
                }
                Part::Everyone => Value::Text(&[]),
                _ => Value::Text(text.as_bytes()),
            };
        }
        Some(Values { key: self, values })
    }

    /// Whether it can be told before the route is known and anybody is authenticated.
    pub fn is_client_address(&self) -> bool {
        matches!(*self.0, [Part::ClientAddress(_)])
    }
}

impl Part {
    fn of<'a>(&self, headers: &'a HeaderMap, context: &'a RequestContext) -> Option<Value<'a>> {
        Some(match self {
            Self::Everyone => Value::Text(&[]),
            Self::ClientAddress(bits) => Value::Address(network(context.client.ip(), *bits)),
            Self::Principal => Value::Text(context.principal.as_ref()?.principal.subject.as_bytes()),
            Self::Credential => Value::Text(context.api_key.as_ref()?.as_bytes()),
            Self::Route => Value::Text(context.route.as_ref()?.id.as_bytes()),
            Self::Header(name) => Value::Text(headers.get(name)?.as_bytes()),
        })
    }
}

impl Values<'_> {
    /// For the tables of this process; it differs with every start.
    pub fn hash(&self) -> u128 {
        match self.list() {
            [Value::Address(address)] => *address,
            [Value::Text(text)] => hash(|hasher| hasher.write(text)),
            list => hash(|hasher| {
                for value in list {
                    value.visit(|bytes| {
                        hasher.write_usize(bytes.len());
                        hasher.write(bytes);
                    });
                }
            }),
        }
    }

    /// The same for all gateways. `place` keeps limits apart.
    pub fn digest(&self, place: &[u8]) -> [u8; 32] {
        let mut whole = place.to_vec();
        match self.list() {
            [one] => one.visit(|bytes| whole.extend_from_slice(bytes)),
            // Of one length each, so that they can't run into each other.
            list => list.iter().for_each(|value| value.visit(|bytes| whole.extend_from_slice(&digest(bytes)))),
        }
        digest(&whole)
    }

    /// As operators read it. What a header holds may be a secret: of it they see a digest.
    pub fn label(&self) -> String {
        let mut label = String::new();
        for (part, value) in self.key.0.iter().zip(&self.values) {
            if !label.is_empty() {
                label.push(' ');
            }
            match (part, value) {
                (Part::Everyone, _) => label.push_str("everyone"),
                (Part::ClientAddress(bits), Value::Address(address)) => _ = label.write_str(&shown(*address, *bits)),
                (Part::Header(_), Value::Text(text)) => {
                    _ = write!(label, "sha256:{}", URL_SAFE_NO_PAD.encode(&digest(text)[..9]));
                }
                (_, Value::Text(text)) => label.push_str(&String::from_utf8_lossy(text)),
                (_, Value::Address(address)) => label.push_str(&shown(*address, 64)),
            }
        }
        label
    }

    fn list(&self) -> &[Value<'_>] {
        &self.values[..self.key.0.len().min(PARTS)]
    }
}

impl Value<'_> {
    fn visit(&self, with: impl FnOnce(&[u8])) {
        match self {
            Self::Address(address) => with(&address.to_be_bytes()),
            Self::Text(text) => with(text),
        }
    }
}

/// An address as it is counted. IPv4 addresses lie where no IPv6 network does that anybody has.
pub fn network(address: IpAddr, bits: u8) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => {
            let rest = 128 - u32::from(bits.min(128));
            address.to_bits().checked_shr(rest).and_then(|bits| bits.checked_shl(rest)).unwrap_or(0)
        }
    }
}

fn shown(address: u128, bits: u8) -> String {
    match u32::try_from(address) {
        Ok(address) => std::net::Ipv4Addr::from_bits(address).to_string(),
        Err(_) if bits < 128 => format!("{}/{bits}", Ipv6Addr::from_bits(address)),
        Err(_) => Ipv6Addr::from_bits(address).to_string(),
    }
}

fn hash(write: impl Fn(&mut std::hash::DefaultHasher)) -> u128 {
    let (high, low) = &*SEEDS;
    let of = |seed: &RandomState| {
        let mut hasher = seed.build_hasher();
        write(&mut hasher);
        u128::from(hasher.finish())
    };
    of(high) << 64 | of(low)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char('+')?;
            }
            match part {
                Part::Everyone => f.write_str("everyone")?,
                Part::ClientAddress(64) => f.write_str("client_address")?,
                Part::ClientAddress(bits) => write!(f, "client_address/{bits}")?,
                Part::Principal => f.write_str("principal")?,
                Part::Credential => f.write_str("api_key")?,
                Part::Route => f.write_str("route")?,
                Part::Header(name) => write!(f, "header:{name}")?,
            }
        }
        Ok(())
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(bits) = text.strip_prefix("client_address/") {
            let bits = bits.parse().ok().filter(|bits| (16..=128).contains(bits));
            let bits = bits.ok_or_else(|| format!("`{text}`: an IPv6 network has 16 to 128 bits"))?;
            return Ok(Self::ClientAddress(bits));
        }
        Ok(match text {
            "everyone" => Self::Everyone,
            "client_address" => Self::ClientAddress(64),
            "principal" => Self::Principal,
            "api_key" => Self::Credential,
            "route" => Self::Route,
            other => {
                let name = other.strip_prefix("header:").and_then(|name| HeaderName::try_from(name.trim()).ok());
                Self::Header(name.ok_or_else(|| {
                    let known = "client_address, principal, api_key, route, everyone or header:NAME";
                    format!("`{other}` is not a key: {known}")
                })?)
            }
        })
    }
}

impl schemars::JsonSchema for Key {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Key".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^.+$" })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let OneOrMany(texts) = OneOrMany::<String>::deserialize(deserializer)?;
        if texts.is_empty() || texts.len() > PARTS {
            return Err(D::Error::custom(format!("a key has 1 to {PARTS} parts")));
        }
        let parts: Vec<_> =
            texts.iter().map(|text| Part::parse(text)).collect::<Result<_, _>>().map_err(D::Error::custom)?;
        if let Some(twice) = parts.iter().enumerate().find(|(at, part)| parts[..*at].contains(part)) {
            return Err(D::Error::custom(format!("`{}` is there twice", texts[twice.0])));
        }
        Ok(Self(parts.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn key(text: &str) -> Key {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn a_client_is_one_address_or_one_network() {
        let of = |text: &str| network(text.parse().unwrap(), 64);
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        let wider = |text: &str| network(text.parse().unwrap(), 48);
        assert_eq!(wider("2001:db8::1"), wider("2001:db8:0:1::1"));
        assert_ne!(network("::2".parse().unwrap(), 128), network("::3".parse().unwrap(), 128));
    }

    #[test]
    fn several_parts_count_together_and_do_not_run_into_each_other() {
        let both = key("['header:a', 'header:b', client_address/48]");
        assert_eq!(both.to_string(), "header:a+header:b+client_address/48");
        let context = RequestContext::new(
            Arc::from("r"),
            telemetry::TraceContext::unsampled(),
            "[2001:db8:7::1]:1".parse().unwrap(),
        );
        let of = |a: &str, b: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("a", a.parse().unwrap());
            headers.insert("b", b.parse().unwrap());
            both.of(&headers, &context).map(|values| (values.hash(), values.digest(b"place"), values.label()))
        };
        assert_eq!(of("x", "yz"), of("x", "yz"));
        let (one, other) = (of("x", "yz").unwrap(), of("xy", "z").unwrap());
        assert!(one.0 != other.0 && one.1 != other.1);
        assert!(one.2.ends_with(" 2001:db8:7::/48") && !one.2.contains("yz"), "{}", one.2);
        assert!(both.of(&HeaderMap::new(), &context).is_none(), "a part is missing");
        let written = ["x", "yz", "2001:db8:7::9"].map(str::to_owned);
        assert_eq!(both.read(&written).map(|values| values.hash()), Some(one.0));
        assert!(both.read(&written[..2]).is_none());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let read = |text: &str| serde_saphyr::from_str::<Key>(text);
        for wrong in ["nobody", "[]", "[route, route]", "client_address/8", "client_address/129", "'header:'"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(key("client_address"), key("client_address/64"));
    }
}
