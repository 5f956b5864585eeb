//! What the shop hands to the product: its gateway configuration, its descriptors, and whose tokens its roles believe.

use std::collections::BTreeMap;

use bytes::Bytes;
use principal::{Issuer, Keys, RootSecret, Signer};

/// The built-in gateway configuration.
pub const GATEWAY: &str = include_str!("../../deploy/gateway.yaml");

/// The files that a gateway's configuration can name: the shop's descriptors, and what the roles say of themselves that are
/// passed through.
pub fn built_in() -> BTreeMap<String, Bytes> {
    let files = [("shop", proto::DESCRIPTORS), ("broker", broker::OPENAPI), ("dashboard", dashboard::OPENAPI)];
    files.map(|(name, contents)| (name.to_owned(), Bytes::from_static(contents))).into()
}

/// The gateway speaks for clients, and the order service for itself.
pub fn issuers(root: &RootSecret) -> Vec<Issuer> {
    ["gateway", "/services/order"]
        .map(|name| Issuer { name: name.to_owned(), keys: Keys::Inline(Signer::new(name, root).jwks()) })
        .to_vec()
}
