//! What a route lets be kept, compiled.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use http::HeaderName;

use super::{
    config::{Config, Per},
    tags::Tags,
};

/// How long what is stale may be given, unless the answer or the route says otherwise.
const STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(8760 * 3600);

/// How long an answer is good that doesn't say so.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub ttl: Option<Duration>,
    pub stale_while_revalidate: Duration,
    pub stale_if_error: Duration,
}

impl Rules {
    /// Nothing but what the answer says.
    #[cfg(test)]
    pub const NONE: Self = Self { ttl: None, stale_while_revalidate: Duration::ZERO, stale_if_error: Duration::ZERO };
}

#[derive(Debug)]
pub struct Policy {
    pub rules: Rules,
    pub tags: Tags,
    /// The fields of a request that the answer depends on, whatever its `Vary` says.
    pub vary: Vec<HeaderName>,
    pub public: bool,
    /// Tells answers of this route, as it stands in this file, from those of another.
    pub salt: [u8; 16],
    /// Its tags as the file has them.
    written: String,
}

impl Policy {
    /// `forwarded` are the headers that the action forwards by itself; `route` is all that the answer comes from.
    ///
    /// # Errors
    /// What is wrong with the section, each with its place in it.
    pub fn new(config: &Config, forwarded: &[String], route: &str) -> Result<Self, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let tags = Tags::new(&config.tags).unwrap_or_else(|found| {
            faults.extend(found.into_iter().map(|(at, message)| (format!("tags[{at}]"), message)));
            Tags::default()
        });
        let times = [
            ("ttl", config.ttl),
            ("stale_while_revalidate", config.stale_while_revalidate),
            ("stale_if_error", config.stale_if_error),
        ];
        for (name, time) in times {
            if time.is_some_and(|time| time > LONGEST) {
                faults.push((name.to_owned(), "must be at most 8760h".to_owned()));
            }
        }
        if config.ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
            faults.push(("ttl".to_owned(), "must be at least 1s: ages are told in seconds".to_owned()));
        }
        let mut vary = Vec::new();
        for (at, name) in config.vary.as_deref().unwrap_or(forwarded).iter().enumerate() {
            match HeaderName::try_from(name) {
                Ok(name) if vary.contains(&name) => faults.push((format!("vary[{at}]"), "is there already".to_owned())),
                Ok(name) => vary.push(name),
                Err(_) => faults.push((format!("vary[{at}]"), "is not the name of a header".to_owned())),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let rules = Rules {
            ttl: config.ttl,
            stale_while_revalidate: config.stale_while_revalidate.unwrap_or(STALE_WHILE_REVALIDATE),
            stale_if_error: config.stale_if_error.unwrap_or_default(),
        };
        let salt = salt(&format!("{config:?} {route}"));
        let written = config.tags.join(", ");
        Ok(Self { rules, tags, vary, public: config.per == Per::Public, salt, written })
    }
}

/// As operators read it.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.public { "for everybody" } else { "for each principal" })?;
        match self.rules.ttl {
            Some(ttl) => write!(f, ", {ttl:?} unless the answer says otherwise")?,
            None => f.write_str(", as long as the answer says")?,
        }
        let Rules { stale_while_revalidate, stale_if_error, .. } = self.rules;
        let span = |time: Duration| if time.is_zero() { "never".to_owned() } else { format!("{time:?}") };
        let (refetched, failed) = (span(stale_while_revalidate), span(stale_if_error));
        write!(f, "; stale {refetched} while it is fetched, {failed} where that fails")?;
        if !self.tags.is_empty() {
            write!(f, "; tags {}", self.written)?;
        }
        Ok(())
    }
}

/// As hexadecimal digits: a key holds no NUL.
fn salt(text: &str) -> [u8; 16] {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let mut salt = [0; 16];
    for (at, digit) in format!("{:016x}", hasher.finish()).bytes().enumerate().take(16) {
        salt[at] = digit;
    }
    salt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_with_its_place() {
        let text = "{ttl: 500ms, stale_if_error: 9000h, tags: ['{'], vary: [a, 'b c', A]}";
        let faults = Policy::new(&serde_saphyr::from_str(text).unwrap(), &[], "").unwrap_err();
        let places: Vec<_> = faults.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["tags[0]", "stale_if_error", "ttl", "vary[1]", "vary[2]"]);
    }

    #[test]
    fn what_is_forwarded_counts_unless_the_file_says_otherwise() {
        let policy = |text: &str, route: &str| {
            Policy::new(&serde_saphyr::from_str(text).unwrap(), &["accept-language".to_owned()], route).unwrap()
        };
        let (plain, own) = (policy("{}", "a"), policy("{vary: []}", "a"));
        assert_eq!((plain.vary.len(), own.vary.len()), (1, 0));
        assert_eq!(plain.rules.stale_while_revalidate, Duration::from_secs(30));
        assert!(plain.salt != own.salt && plain.salt != policy("{}", "b").salt && plain.salt == policy("{}", "a").salt);
    }
}
