//! What holds for every message and for every body, tried with many of them. The messages travel the whole way: JSON in,
//! protobuf to a service that sends it back, JSON out. The other JSON codec is prost-reflect's, as the judge.

use gateway::error::ErrorKind;
use http::Method;
use proptest::{collection, option, prelude::*, test_runner::TestCaseError};
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use serde::de::DeserializeSeed as _;
use tokio::runtime::Runtime;

use crate::library::{Library, Route, pool, text};

/// A message of the kind, with anything in it that it can hold.
fn any_message(descriptor: &MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    if let Some(well_known) = well_known(descriptor) {
        return well_known;
    }
    let descriptor = descriptor.clone();
    let fields: Vec<_> = descriptor.fields().filter(|field| depth > 0 || !is_recursive(&field.kind())).collect();
    let values: Vec<_> = fields.iter().map(|field| option::weighted(0.3, any_field(field, depth))).collect();
    (values, any::<prop::sample::Index>())
        .prop_map(move |(values, choice)| {
            let mut message = DynamicMessage::new(descriptor.clone());
            let members: Vec<_> =
                fields.iter().filter(|field| is_of_oneof(field)).map(|field| field.number()).collect();
            let chosen = (!members.is_empty()).then(|| *choice.get(&members));
            for (field, value) in fields.iter().zip(values) {
                if let Some(value) = value
                    && (!is_of_oneof(field) || chosen == Some(field.number()))
                {
                    message.set_field(field, value);
                }
            }
            message
        })
        .boxed()
}

fn is_of_oneof(field: &prost_reflect::FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

fn is_recursive(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) if message.is_map_entry() => is_recursive(&message.map_entry_value_field().kind()),
        Kind::Message(message) => message.name() == "Everything",
        _ => false,
    }
}

fn any_field(field: &prost_reflect::FieldDescriptor, depth: u32) -> BoxedStrategy<Value> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let value = any_value(&entry.map_entry_value_field().kind(), depth);
            let key = any_value(&entry.map_entry_key_field().kind(), depth);
            collection::vec((key, value), 0..4)
                .prop_map(|entries| {
                    let entries = entries.into_iter().map(|(key, value)| (key.into_map_key().unwrap(), value));
                    Value::Map(entries.collect::<std::collections::HashMap<MapKey, Value>>())
                })
                .boxed()
        }
        kind if field.is_list() => collection::vec(any_value(&kind, depth), 0..4).prop_map(Value::List).boxed(),
        kind => any_value(&kind, depth),
    }
}

fn any_value(kind: &Kind, depth: u32) -> BoxedStrategy<Value> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::Uint32 | Kind::Fixed32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::Uint64 | Kind::Fixed64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::Float => (any::<f32>()).prop_map(Value::F32).boxed(),
        Kind::Double => (any::<f64>()).prop_map(Value::F64).boxed(),
        Kind::String => ".{0,12}".prop_map(Value::String).boxed(),
        Kind::Bytes => collection::vec(any::<u8>(), 0..12).prop_map(|bytes| Value::Bytes(bytes.into())).boxed(),
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => {
            Just(Value::EnumNumber(0)).boxed()
        }
        // 7 has no name.
        Kind::Enum(_) => prop_oneof![0..3, Just(7)].prop_map(Value::EnumNumber).boxed(),
        Kind::Message(descriptor) => any_message(descriptor, depth.saturating_sub(1)).prop_map(Value::Message).boxed(),
    }
}

/// Messages that JSON writes in a way of their own, made from that.
fn well_known(descriptor: &MessageDescriptor) -> Option<BoxedStrategy<DynamicMessage>> {
    let read =
        |descriptor: MessageDescriptor| move |json: serde_json::Value| descriptor.clone().deserialize(json).unwrap();
    let read = read(descriptor.clone());
    let json: BoxedStrategy<serde_json::Value> = match descriptor.full_name() {
        "google.protobuf.Timestamp" => (1..=9999, 1..=12, 1..=28, 0..60, 0..1_000_000_000)
            .prop_map(|(year, month, day, second, nano)| {
                format!("{year:04}-{month:02}-{day:02}T10:00:{second:02}.{nano:09}Z").into()
            })
            .boxed(),
        "google.protobuf.Duration" => (-315_576_000_000_i64..=315_576_000_000, 0..1_000_000_000)
            .prop_filter("out of range", |(seconds, nanos)| seconds.abs() < 315_576_000_000 || *nanos == 0)
            .prop_map(|(seconds, nanos)| format!("{seconds}.{nanos:09}s").into())
            .boxed(),
        "google.protobuf.FieldMask" => {
            collection::vec("[a-z]{1,4}(\\.[a-z]{1,4})?", 0..3).prop_map(|paths| paths.join(",").into()).boxed()
        }
        "google.protobuf.Value" => any_json().boxed(),
        "google.protobuf.ListValue" => collection::vec(any_json(), 0..3).prop_map(serde_json::Value::from).boxed(),
        "google.protobuf.Struct" => collection::hash_map(".{0,5}", any_json(), 0..3)
            .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
            .boxed(),
        "google.protobuf.Any" => any::<i32>()
            .prop_map(|number| serde_json::json!({"@type": "type.googleapis.com/library.v1.Shelf", "number": number}))
            .boxed(),
        _ => return None,
    };
    Some(json.prop_map(read).boxed())
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        ".{0,6}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| collection::vec(inner, 0..3).prop_map(serde_json::Value::from))
}

