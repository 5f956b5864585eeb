//! Whether each channel, person and group is one in itself.

use std::{collections::BTreeSet, time::Duration};

use lettre::message::Mailbox;
use secrecy::ExposeSecret as _;

use super::{Rules, Tls, fault::Found};
use crate::channel::{
    http::{Endpoint, is_loopback},
    webhook::Secret,
};

const MAX_NAME: usize = 64;
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

pub(super) fn channels(rules: &Rules, found: &mut Found) {
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
        if email.user.is_some() && email.tls == Tls::None && !is_loopback(&email.host) {
            found.add("channels.email.tls", "a password would travel in the clear: starttls or tls");
        }
    }
}

pub(super) fn people(rules: &Rules, found: &mut Found) {
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

pub(super) fn groups(rules: &Rules, found: &mut Found) {
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

pub(super) fn name(name: &str, path: &str, found: &mut Found) -> bool {
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

pub(super) fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|_| "must be an e-mail address".to_owned())
}
