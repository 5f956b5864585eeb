//! What must hold of a descriptor set before anything is made of it. A service may tell of whatever it likes, and of some
//! sets whose parts are well formed the compilation would never end, or end the process.

use std::collections::HashMap;

use prost::Message;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

/// How long a chain of public imports may be. One that leads back to where it began has no end.
const CHAIN: usize = 64;
/// How many imports may be looked at in all, where a file is looked at each time that it is imported.
const IMPORTS: u64 = 20_000_000;
/// In bytes. Each of a package's parts is kept with all before it.
const PACKAGE: usize = 1024;

/// Messages that JSON shows in a way of their own, whose fields are known beforehand.
const OWN: [&str; 18] = [
    "google.protobuf.Any",
    "google.protobuf.BoolValue",
    "google.protobuf.BytesValue",
    "google.protobuf.DoubleValue",
    "google.protobuf.Duration",
    "google.protobuf.Empty",
    "google.protobuf.FieldMask",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.ListValue",
    "google.protobuf.StringValue",
    "google.protobuf.Struct",
    "google.protobuf.Struct.FieldsEntry",
    "google.protobuf.Timestamp",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
    "google.protobuf.Value",
];

#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
    #[prost(int32, repeated, packed = "false", tag = "10")]
    public_dependency: Vec<i32>,
}

/// That imports come to an end, and soon enough. What is no set at all passes: who reads it says so.
///
/// # Errors
/// A sentence on the first file that is at fault.
pub fn imports(encoded: &[u8]) -> Result<(), String> {
    let Ok(set) = Set::decode(encoded) else { return Ok(()) };
    let mut files = Files { named: HashMap::new(), looks: HashMap::new() };
    for file in &set.file {
        if file.package.len() > PACKAGE {
            return Err(format!("{}: the name of its package is longer than {PACKAGE} bytes", file.name));
        }
        // Of several of a name the first counts.
        files.named.entry(&file.name).or_insert(file);
    }
    let mut looks = 0_u64;
    for file in &set.file {
        for name in &file.dependency {
            looks = looks.saturating_add(files.looks(name, 0)?);
        }
    }
    if looks > IMPORTS { Err(format!("files import each other in more than {IMPORTS} ways")) } else { Ok(()) }
}

struct Files<'a> {
    named: HashMap<&'a str, &'a File>,
    /// How many imports are looked at for the sake of a file.
    looks: HashMap<&'a str, u64>,
}

impl<'a> Files<'a> {
    fn looks(&mut self, name: &'a str, chain: usize) -> Result<u64, String> {
        if let Some(looks) = self.looks.get(name) {
            return Ok(*looks);
        }
        if chain == CHAIN {
            return Err(format!("{name}: is imported publicly by itself, or in a chain of more than {CHAIN} files"));
        }
        let Some(file) = self.named.get(name).copied() else { return Ok(0) };
        // Each import is looked for among the public ones.
        let mut looks = (file.dependency.len() as u64 + 1).saturating_mul(file.public_dependency.len() as u64 + 1);
        for public in &file.public_dependency {
            let imported = usize::try_from(*public).ok().and_then(|at| file.dependency.get(at));
            if let Some(imported) = imported {
                looks = looks.saturating_add(self.looks(imported, chain + 1)?);
            }
        }
        self.looks.insert(name, looks);
        Ok(looks)
    }
}

/// That every message of a map has a key and a value, and that protobuf's own messages are what they are everywhere.
///
/// # Errors
/// A sentence on the first message that is at fault.
pub fn messages(pool: &DescriptorPool) -> Result<(), String> {
    let global = DescriptorPool::global();
    for message in pool.all_messages() {
        let name = message.full_name();
        if message.is_map_entry() && !is_entry(&message) {
            return Err(format!("{name}: is not what a map consists of"));
        }
        let is_own = || global.get_message_by_name(name).is_none_or(|own| fields(&own) == fields(&message));
        if OWN.contains(&name) && !is_own() {
            return Err(format!("{name}: is not the message that protobuf defines"));
        }
    }
    Ok(())
}

