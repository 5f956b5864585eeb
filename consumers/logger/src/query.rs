//! What may be asked, read from a query string; what can't be understood is refused by its name.

use events::Name;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const DEFAULT_LIMIT: i64 = 100;
const LARGEST_LIMIT: i64 = 500;

/// `queue`, `event`, `source`; `from` (its whole minute) up to, not including, `to`.
#[derive(Debug, Default)]
pub(crate) struct SummaryQuery {
    pub queue: Option<Name>,
    pub event: Option<Name>,
    pub source: Option<String>,
    pub from: Option<OffsetDateTime>,
    pub to: Option<OffsetDateTime>,
}

/// `queue`, `event`, `subject`; at most `limit` (1 to 500, else 100) whose `seq` is below `before`.
#[derive(Debug)]
pub(crate) struct EventQuery {
    pub queue: Option<Name>,
    pub event: Option<Name>,
    pub subject: Option<String>,
    pub limit: i64,
    pub before: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct QueryError {
    pub field: String,
    pub reason: String,
}

type Pairs = Vec<(String, String)>;

impl SummaryQuery {
    pub fn parse(pairs: Pairs) -> Result<Self, QueryError> {
        let mut query = Self::default();
        for (field, value) in pairs {
            match field.as_str() {
                "queue" => once(&mut query.queue, &field, name(&field, &value)?)?,
                "event" => once(&mut query.event, &field, name(&field, &value)?)?,
                "source" => once(&mut query.source, &field, text(&field, value)?)?,
                "from" => once(&mut query.from, &field, time(&field, &value)?)?,
                "to" => once(&mut query.to, &field, time(&field, &value)?)?,
                _ => return Err(refuse(&field, "is not known: queue, event, source, from, to")),
            }
        }
        if let (Some(from), Some(to)) = (query.from, query.to)
            && from >= to
        {
            return Err(refuse("to", "must be after from"));
        }
        Ok(query)
    }
}

impl EventQuery {
    pub fn parse(pairs: Pairs) -> Result<Self, QueryError> {
        let (mut limit, mut before) = (None, None);
        let (mut queue, mut event, mut subject) = (None, None, None);
        for (field, value) in pairs {
            match field.as_str() {
                "queue" => once(&mut queue, &field, name(&field, &value)?)?,
                "event" => once(&mut event, &field, name(&field, &value)?)?,
                "subject" => once(&mut subject, &field, text(&field, value)?)?,
                "limit" => once(&mut limit, &field, number(&field, &value, LARGEST_LIMIT)?)?,
                "before" => once(&mut before, &field, number(&field, &value, i64::MAX)?)?,
                _ => return Err(refuse(&field, "is not known: queue, event, subject, limit, before")),
            }
        }
        Ok(Self { queue, event, subject, limit: limit.unwrap_or(DEFAULT_LIMIT), before })
    }
}

fn once<T>(slot: &mut Option<T>, field: &str, value: T) -> Result<(), QueryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(refuse(field, "is given twice")),
    }
}

fn name(field: &str, value: &str) -> Result<Name, QueryError> {
    Name::new(value).map_err(|error| refuse(field, error.to_string()))
}

fn text(field: &str, value: String) -> Result<String, QueryError> {
    if value.is_empty() || value.len() > 2048 || value.contains('\0') {
        return Err(refuse(field, "must be 1 to 2048 bytes of text"));
    }
    Ok(value)
}

fn time(field: &str, value: &str) -> Result<OffsetDateTime, QueryError> {
    OffsetDateTime::parse(value, &Rfc3339).map_err(|_| refuse(field, "must be a time as in RFC 3339"))
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

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (field, value) in
            [("queue", "db"), ("event", ""), ("source", ""), ("from", "today"), ("to", "2026-03-01"), ("colour", "red")]
        {
            let refused = SummaryQuery::parse(pairs(&[(field, value)])).unwrap_err();
            assert_eq!(refused.field, field);
        }
        for (field, value) in
            [("limit", "0"), ("limit", "501"), ("limit", "ten"), ("before", "0"), ("before", "-1"), ("from", "x")]
        {
            let refused = EventQuery::parse(pairs(&[(field, value)])).unwrap_err();
            assert_eq!(refused.field, field);
        }
    }

    #[test]
    fn a_parameter_comes_once() {
        let refused = EventQuery::parse(pairs(&[("queue", "DB"), ("queue", "DB")])).unwrap_err();
        assert_eq!(refused, refuse("queue", "is given twice"));
    }

    #[test]
    fn a_time_that_ends_before_it_begins_is_refused() {
        let times = [("from", "2026-03-01T12:00:00Z"), ("to", "2026-03-01T12:00:00Z")];
        assert_eq!(SummaryQuery::parse(pairs(&times)).unwrap_err().field, "to");
    }

    #[test]
    fn nothing_asked_is_the_newest_hundred() {
        let query = EventQuery::parse(Vec::new()).unwrap();
        assert_eq!((query.limit, query.before), (100, None));
    }
}
