//! What may be asked of the ledger, read from a query string; what can't be understood is refused by its name.

use crate::template::clean;

const DEFAULT_LIMIT: i64 = 100;
const LARGEST_LIMIT: i64 = 500;
const STATES: [&str; 5] = ["intended", "sent", "failed", "held", "covered"];

/// `state`, `recipient`, `rule`, `event` (its id); at most `limit` (1 to 500, else 100) whose `seq` is below `before`.
#[derive(Debug)]
pub(crate) struct MessageQuery {
    pub state: Option<String>,
    pub recipient: Option<String>,
    pub rule: Option<String>,
    pub event: Option<String>,
    pub limit: i64,
    pub before: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct QueryError {
    pub field: String,
    pub reason: String,
}

impl MessageQuery {
    pub fn parse(pairs: Vec<(String, String)>) -> Result<Self, QueryError> {
        let (mut limit, mut before) = (None, None);
        let (mut state, mut recipient, mut rule, mut event) = (None, None, None, None);
        for (field, value) in pairs {
            match field.as_str() {
                "state" if STATES.contains(&value.as_str()) => once(&mut state, &field, value)?,
                "state" => return Err(refuse(&field, format!("must be one of {}", STATES.join(", ")))),
                "recipient" => once(&mut recipient, &field, text(&field, value)?)?,
                "rule" => once(&mut rule, &field, text(&field, value)?)?,
                "event" => once(&mut event, &field, text(&field, value)?)?,
                "limit" => once(&mut limit, &field, number(&field, &value, LARGEST_LIMIT)?)?,
                "before" => once(&mut before, &field, number(&field, &value, i64::MAX)?)?,
                _ => return Err(refuse(&field, "is not known: state, recipient, rule, event, limit, before")),
            }
        }
        Ok(Self { state, recipient, rule, event, limit: limit.unwrap_or(DEFAULT_LIMIT), before })
    }
}

fn once<T>(slot: &mut Option<T>, field: &str, value: T) -> Result<(), QueryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(refuse(field, "is given twice")),
    }
}

fn text(field: &str, value: String) -> Result<String, QueryError> {
    if value.is_empty() || value.len() > 256 || clean(&value) != value {
        return Err(refuse(field, "must be 1 to 256 bytes of text"));
    }
    Ok(value)
}

fn number(field: &str, value: &str, largest: i64) -> Result<i64, QueryError> {
    let number = value.parse().ok().filter(|number| (1..=largest).contains(number));
    number.ok_or_else(|| refuse(field, format!("must be 1 to {largest}")))
}

fn refuse(field: &str, reason: impl Into<String>) -> QueryError {
    QueryError { field: field.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_parameter_is_named() {
        let parse = |pairs: &[(&str, &str)]| {
            MessageQuery::parse(pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect())
        };
        for (field, value) in
            [("state", "lost"), ("rule", ""), ("recipient", "a\0"), ("limit", "0"), ("before", "-1"), ("colour", "red")]
        {
            assert_eq!(parse(&[(field, value)]).unwrap_err().field, field);
        }
        assert_eq!(parse(&[("rule", "a"), ("rule", "b")]).unwrap_err().reason, "is given twice");
        assert_eq!(parse(&[]).unwrap().limit, DEFAULT_LIMIT);
    }
}
