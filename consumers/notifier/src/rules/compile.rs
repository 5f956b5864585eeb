//! From what is written to what is done: names are looked up, templates and conditions read, and everything that is wrong
//! is found at once, with its path.

use std::{collections::BTreeSet, time::Duration};

use events::Filter;
use lettre::message::Mailbox;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{
    Channel, Person, Rule, Rules, Template as Written,
    fault::{Faults, Found},
};
use crate::{
    channel::http::{Endpoint, is_loopback},
    channel::webhook::Secret,
    condition::{Condition, Test},
    plan::{Address, Digest, Plan, Planned, Recipient, Template},
};

const MAX_NAME: usize = 64;
/// A group's name, which has the queue's in it, is at most 64 characters.
const MAX_QUEUE: usize = 55;
const PER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

pub(crate) fn compile(rules: &Rules) -> Result<Plan, Faults> {
    let mut found = Found::default();
    channels(rules, &mut found);
    people(rules, &mut found);
    groups(rules, &mut found);
    if rules.rules.is_empty() {
        found.add("rules", "must name at least one");
    }
    let mut names = BTreeSet::new();
    let mut planned = Vec::new();
    for (at, rule) in rules.rules.iter().enumerate() {
        let path = format!("rules[{at}]");
        if name(&rule.name, &format!("{path}.name"), &mut found) && !names.insert(&rule.name) {
            found.add(format!("{path}.name"), format!("{} is the name of a rule before it", rule.name));
        }
        planned.extend(compile_rule(rule, &path, rules, &mut found));
    }
    found.finish()?;
    Ok(Plan { start: rules.start, rules: planned })
}

fn channels(rules: &Rules, found: &mut Found) {
    let pace = |path: &str, timeout: Duration, concurrency: usize, found: &mut Found| {
        if !(TIMEOUT.0..=TIMEOUT.1).contains(&timeout) {
            found.add(format!("channels.{path}.timeout"), "must be within 100ms to 60s");
        }
        if !(1..=100).contains(&concurrency) {
            found.add(format!("channels.{path}.concurrency"), "must be within 1 to 100");
        }
    };
    let webhook = &rules.channels.webhook;
    pace("webhook", webhook.timeout, webhook.concurrency, found);
    if let Some(sms) = &rules.channels.sms {
        pace("sms", sms.timeout, sms.concurrency, found);
        found.or("channels.sms.base_url", Endpoint::parse(&sms.base_url, sms.plain_http));
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain(&sms.account) {
            found.add("channels.sms.account", "must be letters and digits");
        }
        if sms.token.expose_secret().is_empty() {
            found.add("channels.sms.token", "must not be empty");
        }
        if sms.from.trim().is_empty() || sms.from.chars().any(char::is_control) {
            found.add("channels.sms.from", "must be a phone number or a sender's name");
        }
    }
    if let Some(email) = &rules.channels.email {
        pace("email", email.timeout, email.concurrency, found);
        if email.host.is_empty() || email.host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            found.add("channels.email.host", "must be a host's name");
        }
        if email.port == Some(0) {
            found.add("channels.email.port", "must be 1 to 65535");
        }
        found.or("channels.email.from", mailbox(&email.from));
        if email.user.is_some() != email.password.is_some() {
            found.add("channels.email.user", "user and password stand together, or neither does");
        }
        if email.user.is_some() && email.tls == super::Tls::None && !is_loopback(&email.host) {
            found.add("channels.email.tls", "a password would travel in the clear: starttls or tls");
        }
    }
}

