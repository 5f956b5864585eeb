//! Topics: which ones a mapping takes (MQTT 5, section 4.7), what stood where its wildcards are, and texts made of that.

use std::{collections::HashMap, fmt, str::FromStr};

/// The most bytes of a topic, a filter or a text that is made of one.
pub(crate) const MAX_BYTES: usize = 1024;

/// Which topics are meant: `shop/+/orders`, `sensors/#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    text: String,
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Named(String),
    /// `+`
    One,
    /// `#`
    Rest,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Wrong(String);

impl Filter {
    /// What stands where the wildcards are, in their order; None for a topic that isn't meant.
    pub(crate) fn captures<'a>(&self, topic: &'a str) -> Option<Vec<&'a str>> {
        // Topics of the broker itself are never meant by a wildcard.
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Named(_))) {
            return None;
        }
        let mut captured = Vec::new();
        let mut rest = Some(topic);
        for level in &self.levels {
            if *level == Level::Rest {
                captured.push(rest.unwrap_or_default());
                return Some(captured);
            }
            let (first, behind) = match rest?.split_once('/') {
                Some((first, behind)) => (first, Some(behind)),
                None => (rest?, None),
            };
            match level {
                Level::Named(name) if name != first => return None,
                Level::One => captured.push(first),
                Level::Named(_) | Level::Rest => {}
            }
            rest = behind;
        }
        rest.is_none().then_some(captured)
    }

    /// Whether a topic may be meant by both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        overlap(&self.levels, &other.levels)
    }

    pub(crate) fn wildcards(&self) -> usize {
        self.levels.iter().filter(|level| !matches!(level, Level::Named(_))).count()
    }
}

fn overlap(some: &[Level], others: &[Level]) -> bool {
    match (some.split_first(), others.split_first()) {
        (None, None) | (Some((Level::Rest, _)), _) | (_, Some((Level::Rest, _))) => true,
        (Some((Level::Named(one), _)), Some((Level::Named(other), _))) if one != other => false,
        (Some((_, some)), Some((_, others))) => overlap(some, others),
        _ => false,
    }
}

impl FromStr for Filter {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || text.len() > MAX_BYTES || text.contains('\0') {
            return Err(Wrong(format!("must have 1 to {MAX_BYTES} bytes, none of them NUL")));
        }
        if text.starts_with("$share/") {
            return Err(Wrong("must not begin with $share/: `order: shared` does that".to_owned()));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let last = parts.len() - 1;
        let level = |(at, part): (usize, &&str)| match *part {
            "+" => Ok(Level::One),
            "#" if at == last => Ok(Level::Rest),
            part if part.contains(['+', '#']) => {
                Err(Wrong(format!("{part:?}: a wildcard is a level of its own, and # the last one")))
            }
            part => Ok(Level::Named(part.to_owned())),
        };
        let levels = parts.iter().enumerate().map(level).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), levels })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text with places in braces: `stores/{1}/{event}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(String),
}

impl Template {
    /// # Errors
    /// If a brace is alone, or a place isn't one of those known.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Result<Self, Wrong> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(Wrong(format!("must have 1 to {MAX_BYTES} bytes")));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let place = from.strip_prefix('{').and_then(|behind| behind.split_once('}'));
            let Some((name, behind)) = place else {
                return Err(Wrong(format!("{text:?} has a brace that is alone")));
            };
            if !known.contains(&name) {
                return Err(Wrong(format!("{{{name}}} is not one of {{{}}}", known.join("}, {"))));
            }
            pieces.push(Piece::Place(name.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    pub(crate) fn fill(&self, values: &HashMap<&str, &str>) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Place(name) => values.get(name.as_str()).copied().unwrap_or_default().to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(filter: &str, topic: &str) -> Option<Vec<String>> {
        let filter: Filter = filter.parse().unwrap();
        Some(filter.captures(topic)?.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn wildcards_capture_what_stands_there() {
        let some = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(captures("shop/orders", "shop/orders"), some(&[]));
        assert_eq!(captures("shop/+/orders", "shop/berlin/orders"), some(&["berlin"]));
        assert_eq!(captures("+/+", "/finance"), some(&["", "finance"]));
        assert_eq!(captures("sensors/#", "sensors/a/b"), some(&["a/b"]));
        assert_eq!(captures("sensors/#", "sensors"), some(&[""]), "# also means the level above");
        assert_eq!(captures("#", "a/b"), some(&["a/b"]));
        for (filter, topic) in [
            ("shop/orders", "shop/orders/1"),
            ("shop/+", "shop"),
            ("shop/+", "shop/a/b"),
            ("+/a", "$SYS/a"),
            ("#", "$SYS/uptime"),
            ("shop/orders", "Shop/orders"),
        ] {
            assert_eq!(captures(filter, topic), None, "{filter} {topic}");
        }
    }

    #[test]
    fn filters_overlap_where_a_topic_may_be_meant_by_both() {
        let overlaps = |one: &str, other: &str| one.parse::<Filter>().unwrap().overlaps(&other.parse().unwrap());
        for (one, other) in
            [("a/b", "a/b"), ("a/+", "a/b"), ("a/#", "a"), ("#", "x/y"), ("+/b", "a/+"), ("a/+/c", "a/b/#")]
        {
            assert!(overlaps(one, other) && overlaps(other, one), "{one} {other}");
        }
        for (one, other) in [("a/b", "a/c"), ("a/+", "a"), ("a/+", "b/#"), ("a/b/c", "a/b")] {
            assert!(!overlaps(one, other) && !overlaps(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        for filter in ["", "a/#/b", "a+/b", "a/b#", "$share/g/a"] {
            assert!(filter.parse::<Filter>().is_err(), "{filter:?}");
        }
    }

    #[test]
    fn a_template_is_filled() {
        let template = Template::parse("stores/{1}/{event}", &["1", "event"]).unwrap();
        assert_eq!(template.fill(&HashMap::from([("1", "berlin"), ("event", "PLACED")])), "stores/berlin/PLACED");
        for wrong in ["", "{2}", "a}", "{1", "{}"] {
            assert!(Template::parse(wrong, &["1"]).is_err(), "{wrong:?}");
        }
    }
}
