//! The rules as they are followed: everything is looked up and read.

use std::str::FromStr;

use events::{Envelope, Filter};
use lettre::message::Mailbox;
use serde_json::Value;

use crate::{
    channel::{http::Endpoint, webhook::Secret},
    condition::Condition,
    field::Field,
    mask,
    rules::{Channel, Limit, Start},
    template,
};

/// The most characters of a message's text, by channel; three dots stand for what is left out.
const MAX_SMS: usize = 480;
const MAX_TEXT: usize = 4_000;
const MAX_SUBJECT: usize = 200;
/// The most characters of what the ledger and a digest say of a message.
const MAX_TITLE: usize = 100;

#[derive(Debug)]
pub(crate) struct Plan {
    pub start: Start,
    pub rules: Vec<Planned>,
}

#[derive(Debug)]
pub(crate) struct Planned {
    pub name: String,
    pub filters: Vec<Filter>,
    pub conditions: Vec<Condition>,
    /// The conditions as they are written, for operators.
    pub written: Value,
    pub template: Template<Placeholder>,
    pub recipients: Vec<Recipient>,
    pub limit: Option<Limit>,
    pub digest: Template<Digest>,
}

/// One person on one channel.
#[derive(Clone, Debug)]
pub(crate) struct Recipient {
    pub channel: Channel,
    pub name: String,
    pub address: Address,
}

#[derive(Clone, Debug)]
pub(crate) enum Address {
    Console,
    Phone(String),
    Mailbox(Mailbox),
    Hook { endpoint: Endpoint, secret: Option<Secret> },
}

#[derive(Debug)]
pub(crate) struct Template<P> {
    pub subject: Option<template::Template<P>>,
    pub text: template::Template<P>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub subject: Option<String>,
    pub text: String,
}

/// A placeholder of a message: `{data.email}`, `{event.subject}`, `{recipient}`, `{rule}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Field(Field),
    Recipient,
    Rule,
}

/// A placeholder of a digest: `{count}`, `{titles}`, `{recipient}`, `{rule}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Count,
    Titles,
    Recipient,
    Rule,
}

/// What a digest is about.
#[derive(Debug)]
pub(crate) struct Covered {
    pub count: i64,
    /// Of the first of them.
    pub titles: Vec<String>,
}

impl Plan {
    /// Every queue that a rule is on, in the rules' order, with the events that any of them is on.
    pub fn filters(&self) -> Vec<Filter> {
        let mut all: Vec<Filter> = Vec::new();
        for filter in self.rules.iter().flat_map(|rule| &rule.filters) {
            match all.iter_mut().find(|other| other.queue == filter.queue) {
                None => all.push(filter.clone()),
                Some(other) => other.widen(filter),
            }
        }
        all
    }

    pub fn rule(&self, name: &str) -> Option<&Planned> {
        self.rules.iter().find(|rule| rule.name == name)
    }
}

impl Planned {
    pub fn matches(&self, envelope: &Envelope) -> bool {
        self.filters.iter().any(|filter| filter.matches(envelope))
            && self.conditions.iter().all(|condition| condition.holds(envelope))
    }

    pub fn message(&self, envelope: &Envelope, recipient: &Recipient) -> Message {
        self.template.render(recipient.channel, |placeholder| match placeholder {
            Placeholder::Field(field) => field.of(envelope),
            Placeholder::Recipient => Some(recipient.name.clone()),
            Placeholder::Rule => Some(self.name.clone()),
        })
    }

    pub fn recipient(&self, channel: Channel, name: &str) -> Option<&Recipient> {
        self.recipients.iter().find(|recipient| recipient.channel == channel && recipient.name == name)
    }

    pub fn digest(&self, recipient: &Recipient, covered: &Covered) -> Message {
        self.digest.render(recipient.channel, |placeholder| match placeholder {
            Digest::Count => Some(covered.count.to_string()),
            Digest::Titles => Some(covered.titles.join("; ")),
            Digest::Recipient => Some(recipient.name.clone()),
            Digest::Rule => Some(self.name.clone()),
        })
    }
}

impl Recipient {
    /// The address as it may be shown.
    pub fn masked(&self) -> String {
        match &self.address {
            Address::Console => "console".to_owned(),
            Address::Phone(number) => mask::phone(number),
            Address::Mailbox(mailbox) => mask::email(mailbox.email.as_ref()),
            Address::Hook { endpoint, .. } => endpoint.host().to_owned(),
        }
    }
}

impl Message {
    /// One line that says what it is about.
    pub fn title(&self) -> String {
        let first_line = || self.text.lines().next().unwrap_or_default();
        template::shorten(self.subject.as_deref().unwrap_or_else(first_line), MAX_TITLE)
    }
}

impl<P> Template<P> {
    fn render(&self, channel: Channel, value: impl Fn(&P) -> Option<String>) -> Message {
        let max = if channel == Channel::Sms { MAX_SMS } else { MAX_TEXT };
        Message {
            subject: self.subject.as_ref().map(|subject| subject.render(MAX_SUBJECT, &value)),
            text: self.text.render(max, &value),
        }
    }
}

impl Digest {
    /// What is said where the rule doesn't say it.
    #[expect(clippy::expect_used, reason = "a text of ours, which a test reads")]
    pub fn default_template() -> Template<Self> {
        let read = |text| template::Template::line(text).expect("a template of ours");
        Template { subject: Some(read("{count} more: {rule}")), text: read("{count} more: {titles}") }
    }
}

impl FromStr for Placeholder {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "recipient" => Ok(Self::Recipient),
            "rule" => Ok(Self::Rule),
            field if field.starts_with("event.") || field.starts_with("data.") => field.parse().map(Self::Field),
            other => {
                Err(format!("{{{other}}} is unknown: {{data.FIELD}}, {{event.ATTRIBUTE}}, {{recipient}}, {{rule}}"))
            }
        }
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "count" => Ok(Self::Count),
            "titles" => Ok(Self::Titles),
            "recipient" => Ok(Self::Recipient),
            "rule" => Ok(Self::Rule),
            other => Err(format!("{{{other}}} is unknown in a digest: {{count}}, {{titles}}, {{recipient}}, {{rule}}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Rules, compile::compile};

    #[test]
    fn rules_on_one_queue_share_a_filter() {
        let rule = |name: &str, on: &str| {
            format!("  - {{name: {name}, on: ['{on}'], template: {{text: x}}, recipients: {{console: [ann]}}}}\n")
        };
        let text = format!(
            "people: [{{name: ann}}]\nrules:\n{}{}{}{}",
            rule("a", "DB/CREATE"),
            rule("b", "DB/{CREATE,DELETE}"),
            rule("c", "INVOICES/CREATED"),
            rule("d", "INVOICES/*")
        );
        let rules: Rules = serde_saphyr::from_str(&text).unwrap();
        let filters: Vec<String> = compile(&rules).unwrap().filters().iter().map(Filter::to_string).collect();
        assert_eq!(filters, ["DB/{CREATE,DELETE}", "INVOICES/*"]);
    }

    #[test]
    fn the_digest_of_a_rule_without_one_can_be_written() {
        let covered = Covered { count: 7, titles: vec!["a".to_owned(), "b".to_owned()] };
        let message = Digest::default_template().render(Channel::Sms, |placeholder| match placeholder {
            Digest::Count => Some(covered.count.to_string()),
            Digest::Titles => Some(covered.titles.join("; ")),
            _ => Some("accounts".to_owned()),
        });
        assert_eq!(message.text, "7 more: a; b");
        assert_eq!(message.title(), "7 more: accounts");
    }
}
