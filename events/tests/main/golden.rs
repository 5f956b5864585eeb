use events::{Data, Envelope};
use serde_json::{Value, json};
use time::macros::datetime;

fn golden(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn read(name: &str) -> Envelope {
    serde_json::from_str(&golden(name)).unwrap()
}

#[test]
fn a_golden_file_is_written_as_it_was_read() {
    for name in ["full", "minimal", "binary", "unknown_extension"] {
        let written = serde_json::to_value(read(name)).unwrap();
        let expected: Value = serde_json::from_str(&golden(name)).unwrap();
        assert_eq!(written, expected, "{name}");
    }
}

#[test]
fn every_attribute_is_read() {
    let full = read("full");
    assert_eq!((full.queue.as_str(), full.event.as_str()), ("DB", "UPDATE"));
    assert_eq!(full.subject.as_deref(), Some("products/42"));
    assert_eq!(full.time, datetime!(2026-03-01 12:30:00.123456 UTC));
    assert_eq!(full.recordedtime, Some(datetime!(2026-03-01 12:30:00.2 UTC)));
    assert_eq!((full.sequence, full.cursor.as_deref()), (Some(1207), Some("AAAAAAAAAAE")));
    assert_eq!(full.expirytime, Some(datetime!(2026-03-08 12:30 UTC)));
    assert_eq!(full.deliverytime, Some(datetime!(2026-03-01 10:31 UTC)));
    assert_eq!((full.priority, full.expectedversion), (7, Some(1206)));
    assert_eq!((full.owner.as_deref(), full.replyto.as_deref()), (Some("customers/7"), Some("RECEIPT")));
    assert_eq!(full.json().unwrap()["price"]["units"], 1999);
    assert!(full.extensions.is_empty());
}

#[test]
fn binary_data_is_decoded() {
    let binary = read("binary");
    assert_eq!(binary.data, Some(Data::Binary(b"\x89PNG\r\n\x1a\n".to_vec())));
    assert_eq!(binary.datacontenttype.as_deref(), Some("image/png"));
    assert_eq!(binary.json(), None);
}

#[test]
fn an_unknown_attribute_is_kept() {
    let extended = read("unknown_extension");
    assert_eq!(extended.extensions["warehouse"], "Malmö");
    assert_eq!(extended.extensions["rack"], 17);
    assert_eq!(extended.extensions["dangerous"], false);
}

#[test]
fn what_an_older_writer_left_out_has_its_default() {
    let old = read("from_an_older_writer");
    assert_eq!(old.r#type, "turnpike.db.create");
    assert_eq!(old.priority, 4);
    assert_eq!(old.owner, None);
    assert_eq!(old.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(old.key(), "carts/7");
}

#[test]
fn a_producer_can_not_stamp_what_the_bus_stamps() {
    let parsed = Envelope::parse(golden("full").as_bytes()).unwrap();
    assert_eq!((parsed.recordedtime, parsed.sequence, parsed.cursor), (None, None, None));
    assert_eq!(parsed.id, "01926f3a-7c1e-7b5a-9f64-3a1f3f0c9d21");
}

#[test]
fn the_shorthand_is_a_new_event_of_its_source() {
    let event =
        Envelope::parse_shorthand("/clients/alice", br#"{"queue":"DB","event":"CREATE","payload":{"a":1}}"#).unwrap();
    assert_eq!(event.source, "/clients/alice");
    assert_eq!(event.r#type, "turnpike.db.create");
    assert_eq!(event.json(), Some(&json!({ "a": 1 })));
    assert_eq!(event.key(), event.id);
    let refused = Envelope::parse_shorthand("/clients/alice", br#"{"queue":"DB","event":"CREATE","data":{}}"#);
    assert_eq!(refused.unwrap_err().field, "data");
}
