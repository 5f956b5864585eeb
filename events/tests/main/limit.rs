use events::{Data, Envelope};
use serde_json::{Value, json};

use crate::envelope;

/// The field that is named when `field` of a good event is set to `value`.
fn refused(field: &str, value: Value) -> Option<String> {
    let mut event = json!({
        "specversion": "1.0", "id": "1", "source": "/clients/alice", "type": "turnpike.db.create",
        "queue": "DB", "event": "CREATE", "time": "2026-03-01T12:30:00Z",
    });
    event[field] = value;
    let error = Envelope::parse(event.to_string().as_bytes()).err()?;
    assert!(!error.reason.is_empty());
    Some(error.field)
}

#[test]
fn a_wrong_attribute_is_named() {
    for (field, value) in [
        ("specversion", json!("0.3")),
        ("specversion", Value::Null),
        ("id", json!("")),
        ("id", json!("a.b")),
        ("id", json!("a b")),
        ("id", json!("line\n")),
        ("id", json!("x".repeat(129))),
        ("id", json!(7)),
        ("source", json!("")),
        ("source", Value::Null),
        ("source", json!("not a uri")),
        ("source", json!("/services/%zz")),
        ("source", json!("/services/%4")),
        ("source", json!("1a:b")),
        ("source", json!("/dienste/ä")),
        ("type", json!("")),
        ("queue", json!("db")),
        ("queue", Value::Null),
        ("event", json!("_CREATE")),
        ("event", json!("C".repeat(65))),
        ("subject", json!("")),
        ("subject", json!("a\u{0}")),
        ("partitionkey", json!("k".repeat(2049))),
        ("time", json!("yesterday")),
        ("time", json!("2026-03-01T12:30:00")),
        ("expirytime", json!(5)),
        ("priority", json!(10)),
        ("priority", json!(-1)),
        ("priority", json!("4")),
        ("expectedversion", json!("-1")),
        ("expectedversion", json!("")),
        ("dataschema", json!("no uri")),
        ("data_base64", json!("%%%")),
        ("payload", json!({})),
        ("rack", json!(1.5)),
        ("rack", json!(5_000_000_000_i64)),
        ("Rack", json!("a")),
    ] {
        assert_eq!(refused(field, value.clone()).as_deref(), Some(field), "{field} = {value}");
    }
}

#[test]
fn attributes_at_their_limit_are_taken() {
    for (field, value) in [
        ("id", json!("x".repeat(128))),
        ("id", json!("ä-1:2/3")),
        ("source", json!("urn:example:a")),
        ("source", json!("https://shop.example/%C3%A4?b#c")),
        ("source", json!("a/b:c")),
        ("event", json!("9".repeat(64))),
        ("partitionkey", json!("k".repeat(2048))),
        ("priority", json!(0)),
        ("priority", json!(9)),
        ("expectedversion", json!(u64::MAX.to_string())),
        ("rack", json!(i32::MIN)),
        ("data", json!("x".repeat(Envelope::MAX_DATA_BYTES - 2))),
    ] {
        assert_eq!(refused(field, value.clone()), None, "{field}");
    }
}

#[test]
fn more_data_than_fits_is_refused() {
    assert_eq!(refused("data", json!("x".repeat(Envelope::MAX_DATA_BYTES - 1))).as_deref(), Some("data"));
    let mut event = envelope();
    event.data = Some(Data::Binary(vec![0; Envelope::MAX_DATA_BYTES]));
    assert_eq!(event.check(), Ok(()));
    event.data = Some(Data::Binary(vec![0; Envelope::MAX_DATA_BYTES + 1]));
    assert_eq!(event.check().unwrap_err().field, "data_base64");
}

#[test]
fn data_comes_one_way_only() {
    let both = br#"{"specversion":"1.0","source":"/a","queue":"DB","event":"CREATE","data":1,"data_base64":"AA=="}"#;
    assert_eq!(Envelope::parse(both).unwrap_err().field, "data_base64");
}

#[test]
fn what_is_no_event_at_all_is_said() {
    for text in ["", "[]", "7", "{", "null"] {
        assert_eq!(Envelope::parse(text.as_bytes()).unwrap_err().field, "event", "{text}");
    }
}

#[test]
fn an_extension_can_not_pose_as_an_attribute() {
    for name in ["data", "queue", "specversion"] {
        let mut event = envelope();
        event.extensions.insert(name.to_owned(), json!("x"));
        assert_eq!(event.check().unwrap_err().field, name);
    }
}

#[test]
fn unknown_attributes_are_bounded() {
    let mut event = envelope();
    event.extensions = (0..33).map(|number| (format!("x{number}"), json!(true))).collect();
    assert_eq!(event.check().unwrap_err().field, "event");
}