fn is_entry(message: &MessageDescriptor) -> bool {
    let is_key =
        |kind: Kind| !matches!(kind, Kind::Message(_) | Kind::Enum(_) | Kind::Float | Kind::Double | Kind::Bytes);
    let (Some(key), Some(value)) = (message.get_field(1), message.get_field(2)) else { return false };
    message.fields().len() == 2 && !key.is_list() && !value.is_list() && !value.is_map() && is_key(key.kind())
}

/// Numbers, and what each field is.
fn fields(message: &MessageDescriptor) -> Vec<(u32, bool, bool, String)> {
    let kind = |kind: Kind| match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(named) => named.full_name().to_owned(),
        kind => format!("{kind:?}"),
    };
    let field =
        |field: prost_reflect::FieldDescriptor| (field.number(), field.is_list(), field.is_map(), kind(field.kind()));
    message.fields().map(field).collect()
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions,
        field_descriptor_proto::{Label, Type},
    };

    use super::super::decode;
    use super::*;

    fn file(name: &str, public: &[&str]) -> FileDescriptorProto {
        FileDescriptorProto {
            name: Some(name.to_owned()),
            syntax: Some("proto3".to_owned()),
            dependency: public.iter().map(|name| (*name).to_owned()).collect(),
            public_dependency: (0..).zip(public).map(|(at, _)| at).collect(),
            ..FileDescriptorProto::default()
        }
    }

    fn refused(file: Vec<FileDescriptorProto>) -> String {
        decode(&FileDescriptorSet { file }.encode_to_vec()).unwrap_err()
    }

    fn field(name: &str, number: i32, kind: Type, of: &str) -> FieldDescriptorProto {
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(Label::Optional.into()),
            r#type: Some(kind.into()),
            type_name: (kind == Type::Message).then(|| of.to_owned()),
            ..FieldDescriptorProto::default()
        }
    }

    #[test]
    fn files_that_import_each_other_in_a_circle_are_refused() {
        assert!(refused(vec![file("a", &["a"])]).contains("by itself"));
        assert!(refused(vec![file("a", &["b"]), file("b", &["a"])]).contains("by itself"));
    }

    #[test]
    fn imports_that_multiply_are_refused() {
        let mut files = vec![file("0", &[])];
        for at in 1..60 {
            let before = (at - 1).to_string();
            files.push(file(&at.to_string(), &[&before, &before]));
        }
        assert!(refused(files).contains("ways"));
    }

    #[test]
    fn a_package_of_endless_parts_is_refused() {
        let package = Some("a.".repeat(1_000_000) + "a");
        assert!(refused(vec![FileDescriptorProto { package, ..file("a", &[]) }]).contains("package"));
    }

    #[test]
    fn what_is_not_protobufs_own_does_not_pass_for_it() {
        // It holds itself, as if a text were within a text without end.
        let value = field("value", 1, Type::Message, ".google.protobuf.StringValue");
        let message =
            DescriptorProto { name: Some("StringValue".into()), field: vec![value], ..DescriptorProto::default() };
        let package = Some("google.protobuf".to_owned());
        let file = FileDescriptorProto { package, message_type: vec![message], ..file("a", &[]) };
        assert!(refused(vec![file]).contains("google.protobuf.StringValue"));
    }

    #[test]
    fn a_map_without_key_and_value_is_refused() {
        let options = Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() });
        for fields in [vec![], vec![field("key", 1, Type::Float, ""), field("value", 2, Type::String, "")]] {
            let entry = DescriptorProto {
                name: Some("AllEntry".into()),
                field: fields,
                options: options.clone(),
                ..DescriptorProto::default()
            };
            let all = FieldDescriptorProto {
                label: Some(Label::Repeated.into()),
                ..field("all", 1, Type::Message, ".M.AllEntry")
            };
            let message = DescriptorProto {
                name: Some("M".into()),
                field: vec![all],
                nested_type: vec![entry],
                ..DescriptorProto::default()
            };
            let file = FileDescriptorProto { message_type: vec![message], ..file("a", &[]) };
            assert!(refused(vec![file]).contains("map"));
        }
    }

    #[test]
    fn protobufs_own_messages_are_sound() {
        let set = FileDescriptorSet { file: DescriptorPool::global().file_descriptor_protos().cloned().collect() };
        assert!(decode(&set.encode_to_vec()).is_ok());
    }
}
