//! The synchronous contract: the generated types, clients and servers of every `.proto` below `proto/`, and their
//! descriptors. No logic.

#![expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated code allows freely")]
#![expect(clippy::large_enum_variant, reason = "generated messages are as large as their fields")]

/// The encoded `FileDescriptorSet` of all files, imports, comments and `google.api.http` options included. Decode it with
/// a library that keeps extensions (prost-reflect does, prost-types doesn't).
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");

pub mod google {
    pub mod api {
        tonic::include_proto!("google.api");
    }
}

pub mod turnpike {
    pub mod auth {
        pub mod v1 {
            tonic::include_proto!("turnpike.auth.v1");
        }
    }
    pub mod bus {
        pub mod v1 {
            tonic::include_proto!("turnpike.bus.v1");
        }
    }
}

pub mod shop {
    pub mod money {
        pub mod v1 {
            tonic::include_proto!("shop.money.v1");
        }
    }
    pub mod product {
        pub mod v1 {
            tonic::include_proto!("shop.product.v1");
        }
    }
    pub mod review {
        pub mod v1 {
            tonic::include_proto!("shop.review.v1");
        }
    }
    pub mod customer {
        pub mod v1 {
            tonic::include_proto!("shop.customer.v1");
        }
    }
    pub mod cart {
        pub mod v1 {
            tonic::include_proto!("shop.cart.v1");
        }
    }
    pub mod order {
        pub mod v1 {
            tonic::include_proto!("shop.order.v1");
        }
    }
    pub mod invoice {
        pub mod v1 {
            tonic::include_proto!("shop.invoice.v1");
        }
    }
}
