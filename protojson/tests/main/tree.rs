//! Scenarios with one small schema: what is taken, what is refused and in which words, and the bounds.

use prost_reflect::DescriptorPool;
use protojson::{DEPTH, Fault, Message, SIZE, Schema, Violation};

fn node() -> Message {
    message("tree.v1.Node")
}

fn message(name: &str) -> Message {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto");
    let files = protox::compile(["tree.proto"], [folder]).unwrap();
    Schema::new(&DescriptorPool::from_file_descriptor_set(files).unwrap()).message(name).unwrap()
}

fn read(json: &str) -> Result<Vec<u8>, Fault> {
    let mut wire = b"before".to_vec();
    let read = node().read(json.as_bytes(), &mut wire);
    let appended = wire.split_off(6);
    assert_eq!(wire, b"before");
    assert!(read.is_ok() || appended.is_empty(), "nothing is left of what was refused");
    read.map(|()| appended)
}

fn written(wire: &[u8]) -> String {
    let mut json = Vec::new();
    node().write(wire, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

fn refused(json: &str) -> Vec<(String, String)> {
    match read(json) {
        Err(Fault::Violations(found)) => found.into_iter().map(|Violation { field, reason }| (field, reason)).collect(),
        other => panic!("{other:?}: {json}"),
    }
}

#[test]
fn members_go_by_either_name_and_come_back_by_one() {
    let json = r#"{"pear": 7, "node_name": "é\u00e9", "leaves": {"a": "1"}, "planted": "2026-11-21T10:00:00+01:00"}"#;
    let shown = r#"{"nodeName":"éé","children":[],"leaves":{"a":1},"pear":"7","planted":"2026-11-21T09:00:00Z"}"#;
    let wire = read(json).unwrap();
    // As `pear` came first it stands first, and the tables leave the order to the dynamic path.
    assert!(!node().write_by_tables(&wire, &mut Vec::new()));
    assert_eq!(written(&wire), shown);
    let again = read(shown).unwrap();
    let mut json = Vec::new();
    assert!(node().write_by_tables(&again, &mut json));
    assert_eq!(String::from_utf8(json).unwrap(), shown);
}

#[test]
fn every_fault_is_named_at_once() {
    let json = r#"{"nodeName": 1, "children": [{"height": 2}, null], "leaves": {"a": 1.5}, "apple": "a", "pear": 1,
        "node_name": "twice", "planted": "yesterday"}"#;
    let expected = [
        ("nodeName", "must be a string"),
        ("children[0].height", "is not a known field"),
        ("children[1]", "must not be null"),
        ("leaves[\"a\"]", "must be a whole number of 32 bits"),
        ("pear", "can't be given beside `apple`"),
        ("node_name", "is given twice"),
        ("planted", "must be a time such as 2026-11-21T10:00:00Z"),
    ];
    assert_eq!(refused(json), expected.map(|(field, reason)| (field.to_owned(), reason.to_owned())));
}

#[test]
fn arrays_and_objects_nest_so_deep_and_no_deeper() {
    let nested = |depth: usize| format!("{}{{}}{}", r#"{"parent":"#.repeat(depth - 1), "}".repeat(depth - 1));
    assert!(node().read_by_tables(nested(DEPTH).as_bytes(), &mut Vec::new()));
    assert_eq!(read(&nested(DEPTH + 1)), Err(Fault::Syntax(format!("nested deeper than {DEPTH}"))));
    // A struct nests twice for each object, and what is encoded may nest but a hundred times.
    let labels = |depth: usize| format!(r#"{{"labels": {}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert!(read(&labels(40)).is_ok());
    assert!(read(&labels(60)).is_err());
}

#[test]
fn what_is_encoded_nests_a_hundred_times_at_most() {
    let nested = |depth: usize| {
        let mut wire = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![8 << 3 | 2];
            prost::encoding::encode_varint(wire.len() as u64, &mut outer);
            outer.append(&mut wire);
            wire = outer;
        }
        wire
    };
    assert!(node().write(&nested(100), &mut Vec::new()).is_ok());
    assert!(node().write(&nested(101), &mut Vec::new()).is_err());
    assert!(node().write(&nested(100_000), &mut Vec::new()).is_err());
}

#[test]
fn json_does_not_grow_without_bound() {
    // An element of two bytes is shown with all its defaults.
    let shown = written(&[]).len();
    let elements = |count: usize| [2 << 3 | 2, 0].repeat(count);
    let few = written(&elements(1000)).len();
    assert!(few > 1000 * shown);
    let mut json = b"before".to_vec();
    let malformed = node().write(&elements(SIZE / shown), &mut json).unwrap_err();
    assert_eq!(malformed.to_string(), format!("larger than {SIZE} bytes as JSON"));
    assert_eq!(json, b"before");
}

#[test]
fn a_field_is_appended_over_what_is_there() {
    let message = node();
    let (name, child) = (message.path("node_name").unwrap(), message.path("parent.nodeName").unwrap());
    let mut wire = read(r#"{"nodeName": "old", "leaves": {"a": 1}, "parent": {"pear": 1}}"#).unwrap();
    name.append(&mut wire, "new").unwrap();
    child.append(&mut wire, "inner \"quoted\"").unwrap();
    assert_eq!(name.text(&wire).as_deref(), Some("new"));
    assert_eq!(child.text(&wire).as_deref(), Some("inner \"quoted\""));
    assert_eq!(child.to_string(), "parent.node_name");
    let pear = message.path("parent.pear").unwrap();
    assert_eq!(pear.text(&wire).as_deref(), Some("1"));
    assert_eq!(
        message.path("parent.apple").unwrap().append(&mut wire, "b"),
        Err("can't be given beside `pear`".to_owned())
    );
    assert_eq!(message.path("planted").unwrap().append(&mut wire, "2026-11-21T10:00:00Z"), Ok(()));
    assert!(message.path("leaves").unwrap().append(&mut wire, "a").is_err());
    assert!(message.path("children.nodeName").is_none() && message.path("").is_none() && message.path("a").is_none());
    let mut json = Vec::new();
    message.path("leaves").unwrap().write(&wire, &mut json).unwrap();
    assert_eq!(json, br#"{"a":1}"#);
}

#[test]
fn a_default_given_as_text_takes_the_place_of_what_is_there() {
    let basket = message("tree.v1.Basket");
    let mut wire = Vec::new();
    basket.read(br#"{"count": 5, "age": "1.5s"}"#, &mut wire).unwrap();
    for (path, text) in [("count", "0"), ("age", "2s")] {
        let path = basket.path(path).unwrap();
        path.append(&mut wire, text).unwrap();
        assert_eq!(path.text(&wire).as_deref(), Some(text), "{path}");
    }
}

#[test]
fn a_member_of_a_oneof_is_not_pushed_out_by_what_is_within_another() {
    let basket = message("tree.v1.Basket");
    let deep = basket.path("basket.basket.count").unwrap();
    for json in [r#"{"fruit": "pear"}"#, r#"{"basket": {"fruit": "pear"}}"#] {
        let mut wire = Vec::new();
        basket.read(json.as_bytes(), &mut wire).unwrap();
        let before = wire.clone();
        assert_eq!(deep.append(&mut wire, "1"), Err("can't be given beside `fruit`".to_owned()), "{json}");
        assert_eq!(wire, before);
    }
    let mut wire = Vec::new();
    basket.read(br#"{"basket": {"basket": {"fruit": "pear"}}}"#, &mut wire).unwrap();
    assert_eq!(deep.append(&mut wire, "1"), Ok(()));
    assert_eq!(basket.path("basket.basket.fruit").unwrap().text(&wire).as_deref(), Some("pear"));
}

#[test]
fn a_path_is_as_deep_as_json_may_be() {
    let path = |depth: usize| message("tree.v1.Basket").path(&format!("{}count", "basket.".repeat(depth - 1)));
    assert!(path(DEPTH).is_some_and(|path| path.append(&mut Vec::new(), "1").is_ok()));
    assert!(path(DEPTH + 1).is_none() && path(100_000).is_none());
}

#[test]
fn what_an_any_holds_counts_as_nested() {
    let basket = message("tree.v1.Basket");
    let nested = |depth: usize| {
        let mut wire = Vec::new();
        for level in 0..depth {
            let name = if level == 0 { "tree.v1.Basket" } else { "google.protobuf.Any" };
            let any = [(1, format!("a/{name}").into_bytes()), (2, wire)];
            wire = encoded(&any);
        }
        encoded(&[(1, wire)])
    };
    assert!(basket.write(&nested(99), &mut Vec::new()).is_ok());
    for depth in [110, 20_000] {
        assert_eq!(basket.write(&nested(depth), &mut Vec::new()).unwrap_err().to_string(), "nested too deep");
    }
    // A duration in it is checked as any other, also where the order of the fields is not for the tables.
    let age = encoded(&[
        (1, b"a/google.protobuf.Duration".to_vec()),
        (2, b"\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec()),
    ]);
    assert!(basket.write(&encoded(&[(5, b"pear".to_vec()), (1, age)]), &mut Vec::new()).is_err());
}

#[test]
fn a_flood_of_values_in_an_any_is_refused_at_once() {
    let many = 100_000;
    let other = r#""x":1,"#.repeat(many);
    let values = r#""value":"1s","#.repeat(many);
    let json = format!(r#"{{"content":{{{other}{values}"@type":"a/google.protobuf.Duration"}}}}"#);
    assert!(matches!(message("tree.v1.Basket").read(json.as_bytes(), &mut Vec::new()), Err(Fault::Violations(_))));
}

fn encoded(fields: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (number, value) in fields {
        prost::encoding::encode_key(*number, prost::encoding::WireType::LengthDelimited, &mut wire);
        prost::encoding::encode_varint(value.len() as u64, &mut wire);
        wire.extend_from_slice(value);
    }
    wire
}
