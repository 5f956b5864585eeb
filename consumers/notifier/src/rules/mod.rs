//! What an operator writes: the channels, the people, and the rules that bring them together. `rules.yaml` beside this
//! crate's manifest is the commented reference.
//!
//! Here is only the form. What it means, and everything that may be wrong with it, is `check.rs`'s and
//! `compile.rs`'s.

mod channels;
mod check;
pub(crate) mod compile;
mod duration;
pub(crate) mod fault;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use channels::{Channels, Console, Email, Sms, Tls, Webhook};
pub use fault::{Fault, Faults};

/// The channels, and which events go to whom over them; a section of the notifier's configuration. By default it is the
/// demo's, which is the reference; one that is written stands for itself, and nothing of the demo's is mixed into it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Where a notifier that is new begins.
    #[serde(default)]
    pub start: Start,
    #[serde(default)]
    pub channels: Channels,
    #[serde(default)]
    pub people: Vec<Person>,
    /// Names for several people.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Where a notifier begins whose group the bus doesn't know yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With what is recorded from now on: nobody wants a text for each event of the last week.
    #[default]
    Now,
    /// With the oldest event that is kept.
    Earliest,
}

/// Somebody who may be written to, by the channels that there is an address for. The console needs none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    pub name: String,
    /// E.164: `+` and 8 to 15 digits.
    #[serde(default)]
    pub phone: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub webhook: Option<Hook>,
}

/// Where a webhook goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    pub url: String,
    /// Signs the requests (Standard Webhooks): `whsec_` and 24 to 64 bytes in Base64.
    #[serde(default)]
    pub secret: Option<SecretString>,
}

/// Which events become which message to whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Part of the ledger's key: a rule with a new name is a new rule.
    pub name: String,
    /// `DB/CREATE`, `DB/{CREATE,UPDATE}`, `DB/*`; one or a list.
    #[serde(deserialize_with = "one_or_many")]
    pub on: Vec<String>,
    /// Conditions by field; all must hold.
    #[serde(default, rename = "where")]
    pub conditions: BTreeMap<String, Value>,
    pub template: Template,
    /// Names of people and groups by channel.
    pub recipients: BTreeMap<Channel, Vec<String>>,
    #[serde(default)]
    pub limit: Option<Limit>,
    /// What is sent instead of the messages beyond the limit.
    #[serde(default)]
    pub digest: Option<Template>,
}

/// A message with placeholders.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    #[serde(default)]
    pub subject: Option<String>,
    pub text: String,
}

/// The most messages of a rule that one recipient gets over one channel.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// 1 to 1,000.
    pub messages: u32,
    /// 1 s to 24 h, beginning with the first message.
    #[serde(deserialize_with = "duration::deserialize")]
    pub per: Duration,
}

/// A way to reach somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    Console,
    Sms,
    Email,
    Webhook,
}

impl Channel {
    pub const ALL: [Self; 4] = [Self::Console, Self::Sms, Self::Email, Self::Webhook];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == name)
    }
}

impl Default for Rules {
    #[expect(clippy::expect_used, reason = "the reference is part of the program, and a test reads it")]
    fn default() -> Self {
        serde_saphyr::from_str(crate::REFERENCE).expect("the reference")
    }
}

impl Rules {
    /// Reads and checks a section; `variables` are the values of `${NAME}` and `${NAME:-default}` in plain scalars, usually
    /// the environment's.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, variables: HashMap<String, String>) -> Result<Self, Faults> {
        let options = serde_saphyr::options! {}.with_properties(variables);
        let rules: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| Faults(vec![Fault { path: String::new(), message: error.to_string() }]))?;
        rules.check().map(|()| rules)
    }

    /// Whether all of it makes sense together; [`crate::build`] refuses what doesn't.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), Faults> {
        compile::compile(self).map(drop)
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}
