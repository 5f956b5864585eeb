//! Query parameters: each comes once, and one that nobody asks for is refused by its name.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{duration, problem::Problem};

/// The parameters that were not taken yet.
pub(crate) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        Ok(Self(pairs.map(|Query(pairs)| pairs).unwrap_or_default()))
    }
}

impl Parameters {
    /// A parameter's text, which must not be empty.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(at) = self.0.iter().position(|(given, _)| given == name) else { return Ok(None) };
        let (_, value) = self.0.remove(at);
        if self.0.iter().any(|(given, _)| given == name) {
            return Err(refuse(name, "is given twice"));
        }
        if value.is_empty() {
            return Err(refuse(name, "must not be empty"));
        }
        // No name, cursor or text has one, and PostgreSQL takes none.
        if value.contains('\0') {
            return Err(refuse(name, "has a NUL"));
        }
        Ok(Some(value))
    }

    /// `1` or `true`, `0` or `false`; absent it is false.
    pub fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.text(name)?.as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(refuse(name, "must be true or false")),
        }
    }

    /// A duration such as `5s`, at most the longest.
    pub fn duration(&mut self, name: &str, longest: Duration) -> Result<Option<Duration>, Problem> {
        self.text(name)?.map(|text| duration(name, &text, longest)).transpose()
    }

    /// How many of a list; 1 to 1,000, else 100.
    pub fn limit(&mut self) -> Result<usize, Problem> {
        let Some(text) = self.text("limit")? else { return Ok(100) };
        let limit = text.parse().ok().filter(|limit| (1..=1000).contains(limit));
        limit.ok_or_else(|| refuse("limit", "must be 1 to 1000"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    /// A number, 0 or more.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| refuse(name, "must be a number, 0 or more"))
    }

    /// A time as in RFC 3339.
    pub fn time(&mut self, name: &str) -> Result<Option<OffsetDateTime>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        OffsetDateTime::parse(&text, &Rfc3339).map(Some).map_err(|_| refuse(name, "must be a time as in RFC 3339"))
    }

    /// Refuses what is left; `known` says what there is.
    pub fn done(self, known: &str) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(refuse(&name, format!("is not known here: {known}"))),
        }
    }
}

/// A duration such as `5s`, at most the longest.
pub(crate) fn duration(name: &str, text: &str, longest: Duration) -> Result<Duration, Problem> {
    let duration = duration::parse(text).filter(|duration| *duration <= longest);
    duration.ok_or_else(|| {
        refuse(name, format!("must be a duration such as 500ms or 5s, at most {}", duration::text(longest)))
    })
}

/// A parameter, member or header field that is not what it must be.
pub(crate) fn refuse(name: &str, reason: impl std::fmt::Display) -> Problem {
    Problem::invalid(format!("{name}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_parameter_is_taken_once() {
        let mut given = parameters(&[("confirm", "stored"), ("timeout", "5s")]);
        assert_eq!(given.text("confirm").unwrap().as_deref(), Some("stored"));
        assert_eq!(given.duration("timeout", Duration::from_secs(60)).unwrap(), Some(Duration::from_secs(5)));
        assert!(given.done("confirm, timeout").is_ok());
    }

    #[test]
    fn what_is_given_twice_or_empty_or_unknown_is_refused() {
        assert!(parameters(&[("confirm", "stored"), ("confirm", "stored")]).text("confirm").is_err());
        assert!(parameters(&[("confirm", "")]).text("confirm").is_err());
        assert!(parameters(&[("colour", "red")]).done("confirm").is_err());
        for (name, value) in [("timeout", "61s"), ("timeout", "-1s"), ("timeout", "soon"), ("timeout", "5")] {
            assert!(parameters(&[(name, value)]).duration(name, Duration::from_secs(60)).is_err(), "{value}");
        }
        for limit in ["0", "1001", "-1", "ten"] {
            assert!(parameters(&[("limit", limit)]).limit().is_err(), "{limit}");
        }
    }
}
