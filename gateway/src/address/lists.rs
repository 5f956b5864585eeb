//! `addresses: { allow: [10.0.0.0/8], deny: [10.6.6.0/24] }`: who may call at all.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Networks;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lists {
    /// Only who is in one of these may call; default, and where the list is empty, everybody.
    pub allow: Networks,
    /// Who is in one of these may not, whatever `allow` says; default nobody.
    pub deny: Networks,
}

impl Lists {
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    pub fn let_in(&self, address: IpAddr) -> bool {
        !self.deny.contains(address) && (self.allow.is_empty() || self.allow.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_denied_is_not_let_in_by_being_allowed() {
        let lists: Lists = serde_saphyr::from_str("{allow: [10.0.0.0/8], deny: [10.6.6.0/24]}").unwrap();
        let let_in = |text: &str| lists.let_in(text.parse().unwrap());
        assert_eq!([let_in("10.1.1.1"), let_in("10.6.6.6"), let_in("11.0.0.1")], [true, false, false]);
        assert!(Lists::default().let_in("10.6.6.6".parse().unwrap()));
    }
}
