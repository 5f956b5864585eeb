use events::{Data, Envelope};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::envelope;

#[test]
fn a_new_event_has_its_defaults() {
    let before = OffsetDateTime::now_utc();
    let (one, other) = (envelope(), envelope());
    assert!(one.id < other.id, "UUIDv7 sorts by time");
    assert_eq!((one.r#type.as_str(), one.priority), ("turnpike.db.create", 4));
    assert!((one.time - before).abs() < time::Duration::seconds(60));
    assert_eq!(one.time.nanosecond() % 1_000, 0);
    assert_eq!(one.check(), Ok(()));
}

#[test]
fn a_caused_event_belongs_to_the_correlation_of_its_cause() {
    let first = envelope();
    let second = envelope().caused_by(&first);
    let third = envelope().caused_by(&second);
    assert_eq!(third.causationid.as_deref(), Some(second.id.as_str()));
    assert_eq!(third.correlationid.as_deref(), Some(first.id.as_str()));
}

fn data() -> impl Strategy<Value = Option<Data>> {
    prop_oneof![
        Just(None),
        "\\PC{0,20}".prop_map(|text| Some(Data::Json(json!({ "text": text, "list": [1, true] })))),
        vec(any::<u8>(), 0..50).prop_map(|bytes| Some(Data::Binary(bytes))),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        id in "[A-Za-z0-9_:-]{1,128}",
        subject in option::of("\\PC{1,40}"),
        micros in 0..4_000_000_000_000_000_i64,
        sequence in option::of(any::<u64>()),
        priority in 0..=9_u8,
        extension in option::of(("x[a-z0-9]{1,10}", any::<i32>())),
        data in data(),
    ) {
        let mut event = envelope().id(id).priority(priority);
        event.subject = subject;
        event.time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap();
        event.recordedtime = Some(event.time);
        event.sequence = sequence;
        event.extensions = extension.into_iter().map(|(name, value)| (name, json!(value))).collect();
        event.datacontenttype = data.as_ref().map(|_| "application/json".to_owned());
        event.data = data;
        let written = serde_json::to_string(&event).unwrap();
        let members: Value = serde_json::from_str(&written).unwrap();
        prop_assert!(members.as_object().unwrap().values().all(|value| !value.is_null()));
        prop_assert_eq!(serde_json::from_str::<Envelope>(&written).unwrap(), event);
    }

    #[test]
    fn no_input_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = Envelope::parse(text.as_bytes());
        let _ = Envelope::parse_shorthand("/clients/alice", text.as_bytes());
    }
}
