//! A single value as text, as it stands in a path, in a query or in a JSON string: `42`, `true`, `RED`, `1.5s`.

use std::str::FromStr;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor, Value};
use serde::de::{IntoDeserializer as _, value::Error as TextError};

/// The largest whole number up to which every one is a double: 2⁵³.
const EXACT: f64 = 9_007_199_254_740_992.0;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    // As protobuf's own conformance cases want it.
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Reads a value of a kind.
///
/// # Errors
/// What the text must be: `must be true or false`.
pub fn parse(kind: &Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => boolean(text).map(Value::Bool),
        Kind::Bytes => bytes(text).map(Value::Bytes),
        Kind::Enum(descriptor) => enumeration(descriptor, text).map(Value::EnumNumber),
        Kind::Message(descriptor) => message(descriptor, text).map(Value::Message),
        _ => number(kind, text),
    }
}

/// Whether JSON writes the message as a string or as a bare scalar.
pub fn is_written_as_text(descriptor: &MessageDescriptor) -> bool {
    wrapped(descriptor).is_some()
        || matches!(
            descriptor.full_name(),
            "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask"
        )
}

/// The kind within a wrapper message such as `google.protobuf.Int32Value`.
pub fn wrapped(descriptor: &MessageDescriptor) -> Option<Kind> {
    let name = descriptor.full_name().strip_prefix("google.protobuf.")?;
    let wrapper = ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"];
    let is_wrapper = name.strip_suffix("Value").is_some_and(|name| wrapper.contains(&name));
    is_wrapper.then(|| descriptor.get_field(1).map(|field| field.kind()))?
}

/// A wrapper message around its value.
pub fn wrap(descriptor: &MessageDescriptor, value: Value) -> Result<DynamicMessage, String> {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.try_set_field_by_number(1, value).map_err(|_| "is of another kind".to_owned())?;
    Ok(message)
}

pub fn bytes(text: &str) -> Result<Bytes, String> {
    base64_of(text.as_bytes()).decode(text).map(Bytes::from).map_err(|_| "must be base64".to_owned())
}

/// What decodes the text: either alphabet is taken, with or without padding.
pub fn base64_of(text: &[u8]) -> &'static GeneralPurpose {
    if text.iter().any(|byte| matches!(byte, b'-' | b'_')) { &URL_SAFE } else { &STANDARD }
}

pub fn enumeration(descriptor: &EnumDescriptor, text: &str) -> Result<i32, String> {
    let named = descriptor.get_value_by_name(text).map(|value| value.number());
    named.or_else(|| whole(text).ok()).ok_or_else(|| {
        let names: Vec<_> = descriptor.values().take(16).map(|value| value.name().to_owned()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// A whole number of a floating-point form (`1e3`, `2.0`), where that form is exact.
pub fn from_float<T: TryFrom<i64>>(kind: &Kind, value: f64) -> Result<T, String> {
    exactly(value).and_then(|whole| T::try_from(whole).ok()).ok_or_else(|| expected(kind))
}

/// The whole number that a double is, if it surely is the one that was meant.
pub fn exactly(value: f64) -> Option<i64> {
    let exact = value.fract() == 0.0 && value.abs() <= EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within 2⁵³")]
    exact.then_some(value as i64)
}

/// What a number of the kind must be.
pub fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "must be a whole number of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "must be a whole number of 64 bits",
        Kind::Uint32 | Kind::Fixed32 => "must be a whole number of 32 bits, 0 or more",
        Kind::Uint64 | Kind::Fixed64 => "must be a whole number of 64 bits, 0 or more",
        Kind::Float => "must be a number within the range of a 32-bit float",
        Kind::Double => "must be a number",
        Kind::Bool => "must be true or false",
        Kind::String => "must be a string",
        Kind::Bytes => "must be a string of base64",
        Kind::Enum(_) => "must be the name or the number of an enum value",
        Kind::Message(descriptor) => match descriptor.full_name() {
            "google.protobuf.Timestamp" => "must be a time such as 2026-11-21T10:00:00Z",
            "google.protobuf.Duration" => "must be a duration in seconds such as 1.5s",
            "google.protobuf.FieldMask" => "must be names of fields, separated by commas",
            "google.protobuf.ListValue" => "must be an array",
            _ => return wrapped(descriptor).map_or_else(|| "must be an object".to_owned(), |kind| expected(&kind)),
        },
    }
    .to_owned()
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| expected(&Kind::Bool))
}

fn message(descriptor: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    if let Some(kind) = wrapped(descriptor) {
        return wrap(descriptor, parse(&kind, text)?);
    }
    if !is_written_as_text(descriptor) {
        return Err("is a message, which can't be given here".to_owned());
    }
    let text: serde::de::value::StrDeserializer<'_, TextError> = text.into_deserializer();
    DynamicMessage::deserialize(descriptor.clone(), text).map_err(|_| expected(&Kind::Message(descriptor.clone())))
}

fn number(kind: &Kind, text: &str) -> Result<Value, String> {
    let value = match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(kind, text).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(kind, text).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(kind, text).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(kind, text).map(Value::U64),
        Kind::Float => float(kind, text).and_then(|value| narrow(value).map(Value::F32)),
        _ => float(kind, text).map(Value::F64),
    }?;
    Ok(value)
}

