//! Where a database is.

use std::fmt;

use crate::Error;

/// `sqlite:PATH` (a file, made if missing) or `postgres://user@host:port/database`. Printed without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) enum Location<'a> {
    File(&'a str),
    Server(&'a str),
}

impl Url {
    /// Of a SQLite file.
    pub fn sqlite(path: impl AsRef<std::path::Path>) -> Self {
        Self(format!("sqlite:{}", path.as_ref().display()))
    }

    pub(crate) fn location(&self) -> Result<Location<'_>, Error> {
        if self.0.starts_with("postgres://") || self.0.starts_with("postgresql://") {
            return Ok(Location::Server(&self.0));
        }
        match self.0.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
            Some(path) if !path.is_empty() && path != ":memory:" => Ok(Location::File(path)),
            _ => Err(Error::Query(format!("{self}: neither sqlite:PATH nor postgres://user@host:port/database"))),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.0.split_once("://").and_then(|(scheme, rest)| {
            let (login, place) = rest.rsplit_once('@')?;
            let (user, _) = login.split_once(':')?;
            Some((scheme, user, place))
        });
        match secret {
            Some((scheme, user, place)) => write!(f, "{scheme}://{user}:…@{place}"),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let url = Url("postgres://shop:pa@ss@db:5432/shop".to_owned());
        assert_eq!(format!("{url} {url:?}"), "postgres://shop:…@db:5432/shop Url(postgres://shop:…@db:5432/shop)");
        assert_eq!(Url::sqlite("/tmp/a.db").to_string(), "sqlite:/tmp/a.db");
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for text in ["", "sqlite:", "sqlite::memory:", "mysql://a@b/c", "/tmp/a.db"] {
            assert!(matches!(Url(text.to_owned()).location(), Err(Error::Query(_))), "{text}");
        }
    }
}
