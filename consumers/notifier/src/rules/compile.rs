//! From what is written to what is done: names are looked up, templates and conditions read, and everything that is wrong
//! is found at once, with its path.

use std::{collections::BTreeSet, time::Duration};

use events::Filter;
use serde_json::Value;

use super::{
    Channel, Person, Rule, Rules, Template as Written, check,
    fault::{Faults, Found},
};
use crate::{
    channel::http::Endpoint,
    channel::webhook::Secret,
    condition::{Condition, Test},
    plan::{Address, Digest, Plan, Planned, Recipient, Template},
};

const PER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));

pub(crate) fn compile(rules: &Rules) -> Result<Plan, Faults> {
    let mut found = Found::default();
    check::channels(rules, &mut found);
    check::people(rules, &mut found);
    check::groups(rules, &mut found);
    if rules.rules.is_empty() {
        found.add("rules", "must name at least one");
    }
    let mut names = BTreeSet::new();
    let mut planned = Vec::new();
    for (at, rule) in rules.rules.iter().enumerate() {
        let path = format!("rules[{at}]");
        if check::name(&rule.name, &format!("{path}.name"), &mut found) && !names.insert(&rule.name) {
            found.add(format!("{path}.name"), format!("{} is the name of a rule before it", rule.name));
        }
        planned.extend(compile_rule(rule, &path, rules, &mut found));
    }
    found.finish()?;
    Ok(Plan { start: rules.start, rules: planned })
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
        Channel::Email => person.email.as_ref().map(|email| check::mailbox(email).map(Address::Mailbox)),
        Channel::Webhook => person.webhook.as_ref().map(|hook| {
            let secret = hook.secret.as_ref().map(Secret::read).transpose()?;
            Ok(Address::Hook { endpoint: Endpoint::parse(&hook.url, true)?, secret })
        }),
    }
}
