//! Which events a client asks for: `DB/*`, `*/CREATE`, `DB/{CREATE,UPDATE}`, `DB/*[data.status=NEW]`, or several of them
//! with a comma between. The grammar of each is [`events::Pattern`]'s.

use std::{fmt, str::FromStr};

use events::{FilterError, Pattern};

/// The most terms of a filter.
const MOST: usize = 64;
/// The longest text of a filter: it is kept, and listed, with each connection that follows it.
const MOST_BYTES: usize = 4096;

/// What is asked for: any of its terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub terms: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoFilter {
    #[error("a filter has at most {MOST_BYTES} bytes")]
    TooLong,
    #[error("a filter has at most {MOST} terms")]
    TooMany,
    #[error(transparent)]
    Term(#[from] FilterError),
}

impl From<events::Filter> for Filter {
    fn from(filter: events::Filter) -> Self {
        Self { terms: vec![filter.into()] }
    }
}

impl FromStr for Filter {
    type Err = NoFilter;

    fn from_str(text: &str) -> Result<Self, NoFilter> {
        if text.len() > MOST_BYTES {
            return Err(NoFilter::TooLong);
        }
        let terms = Pattern::list(text)?;
        if terms.len() > MOST { Err(NoFilter::TooMany) } else { Ok(Self { terms }) }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap()
    }

    #[test]
    fn a_filter_survives_its_text_form() {
        for text in
            ["DB/*", "*/*", "*/CREATE", "DB/{CREATE,UPDATE}", "DB/{CREATE,UPDATE}[id=\"a,b\"],ORDERS/*,*/DELETE"]
        {
            assert_eq!(filter(text).to_string(), text);
        }
        assert_eq!(filter("DB/{A,B},C/*").terms.len(), 2);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let many = vec!["DB/*"; MOST + 1].join(",");
        let long = vec![format!("DB/{{{}}}", vec!["A".repeat(64); MOST].join(",")); MOST].join(",");
        for text in ["", "DB", "db/*", "DB/", "DB/*,", "DB/{}", "DB/{A", "DB/{A,*}", "DB/A/B", "*", &many, &long] {
            assert!(text.parse::<Filter>().is_err(), "{text:.40}");
        }
    }
}