fn people(rules: &Rules, found: &mut Found) {
    let mut names = BTreeSet::new();
    for (at, person) in rules.people.iter().enumerate() {
        let path = format!("people[{at}]");
        if name(&person.name, &format!("{path}.name"), found) && !names.insert(&person.name) {
            found.add(format!("{path}.name"), format!("{} is there twice", person.name));
        }
        if let Some(phone) = &person.phone {
            found.or(format!("{path}.phone"), e164(phone));
        }
        if let Some(email) = &person.email {
            found.or(format!("{path}.email"), mailbox(email));
        }
        if let Some(hook) = &person.webhook {
            found.or(format!("{path}.webhook.url"), Endpoint::parse(&hook.url, rules.channels.webhook.plain_http));
            if let Some(secret) = &hook.secret {
                found.or(format!("{path}.webhook.secret"), Secret::read(secret));
            }
        }
    }
}

fn groups(rules: &Rules, found: &mut Found) {
    for (group, members) in &rules.groups {
        let path = format!("groups.{group}");
        name(group, &path, found);
        if rules.people.iter().any(|person| person.name == *group) {
            found.add(&path, "is a person's name too");
        }
        if members.is_empty() {
            found.add(&path, "must name at least one person");
        }
        let mut seen = BTreeSet::new();
        for (at, member) in members.iter().enumerate() {
            if !rules.people.iter().any(|person| person.name == *member) {
                found.add(format!("{path}[{at}]"), format!("there is no person {member}"));
            } else if !seen.insert(member) {
                found.add(format!("{path}[{at}]"), format!("{member} is there twice"));
            }
        }
    }
}

fn compile_rule(rule: &Rule, path: &str, rules: &Rules, found: &mut Found) -> Option<Planned> {
    let filters = filters(rule, path, found);
    let mut conditions = Vec::new();
    for (field, test) in &rule.conditions {
        let path = format!("{path}.where.{field}");
        let field = found.or(&path, field.parse());
        let test = found.or(&path, Test::read(test));
        if let (Some(field), Some(test)) = (field, test) {
            conditions.push(Condition { field, test });
        }
    }
    let by_email = rule.recipients.contains_key(&Channel::Email);
    let message = template(&rule.template, &format!("{path}.template"), by_email, found);
    let recipients = recipients(rule, path, rules, found);
    if let Some(limit) = &rule.limit {
        if !(1..=1_000).contains(&limit.messages) {
            found.add(format!("{path}.limit.messages"), "must be within 1 to 1000");
        }
        if !(PER.0..=PER.1).contains(&limit.per) {
            found.add(format!("{path}.limit.per"), "must be within 1s to 24h");
        }
    }
    let digest = match &rule.digest {
        Some(_) if rule.limit.is_none() => {
            found.add(format!("{path}.digest"), "is never sent without a limit");
            None
        }
        Some(written) => template(written, &format!("{path}.digest"), by_email, found),
        None => Some(Digest::default_template()),
    };
    Some(Planned {
        name: rule.name.clone(),
        filters,
        conditions,
        written: Value::from_iter(rule.conditions.clone()),
        template: message?,
        recipients,
        limit: rule.limit,
        digest: digest?,
    })
}

fn filters(rule: &Rule, path: &str, found: &mut Found) -> Vec<Filter> {
    if rule.on.is_empty() {
        found.add(format!("{path}.on"), "must name at least one event");
    }
    let mut filters: Vec<Filter> = Vec::new();
    for (at, text) in rule.on.iter().enumerate() {
        let path = format!("{path}.on[{at}]");
        let Some(filter) = found.or(&path, text.parse::<Filter>().map_err(|error| error.to_string())) else { continue };
        if filter.queue.as_str().len() > MAX_QUEUE {
            found.add(&path, format!("a queue's name must be at most {MAX_QUEUE} characters here"));
        }
        if filters.iter().any(|other| other.queue == filter.queue) {
            found.add(path, "is on the queue of one before it; write QUEUE/{A,B}");
        }
        filters.push(filter);
    }
    filters
}