fn everything() -> BoxedStrategy<DynamicMessage> {
    any_message(&pool().get_message_by_name("library.v1.Everything").unwrap(), 2)
}

/// prost-reflect's own `Debug` never ends where a message may hold itself.
struct Shown(DynamicMessage);

impl std::fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&serde_json::to_string(&self.0).unwrap_or_default())
    }
}

/// A route that echoes, on a runtime of its own.
fn echo() -> (Runtime, Route) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let route = runtime.block_on(async { Route::new(&Library::echoing().await, Method::POST, "/echo") });
    (runtime, route)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn every_message_comes_back_as_it_went() {
    let (runtime, route) = echo();
    let mut runner = proptest::test_runner::TestRunner::new(config());
    let outcome = runner.run(&everything().prop_map(Shown), |Shown(sent)| {
        let json = serde_json::to_vec(&sent).unwrap();
        let response = runtime.block_on(route.post(json.clone()));
        let response = response
            .map_err(|error| TestCaseError::fail(format!("{error:?} for {}", String::from_utf8_lossy(&json))))?;
        let answer = runtime.block_on(text(response));
        let mut deserializer = serde_json::Deserializer::from_str(&answer);
        let received = DynamicMessage::deserialize(sent.descriptor(), &mut deserializer);
        let received = received.map_err(|error| TestCaseError::fail(format!("{error}: {answer}")))?;
        // As JSON, because a default that is set equals one that isn't.
        prop_assert_eq!(serde_json::to_value(received).unwrap(), serde_json::to_value(sent).unwrap());
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// A parameter of a query with the member of JSON that says the same.
fn any_parameter() -> BoxedStrategy<(&'static str, String, serde_json::Value)> {
    let text = |name| ".{0,8}".prop_map(move |text: String| (name, text.clone(), text.into()));
    prop_oneof![
        any::<i32>().prop_map(|value| ("int32", value.to_string(), value.into())),
        any::<i64>().prop_map(|value| ("int64", value.to_string(), value.to_string().into())),
        any::<u64>().prop_map(|value| ("uint64", value.to_string(), value.to_string().into())),
        any::<bool>().prop_map(|value| ("bool", value.to_string(), value.into())),
        any::<i32>().prop_map(|value| (
            "double",
            format!("{value}.5"),
            (f64::from(value).signum() * (f64::from(value).abs() + 0.5)).into()
        )),
        text("text"),
        text("wrapped_text"),
        prop::sample::select(vec![("NOVEL", 1), ("ESSAY", 2)]).prop_map(|(name, value)| (
            "genre",
            name.to_owned(),
            value.into()
        )),
        (0..3).prop_map(|value: i32| ("genre", value.to_string(), value.into())),
        any::<i64>().prop_map(|value| ("wrapped_int64", value.to_string(), value.to_string().into())),
        (0..60_u32).prop_map(|second| {
            let time = format!("2026-11-21T10:00:{second:02}Z");
            ("timestamp", time.clone(), time.into())
        }),
        any::<i32>().prop_map(|value| ("maybe", value.to_string(), value.into())),
    ]
    .boxed()
}

#[test]
fn a_query_says_what_the_same_json_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let route = runtime.block_on(async { Route::new(&Library::echoing().await, Method::GET, "/echo") });
    let descriptor = pool().get_message_by_name("library.v1.Everything").unwrap();
    let parameters = (
        collection::vec(any_parameter(), 0..6),
        collection::vec(any_parameter(), 0..4),
        collection::vec(any::<i64>(), 0..4),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 512, ..config() });
    let outcome = runner.run(&parameters, |(own, nested, numbers)| {
        let mut pairs = Vec::new();
        let mut members = [serde_json::Map::new(), serde_json::Map::new()];
        for (at, (prefix, parameters)) in [("", own), ("nested.", nested)].into_iter().enumerate() {
            for (name, text, value) in parameters {
                // A singular field is given once.
                if !members[at].contains_key(name) {
                    let text = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
                    pairs.push(format!("{prefix}{name}={text}"));
                    members[at].insert(name.to_owned(), value);
                }
            }
        }
        let [mut json, nested] = members;
        if !nested.is_empty() {
            json.insert("nested".to_owned(), nested.into());
        }
        pairs.extend(numbers.iter().map(|number| format!("numbers={number}")));
        json.insert("numbers".to_owned(), numbers.into());
        let uri = format!("/echo?{}", pairs.join("&"));
        let response = runtime.block_on(route.send(&uri, &[], &[], ""));
        let response = response.map_err(|error| TestCaseError::fail(format!("{error:?} for {uri}")))?;
        let answer: serde_json::Value = serde_json::from_str(&runtime.block_on(text(response))).unwrap();
        let read = |json: serde_json::Value| descriptor.clone().deserialize(json).unwrap();
        let (received, expected) = (read(answer), read(json.into()));
        prop_assert_eq!(serde_json::to_value(received).unwrap(), serde_json::to_value(expected).unwrap(), "{}", uri);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// Bytes, JSON that is no message, and messages with a piece replaced.
fn hostile() -> BoxedStrategy<Vec<u8>> {
    let piece = prop_oneof![
        collection::vec(any::<u8>(), 0..4),
        Just(b"null".to_vec()),
        Just(b"{}".to_vec()),
        Just(b"[[[[".to_vec()),
        Just(b"1e400".to_vec()),
        Just(b"123456789012345678901234567890".to_vec()),
        Just(b"\"\\ud800\"".to_vec()),
        Just(b"\"@type\":\"x/google.protobuf.Any\",".to_vec()),
    ];
    let spliced =
        (everything(), any::<prop::sample::Index>(), 0..8_usize, piece).prop_map(|(message, at, length, piece)| {
            let mut json = serde_json::to_vec(&message).unwrap();
            let start = at.index(json.len());
            let end = (start + length).min(json.len());
            json.splice(start..end, piece);
            json
        });
    prop_oneof![
        1 => collection::vec(any::<u8>(), 1..64),
        1 => any_json().prop_map(|json| json.to_string().into_bytes()),
        4 => spliced,
    ]
    .boxed()
}

#[test]
fn no_body_is_anything_but_taken_or_refused_as_the_clients_fault() {
    let (runtime, route) = echo();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 512, ..config() });
    let outcome = runner.run(&hostile(), |body| match runtime.block_on(route.post(body)) {
        Ok(_) => Ok(()),
        Err(error) => {
            prop_assert!(matches!(error.kind, ErrorKind::BadRequest | ErrorKind::Invalid), "{:?}", error);
            Ok(())
        }
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_a_peer_could_trip_over_is_refused() {
    let (runtime, route) = echo();
    let any = |inner: &str| format!(r#"{{"any": {{"@type": "type.googleapis.com/{inner}", "value": {{}}}}}}"#);
    for body in [
        "[".repeat(100_000),
        "{\"nested\":".repeat(100_000),
        format!("{{\"int64\": {}}}", "9".repeat(100_000)),
        format!("{{\"double\": 1{}}}", "0".repeat(400)),
        "{\"text\": \"a\", \"text\": \"b\"}".to_owned(),
        "{\"wrappedText\": \"a\", \"wrapped_text\": \"b\"}".to_owned(),
        "{\"counts\": {\"a\": 1, \"a\": 2}}".to_owned(),
        "{\"byNumber\": {\"1\": {}, \"1.0\": {}}}".to_owned(),
        "{\"timestamp\": \"10000-01-01T00:00:00Z\"}".to_owned(),
        "{\"duration\": \"315576000001s\"}".to_owned(),
        "{\"mask\": \"a_b\"}".to_owned(),
        any("library.v1.Nothing"),
        any("library.v1.Shelf"),
        "{\"any\": {}}".to_owned(),
        "{\"empty\": {\"a\": 1}}".to_owned(),
        "{\"null\": 0.5}".to_owned(),
    ] {
        let shown: String = body.chars().take(60).collect();
        let error = runtime.block_on(route.post(body)).err().unwrap_or_else(|| panic!("{shown} was taken"));
        assert!(matches!(error.kind, ErrorKind::BadRequest | ErrorKind::Invalid), "{shown}: {error:?}");
    }
}
