//! What the contract says of itself, decoded once.

use std::{collections::HashMap, sync::LazyLock};

use prost_reflect::DescriptorPool;

/// Every message, service and option of `proto/`.
#[expect(clippy::expect_used, reason = "the build made these bytes; a test decodes them")]
pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("the descriptors of proto"));

/// An RPC by its path: the names are labels and must not be what a client makes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rpc {
    pub service: &'static str,
    pub method: &'static str,
}

static RPCS: LazyLock<HashMap<String, (String, String)>> = LazyLock::new(|| {
    let methods = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|method| {
            let (service, name) = (method.parent_service().full_name().to_owned(), method.name().to_owned());
            (format!("/{service}/{name}"), (service, name))
        })
        .collect()
});

impl Rpc {
    pub fn of(path: &str) -> Self {
        match RPCS.get(path) {
            Some((service, method)) => Self { service, method },
            None => Self { service: "unknown", method: "unknown" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_contract_s_own_rpcs_have_names() {
        let rpc = Rpc::of("/shop.product.v1.ProductService/GetProduct");
        assert_eq!((rpc.service, rpc.method), ("shop.product.v1.ProductService", "GetProduct"));
        assert_eq!(Rpc::of("/shop.product.v1.ProductService/Get").method, "unknown");
    }
}
