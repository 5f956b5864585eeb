//! Which proxies in front are believed, and what they say of who is behind them.
//!
//! Each proxy adds to the right of the list whom it got the request from. So the list is read from the right, and only as
//! long as whoever wrote an entry is trusted: the first address that is no trusted proxy is the client's. What stands
//! further to the left the client may have made up. Nothing at all is read of what others send.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, uri::Authority};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Networks, forwarded};

pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The most entries that are looked at.
const HOPS: usize = 16;

/// `trusted_proxies: [10.0.0.0/8]`, or `{ networks: [10.0.0.0/8], header: forwarded }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    pub networks: Networks,
    pub header: Header,
}

/// What proxies write. Only one of them is read: the other one may have been left as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Header {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What trusted proxies say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub client: IpAddr,
    /// The client and the proxies it came by, as upstreams are told.
    pub chain: HeaderValue,
    /// Whether the client came within TLS.
    pub secure: Option<bool>,
    /// The host the client asked for.
    pub host: Option<HeaderValue>,
}

impl Proxies {
    /// What is said of a request that this peer sent; None if the peer is not trusted.
    pub fn said(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<Said> {
        let trusted = |address: &IpAddr| self.networks.contains(*address);
        let peer = peer.ip().to_canonical();
        if !trusted(&peer) {
            return None;
        }
        let entries = match self.header {
            Header::XForwardedFor => forwarded::x_forwarded(headers, HOPS),
            Header::Forwarded => forwarded::forwarded(headers, HOPS),
        };
        // The client at the end.
        let mut chain = vec![peer];
        let (mut secure, mut host) = (None, None);
        for entry in entries {
            if !chain.last().is_some_and(trusted) {
                break;
            }
            // Who comes next can't be told: the last one that is known stands for it.
            let Some(address) = entry.address else { break };
            chain.push(address);
            (secure, host) = (entry.secure.or(secure), entry.host.filter(is_host).or(host));
        }
        let client = chain.last().copied().unwrap_or(peer);
        let text = chain.iter().rev().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let chain = HeaderValue::try_from(text).ok()?;
        Some(Said { client, chain, secure, host })
    }
}

fn is_host(host: &HeaderValue) -> bool {
    let authority = Authority::try_from(host.as_bytes());
    authority.is_ok_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TrustedProxies")]
struct Section {
    networks: Networks,
    #[serde(default)]
    header: Header,
}

impl schemars::JsonSchema for Proxies {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Proxies".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let section = generator.subschema_for::<Section>();
        let networks = generator.subschema_for::<Networks>();
        schemars::json_schema!({ "anyOf": [networks, section] })
    }
}

impl<'de> Deserialize<'de> for Proxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Proxies;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of networks, or a section with `networks` and `header`")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Proxies, A::Error> {
                let networks = Networks::deserialize(de::value::SeqAccessDeserializer::new(list))?;
                Ok(Proxies { networks, header: Header::default() })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Proxies, A::Error> {
                let Section { networks, header } = Section::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Proxies { networks, header })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(
        config: &str,
        peer: &str,
        fields: &[(&'static str, &str)],
    ) -> Option<(String, String, Option<bool>, String)> {
        let proxies: Proxies = serde_saphyr::from_str(config).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let said = proxies.said(format!("{peer}:1").parse().unwrap(), &headers)?;
        let host = said.host.map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default();
        Some((said.client.to_string(), said.chain.to_str().unwrap().to_owned(), said.secure, host))
    }

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        said("[10.0.0.0/8, '2001:db8::/32']", peer, fields).map(|said| said.0).unwrap_or_default()
    }

    #[test]
    fn the_list_is_read_from_the_right_as_far_as_it_is_trusted() {
        let list = |text| client("10.0.0.1", &[("x-forwarded-for", text)]);
        assert_eq!(list("198.51.100.7"), "198.51.100.7");
        assert_eq!(list("1.2.3.4, 198.51.100.7"), "198.51.100.7", "what the client made up");
        assert_eq!(list("1.2.3.4, 198.51.100.7, 10.0.0.2,10.9.9.9"), "198.51.100.7");
        assert_eq!(list("10.0.0.3, 10.0.0.2"), "10.0.0.3", "all are proxies: a client of our own");
        assert_eq!(list("198.51.100.7:4711"), "198.51.100.7");
        assert_eq!(list("\"[2001:db9::1]:80\""), "2001:db9::1");
        assert_eq!(list("::ffff:198.51.100.7"), "198.51.100.7");
        for nothing in ["", "unknown", "1.2.3.4, unknown", "1.2.3.4, 999.1.1.1", ",", "1.2.3.4 5.6.7.8"] {
            assert_eq!(list(nothing), "10.0.0.1", "{nothing:?}");
        }
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8")]), "5.6.7.8");
        assert_eq!(client("198.51.100.7", &[("x-forwarded-for", "1.2.3.4")]), "", "not a proxy of ours");
        assert_eq!(client("[2001:db8::5]", &[("x-forwarded-for", "1.2.3.4")]), "1.2.3.4");
    }

    #[test]
    fn a_list_without_end_has_one() {
        let long = vec!["10.0.0.2"; 10_000].join(",");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &format!("1.2.3.4, {long}"))]), "10.0.0.2");
    }

    #[test]
    fn scheme_and_host_are_those_of_the_hop_that_is_the_clients() {
        let said = |fields: &[(&'static str, &str)]| said("[10.0.0.0/8]", "10.0.0.1", fields).unwrap();
        let two = said(&[
            ("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2"),
            ("x-forwarded-proto", "ftp, https, http"),
            ("x-forwarded-host", "evil.example, shop.example, inner.example"),
        ]);
        assert_eq!(two, ("1.2.3.4".into(), "1.2.3.4, 10.0.0.2, 10.0.0.1".into(), Some(true), "shop.example".into()));
        let once = said(&[("x-forwarded-for", "1.2.3.4, 10.0.0.2"), ("x-forwarded-proto", "HTTPS")]);
        assert_eq!((once.2, once.3.as_str()), (Some(true), ""));
        let odd = said(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b")]);
        assert_eq!((odd.2, odd.3.as_str()), (None, ""));
    }

    #[test]
    fn forwarded_is_read_where_that_is_what_proxies_write_and_nothing_else() {
        let config = "{networks: [10.0.0.0/8], header: forwarded}";
        let read = |text| said(config, "10.0.0.1", &[("forwarded", text), ("x-forwarded-for", "6.6.6.6")]).unwrap();
        let (client, chain, secure, host) =
            read("for=6.6.6.6, For=\"[2001:db9::1]:4711\";proto=https;host=\"shop.example\", for=10.0.0.2;proto=http");
        assert_eq!((client.as_str(), secure, host.as_str()), ("2001:db9::1", Some(true), "shop.example"));
        assert_eq!(chain, "2001:db9::1, 10.0.0.2, 10.0.0.1");
        for nothing in ["for=unknown", "for=_hidden", "proto=https", "for=\"1.2.3.4", "for=1.2.3.4;for=5.6.7.8", "x"] {
            assert_eq!(read(nothing).0, "10.0.0.1", "{nothing}");
        }
        assert_eq!(read("for=\"1.2.3.4, 5.6.7.8\", for=9.9.9.9").0, "9.9.9.9");
        assert_eq!(client_by_x("for=1.2.3.4"), "10.0.0.1", "the client's own word");
    }

    fn client_by_x(text: &str) -> String {
        said("[10.0.0.0/8]", "10.0.0.1", &[("forwarded", text)]).unwrap().0
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_the_client_is_the_peer_or_stands_there(text in "[ -~]{0,80}", header in 0..2) {
            let (config, name) = if header == 0 {
                ("[10.0.0.0/8]", "x-forwarded-for")
            } else {
                ("{networks: [10.0.0.0/8], header: forwarded}", "forwarded")
            };
            let (client, chain, ..) = said(config, "10.0.0.1", &[(name, text.trim())]).unwrap();
            proptest::prop_assert!(client == "10.0.0.1" || text.contains(&client) || client.contains(':'), "{}", client);
            proptest::prop_assert!(chain.starts_with(&client) && chain.ends_with("10.0.0.1"));
        }
    }
}
