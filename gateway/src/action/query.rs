//! The query of a URI as pairs of text, decoded as HTML forms encode them.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::error::Violation;

/// The decoded pairs in their order; a violation for each that isn't UTF-8.
pub fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Violation>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode(name), decode(value)) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(Violation { field: name.to_owned(), reason: "is not UTF-8".to_owned() }),
        }
    })
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).decode_utf8().ok();
    }
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_as_forms_are() {
        let decoded: Vec<_> = pairs("a=1+2&&b%20c=%C3%A9&d").map(Result::unwrap).collect();
        assert_eq!(decoded, [("a".into(), "1 2".into()), ("b c".into(), "é".into()), ("d".into(), "".into())]);
        assert_eq!(pairs("a=%ff").next().unwrap().unwrap_err().field, "a");
    }
}
