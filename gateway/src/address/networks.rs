//! Networks as operators write them: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::{fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, de::Error as _};

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Networks(Box<[IpNet]>);

impl Networks {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them. IPv4 in the clothes of IPv6 (`::ffff:10.0.0.1`) is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

fn parse(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet =
        text.parse().map_err(|_| format!("`{text}` is neither an address nor a network such as 10.0.0.0/8"))?;
    if network.trunc() != network {
        return Err(format!(
            "`{text}` is an address within a network: is it {} or {}?",
            network.addr(),
            network.trunc()
        ));
    }
    Ok(canonical(network))
}

/// As addresses are compared: IPv4 in the clothes of IPv6 is IPv4.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(dressed) = network else { return network };
    let bits = dressed.prefix_len().checked_sub(96);
    let plain = dressed.addr().to_ipv4_mapped().zip(bits).and_then(|(address, bits)| Ipv4Net::new(address, bits).ok());
    plain.map_or(network, IpNet::V4)
}

// As they are written, not as they are kept.
impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

impl schemars::JsonSchema for Networks {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Networks".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<Vec<Option<String>>>()
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        // What was left empty, as from `${NAME:-}`, is none.
        let networks = texts.iter().filter(|text| !text.is_empty()).map(|text| parse(text));
        networks.collect::<Result<_, _>>().map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_whatever_its_clothes() {
        let networks: Networks = serde_saphyr::from_str("[10.0.0.0/8, '2001:db8::/32', 192.0.2.7, '']").unwrap();
        let contains = |text: &str| networks.contains(text.parse().unwrap());
        assert!(
            contains("10.255.0.1") && contains("::ffff:10.0.0.1") && contains("2001:db8:7::1") && contains("192.0.2.7")
        );
        assert!(!contains("11.0.0.1") && !contains("2001:db9::1") && !contains("192.0.2.8"));
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
        let dressed: Networks = serde_saphyr::from_str("['::ffff:10.0.0.0/104', '::ffff:0:0/96']").unwrap();
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7"] {
            assert!(dressed.contains(text.parse().unwrap()), "{text}");
        }
        assert!(!dressed.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_was_left_empty_is_no_network() {
        let text = "listeners: []\ntrusted_proxies:\n  - ${PROXIES:-}\n";
        let read = |properties| crate::Config::parse(text, &properties).unwrap().trusted_proxies.networks;
        assert!(read(crate::Properties::new()).is_empty());
        let given = crate::Properties::from([("PROXIES".to_owned(), "10.0.0.0/8".to_owned())]);
        assert!(read(given).contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_network_has_nothing_beyond_its_prefix() {
        for wrong in ["[10.0.0.1/8]", "[10.0.0.0/33]", "[localhost]", "['*']"] {
            assert!(serde_saphyr::from_str::<Networks>(wrong).is_err(), "{wrong}");
        }
    }
}
