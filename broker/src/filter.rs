//! Which events a client asks for: `DB/*`, `*/CREATE`, `*/*`, `DB/{CREATE,UPDATE}`, or several of them with a comma between.

use std::{fmt, str::FromStr};

use events::Name;

/// The most terms of a filter, and the most events a term names.
const MOST: usize = 64;
/// The longest text of a filter: it is kept, and listed, with each connection that follows it.
const MOST_BYTES: usize = 4096;

/// What is asked for: any of its terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub terms: Vec<Term>,
}

/// One queue's events, or those of every queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// None: every queue.
    pub queue: Option<Name>,
    /// None: every event.
    pub events: Option<Vec<Name>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FilterError(String);

impl Term {
    pub(crate) fn matches(&self, queue: &Name, event: &Name) -> bool {
        self.queue.as_ref().is_none_or(|own| own == queue)
            && self.events.as_ref().is_none_or(|events| events.contains(event))
    }

    /// Whether it takes everything that the other takes.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let queue = self.queue.is_none() || self.queue == other.queue;
        let events = match (&self.events, &other.events) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|event| own.contains(event)),
        };
        queue && events
    }
}

impl From<events::Filter> for Filter {
    fn from(filter: events::Filter) -> Self {
        Self { terms: vec![Term { queue: Some(filter.queue), events: filter.events }] }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > MOST_BYTES {
            return Err(FilterError(format!("a filter has at most {MOST_BYTES} bytes")));
        }
        let terms = split(text).map(str::parse).collect::<Result<Vec<Term>, _>>()?;
        if terms.len() > MOST {
            return Err(FilterError(format!("a filter has at most {MOST} terms")));
        }
        Ok(Self { terms })
    }
}

impl FromStr for Term {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let refuse = |reason: String| FilterError(format!("{text:?} is not a filter: {reason}"));
        let name = |text: &str| Name::new(text).map_err(|error| refuse(error.to_string()));
        let (queue, events) =
            text.split_once('/').ok_or_else(|| refuse("it is QUEUE/EVENT, with * for any".to_owned()))?;
        let queue = if queue == "*" { None } else { Some(name(queue)?) };
        let events = match events.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(list) => Some(list.split(',').map(name).collect::<Result<Vec<_>, _>>()?),
            None if events == "*" => None,
            None => Some(vec![name(events)?]),
        };
        if events.as_ref().is_some_and(|events| events.len() > MOST) {
            return Err(refuse(format!("it names more than {MOST} events")));
        }
        Ok(Self { queue, events })
    }
}

/// The terms: commas within braces are a term's own.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut within = false;
    text.split(move |c| {
        match c {
            '{' => within = true,
            '}' => within = false,
            _ => {}
        }
        c == ',' && !within
    })
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.queue.as_ref().map_or("*", Name::as_str))?;
        match self.events.as_deref() {
            None => f.write_str("*"),
            Some([event]) => write!(f, "{event}"),
            Some(events) => {
                let names: Vec<&str> = events.iter().map(Name::as_str).collect();
                write!(f, "{{{}}}", names.join(","))
            }
        }
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
        for text in ["DB/*", "*/*", "*/CREATE", "DB/{CREATE,UPDATE}", "DB/{CREATE,UPDATE},ORDERS/*,*/DELETE"] {
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

    #[test]
    fn a_wider_term_covers_a_narrower_one() {
        let covers = |wide: &str, narrow: &str| filter(wide).terms[0].covers(&filter(narrow).terms[0]);
        for (wide, narrow) in [("*/*", "DB/*"), ("*/*", "*/*"), ("DB/*", "DB/A"), ("*/A", "DB/A"), ("DB/{A,B}", "DB/B")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in
            [("DB/*", "*/*"), ("DB/A", "DB/*"), ("*/A", "DB/*"), ("DB/*", "*/A"), ("DB/A", "DB/{A,B}")]
        {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }
}