/// A 32-bit float, unless the number is too large for one.
pub fn narrow(value: f64) -> Result<f32, String> {
    #[expect(clippy::cast_possible_truncation, reason = "precision may go, a finite number may not become infinite")]
    let narrowed = value as f32;
    if narrowed.is_infinite() && value.is_finite() { Err(expected(&Kind::Float)) } else { Ok(narrowed) }
}

fn integer<T: FromStr + TryFrom<i64>>(kind: &Kind, text: &str) -> Result<T, String> {
    if let Ok(value) = whole(text) {
        return Ok(value);
    }
    if !text.contains(['.', 'e', 'E']) {
        return Err(expected(kind));
    }
    from_float(kind, float(kind, text)?)
}

/// `FromStr` of Rust takes a plus sign, which neither JSON nor protobuf does.
fn whole<T: FromStr>(text: &str) -> Result<T, ()> {
    if text.starts_with('+') { Err(()) } else { text.parse().map_err(|_| ()) }
}

fn float(kind: &Kind, text: &str) -> Result<f64, String> {
    match text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        // `FromStr` also takes `inf`, `nan` and numbers that overflow to infinity.
        _ => whole::<f64>(text).ok().filter(|value| value.is_finite()).ok_or_else(|| expected(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_or_refused() {
        assert_eq!(parse(&Kind::Int64, "9223372036854775807"), Ok(Value::I64(i64::MAX)));
        assert_eq!(parse(&Kind::Int32, "1e3"), Ok(Value::I32(1000)));
        assert_eq!(parse(&Kind::Uint64, "18446744073709551615"), Ok(Value::U64(u64::MAX)));
        for (kind, text) in [
            (Kind::Int64, "9223372036854775808"),
            (Kind::Int64, "-9223372036854775809.0"),
            (Kind::Int32, "+1"),
            (Kind::Int32, " 1"),
            (Kind::Int32, "1.5"),
            (Kind::Int32, ""),
            (Kind::Uint32, "-1"),
            (Kind::Uint32, "4294967296"),
        ] {
            assert!(parse(&kind, text).is_err(), "{kind:?} {text}");
        }
    }

    #[test]
    fn floats_have_three_names_and_no_others() {
        assert_eq!(parse(&Kind::Double, "-Infinity"), Ok(Value::F64(f64::NEG_INFINITY)));
        for text in ["inf", "nan", "infinity", "1e999", "+1", "0x10"] {
            assert!(parse(&Kind::Double, text).is_err(), "{text}");
        }
        assert!(parse(&Kind::Float, "1e39").is_err());
    }

    #[test]
    fn bytes_are_base64_of_either_alphabet() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(parse(&Kind::Bytes, text), Ok(Value::Bytes(Bytes::from_static(&[0xfb, 0xff]))), "{text}");
        }
        assert!(parse(&Kind::Bytes, "a").is_err());
        assert!(parse(&Kind::Bytes, "+_8=").is_err());
    }
}
