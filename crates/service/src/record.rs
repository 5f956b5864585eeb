//! What an event says of a message.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::descriptor::POOL;

/// A message of `proto` as proto3 JSON, as events carry it: without the fields marked `debug_redact`, at any depth;
/// defaults written out, 64-bit integers as strings.
#[expect(clippy::expect_used, reason = "every message of `proto` is in its descriptors and has a JSON form")]
pub fn record<M: prost::Message + prost::Name>(message: &M) -> Value {
    let descriptor = POOL.get_message_by_name(&M::full_name()).expect("a message of proto");
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).expect("its own encoding");
    let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(true);
    let mut json = message.serialize_with_options(serde_json::value::Serializer, &options).expect("proto3 JSON");
    redact(&mut json, &descriptor);
    json
}

fn redact(json: &mut Value, message: &MessageDescriptor) {
    // Well-known types have a JSON form of their own and nothing to hide.
    let Value::Object(members) = json else { return };
    for field in message.fields() {
        if is_redacted(&field) {
            members.remove(field.json_name());
        } else if let Some(member) = members.get_mut(field.json_name()) {
            redact_field(member, &field);
        }
    }
}

fn redact_field(json: &mut Value, field: &FieldDescriptor) {
    let Kind::Message(message) = field.kind() else { return };
    match json {
        Value::Object(entries) if field.is_map() => {
            let Kind::Message(value) = message.map_entry_value_field().kind() else { return };
            entries.values_mut().for_each(|entry| redact(entry, &value));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, &message)),
        other => redact(other, &message),
    }
}

fn is_redacted(field: &FieldDescriptor) -> bool {
    field.options().get_field_by_name("debug_redact").is_some_and(|marked| marked.as_bool() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::shop::{
        customer::v1::Customer,
        money::v1::Money,
        product::v1::{ListProductsResponse, Product},
    };
    use serde_json::json;

    #[test]
    fn a_password_hash_leaves_no_trace() {
        let customer =
            Customer { id: "1".to_owned(), password_hash: "$argon2id$…".to_owned(), ..Customer::default() };
        let record = record(&customer);
        assert_eq!(record["id"], "1");
        assert_eq!(record.get("passwordHash"), None, "{record}");
    }

    #[test]
    fn defaults_are_written_out_and_large_numbers_are_strings() {
        let price = Some(Money { minor_units: i64::MAX, currency: String::new() });
        let product = Product { price, ..Product::default() };
        let record = record(&ListProductsResponse { products: vec![product], ..ListProductsResponse::default() });
        assert_eq!(record["products"][0]["price"], json!({"minorUnits": "9223372036854775807", "currency": ""}));
        assert_eq!(record["products"][0]["stock"], json!("0"));
        assert_eq!(record["nextPageToken"], json!(""));
    }

    /// No message of ours nests a redacted field yet; one may any day.
    #[test]
    fn a_redacted_field_is_found_in_lists_maps_and_messages() {
        use prost_reflect::prost_types::{
            DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MessageOptions,
            field_descriptor_proto::{Label, Type},
        };
        let field = |name: &str, number, label: Label, kind: Type, of: &str| FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(label.into()),
            r#type: Some(kind.into()),
            type_name: (!of.is_empty()).then(|| of.to_owned()),
            ..FieldDescriptorProto::default()
        };
        let customer = ".shop.customer.v1.Customer";
        let entry = DescriptorProto {
            name: Some("ByIdEntry".to_owned()),
            field: vec![
                field("key", 1, Label::Optional, Type::String, ""),
                field("value", 2, Label::Optional, Type::Message, customer),
            ],
            options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
            ..DescriptorProto::default()
        };
        let nest = DescriptorProto {
            name: Some("Nest".to_owned()),
            field: vec![
                field("one", 1, Label::Optional, Type::Message, customer),
                field("list", 2, Label::Repeated, Type::Message, customer),
                field("by_id", 3, Label::Repeated, Type::Message, ".test.Nest.ByIdEntry"),
            ],
            nested_type: vec![entry],
            ..DescriptorProto::default()
        };
        let mut pool = POOL.clone();
        pool.add_file_descriptor_proto(FileDescriptorProto {
            name: Some("test.proto".to_owned()),
            package: Some("test".to_owned()),
            syntax: Some("proto3".to_owned()),
            dependency: vec!["shop/customer/v1/customer.proto".to_owned()],
            message_type: vec![nest],
            ..FileDescriptorProto::default()
        })
        .unwrap();
        let customer = json!({"id": "1", "passwordHash": "$argon2id$…"});
        let mut json = json!({"one": customer, "list": [customer], "byId": {"1": customer}});
        redact(&mut json, &pool.get_message_by_name("test.Nest").unwrap());
        let customer = json!({"id": "1"});
        assert_eq!(json, json!({"one": customer, "list": [customer], "byId": {"1": customer}}));
    }
}
