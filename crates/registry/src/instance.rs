//! What an instance says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most bytes of an instance, as JSON.
const MAX_BYTES: usize = 1024;
const MAX_ADDRESS: usize = 255;
const MAX_SERVICE: usize = 64;

/// One instance of a service. A service has one instance an address: who announces an address takes it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Which process it is: another one at the same address has another id.
    pub id: String,
    /// `host:port`, as those who call it reach it.
    pub address: String,
    /// How much of the traffic it should have beside the others, 1 to 1000.
    #[serde(default = "one")]
    pub weight: u16,
    /// For people: version, zone, machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What can't be announced, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Instance {
    /// An instance with an id of its own.
    pub fn new(address: impl Into<String>) -> Self {
        let id = format!("{:032x}", rand::random::<u128>());
        Self { id, address: address.into(), weight: one(), metadata: BTreeMap::new() }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }

    /// # Errors
    /// If it can't be announced: the address isn't one that others reach, the weight isn't within its range, or it says too
    /// much of itself.
    pub fn check(&self) -> Result<(), Refused> {
        let refuse = |message: String| Err(Refused(message));
        if !is_reachable(&self.address) {
            return refuse(format!("`{}` is no host:port that others can reach", self.address));
        }
        if !(1..=1000).contains(&self.weight) {
            return refuse(format!("the weight {} is not within 1 to 1000", self.weight));
        }
        if self.to_json().len() > MAX_BYTES {
            return refuse(format!("what it says of itself has more than {MAX_BYTES} bytes"));
        }
        Ok(())
    }

    pub(crate) fn to_json(&self) -> String {
        // Strings and a number: always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// None if it isn't one: anybody may write into Redis.
    pub(crate) fn from_json(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_str(text).ok().filter(|instance: &Self| instance.check().is_ok())
    }
}

/// Whether a service may have this name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`.
pub fn is_service(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_SERVICE).contains(&name.len()) && name.bytes().all(allowed)
}

/// `host:port` that isn't "every address of this machine".
fn is_reachable(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| !ip.is_unspecified()),
        None => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            let is_unspecified = host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_unspecified());
            !host.is_empty() && host.bytes().all(allowed) && !is_unspecified
        }
    };
    is_port && is_host && address.len() <= MAX_ADDRESS
}

fn one() -> u16 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_be_one_that_others_reach() {
        for good in ["10.0.0.4:7001", "product-0.product:7001", "[2001:db8::1]:7001", "127.0.0.1:7001"] {
            assert_eq!(Instance::new(good).check(), Ok(()), "{good}");
        }
        for bad in ["0.0.0.0:7001", "[::]:7001", "10.0.0.4", "10.0.0.4:0", ":7001", "::1:7001", "a b:1", "a/b:1"] {
            assert!(Instance::new(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_it_says_of_itself_is_read_back_and_bounded() {
        let instance = Instance::new("10.0.0.4:7001").with("version", "1.2.3");
        assert_eq!(Instance::from_json(&instance.to_json()), Some(instance.clone()));
        assert!(instance.with("essay", "x".repeat(MAX_BYTES)).check().is_err());
        assert_eq!(Instance::from_json("{}"), None);
        assert_eq!(Instance::from_json(r#"{"id":"a","address":"0.0.0.0:1"}"#), None);
        let of_another_version = r#"{"id":"a","address":"a:1","colour":"blue"}"#;
        assert_eq!(Instance::from_json(of_another_version).map(|instance| instance.weight), Some(1));
    }

    #[test]
    fn a_service_has_a_plain_name() {
        assert!(is_service("product") && is_service("shop.review-2"));
        assert!(!is_service("") && !is_service("a:b") && !is_service("{a}") && !is_service(&"a".repeat(65)));
    }
}