fn template<P: std::str::FromStr<Err = String>>(
    written: &Written,
    path: &str,
    by_email: bool,
    found: &mut Found,
) -> Option<Template<P>> {
    if by_email && written.subject.is_none() {
        found.add(format!("{path}.subject"), "an e-mail needs one");
    }
    let subject = match &written.subject {
        Some(subject) => found.or(format!("{path}.subject"), crate::template::Template::line(subject)).map(Some),
        None => Some(None),
    };
    let text = found.or(format!("{path}.text"), crate::template::Template::parse(&written.text));
    Some(Template { subject: subject?, text: text? })
}

fn recipients(rule: &Rule, path: &str, rules: &Rules, found: &mut Found) -> Vec<Recipient> {
    if rule.recipients.is_empty() {
        found.add(format!("{path}.recipients"), "must name at least one");
    }
    let mut recipients = Vec::new();
    for (channel, names) in &rule.recipients {
        let path = format!("{path}.recipients.{}", channel.as_str());
        match channel {
            Channel::Sms if rules.channels.sms.is_none() => found.add(&path, "there is no channels.sms"),
            Channel::Email if rules.channels.email.is_none() => found.add(&path, "there is no channels.email"),
            _ => {}
        }
        if names.is_empty() {
            found.add(&path, "must name at least one");
        }
        // Who is named by several groups gets one message; who is named twice by name is a slip.
        let (mut written, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for (at, name) in names.iter().enumerate() {
            let path = format!("{path}[{at}]");
            if !written.insert(name) {
                found.add(&path, format!("{name} is there twice"));
                continue;
            }
            let Some(people) = named(name, rules) else {
                found.add(&path, format!("there is no person or group {name}"));
                continue;
            };
            for person in people {
                match address(person, *channel) {
                    Some(Ok(address)) if taken.insert(&person.name) => {
                        recipients.push(Recipient { channel: *channel, name: person.name.clone(), address });
                    }
                    // Named twice; or an address that can't be read, which is the person's fault and found there.
                    Some(_) => {}
                    None => found.add(&path, format!("{} has no {}", person.name, needed(*channel))),
                }
            }
        }
    }
    recipients
}

/// The person, or a group's people; None: nobody has the name.
fn named<'a>(name: &str, rules: &'a Rules) -> Option<Vec<&'a Person>> {
    let person = |name: &str| rules.people.iter().find(|person| person.name == name);
    match rules.groups.get(name) {
        Some(members) => Some(members.iter().filter_map(|member| person(member)).collect()),
        None => person(name).map(|person| vec![person]),
    }
}

fn needed(channel: Channel) -> &'static str {
    match channel {
        Channel::Console => "name",
        Channel::Sms => "phone",
        Channel::Email => "email",
        Channel::Webhook => "webhook",
    }
}

/// None: the person has none.
fn address(person: &Person, channel: Channel) -> Option<Result<Address, String>> {
    match channel {
        Channel::Console => Some(Ok(Address::Console)),
        Channel::Sms => person.phone.clone().map(|phone| Ok(Address::Phone(phone))),
        Channel::Email => person.email.as_ref().map(|email| mailbox(email).map(Address::Mailbox)),
        Channel::Webhook => person.webhook.as_ref().map(|hook| {
            let secret = hook.secret.as_ref().map(Secret::read).transpose()?;
            Ok(Address::Hook { endpoint: Endpoint::parse(&hook.url, true)?, secret })
        }),
    }
}

fn name(name: &str, path: &str, found: &mut Found) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    let fine = !name.trim().is_empty() && name.chars().count() <= MAX_NAME && name.chars().all(allowed);
    if !fine {
        found.add(path, format!("must be 1 to {MAX_NAME} letters, digits, '.', '_', '-' and spaces"));
    }
    fine
}

fn e164(phone: &str) -> Result<(), String> {
    let digits = phone.strip_prefix('+').unwrap_or_default();
    if (8..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') {
        return Ok(());
    }
    Err("must be + and 8 to 15 digits, the country's code first".to_owned())
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|_| "must be an e-mail address".to_owned())
}
