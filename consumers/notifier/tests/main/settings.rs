use std::collections::HashMap;

use notifier::{Config, Faults, Rules};

use crate::Site;

fn faults(text: &str) -> Vec<String> {
    let Err(Faults(faults)) = Rules::parse(text, HashMap::new()) else { panic!("it was taken") };
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_is_found_with_its_path() {
    let found = faults(
        "channels:
  sms: {account: AC1, token: '', from: '+1', base_url: 'http://sms.example', timeout: 2m}
  email: {host: mail.example, tls: none, user: shop, from: nobody}
people:
  - {name: ann, phone: '0170'}
  - {name: ann, webhook: {url: 'ftp://x', secret: short}}
groups: {sales: [ann, bob], none: []}
rules:
  - name: accounts
    on: [DB/CREATE, DB/DELETE]
    where: {data..x: 1, event.source: {matches: x}}
    template: {text: 'Hi {data.name'}
    recipients: {sms: [sales, sales, carl], email: []}
    digest: {text: '{data.name}'}
  - {name: accounts, on: [], template: {text: ''}, recipients: {}, limit: {messages: 0, per: 1ms}}
",
    );
    let paths: Vec<&str> = found.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "channels.sms.timeout",
            "channels.sms.base_url",
            "channels.sms.token",
            "channels.email.from",
            "channels.email.user",
            "channels.email.tls",
            "people[0].phone",
            "people[1].name",
            "people[1].webhook.url",
            "people[1].webhook.secret",
            "groups.none",
            "groups.sales[1]",
            "rules[0].on[1]",
            "rules[0].where.data..x",
            "rules[0].where.event.source",
            "rules[0].template.subject",
            "rules[0].template.text",
            "rules[0].recipients.sms[1]",
            "rules[0].recipients.sms[2]",
            "rules[0].recipients.email",
            "rules[0].digest",
            "rules[1].name",
            "rules[1].on",
            "rules[1].template.text",
            "rules[1].recipients",
            "rules[1].limit.messages",
            "rules[1].limit.per",
        ],
        "{found:#?}"
    );
}

#[test]
fn a_placeholder_that_nothing_can_fill_is_refused() {
    let rule = |template: &str, digest: &str| {
        format!(
            "people: [{{name: ann}}]\nrules:\n  - {{name: a, on: DB/*, template: {{text: '{template}'}}, recipients: \
             {{console: [ann]}}, limit: {{messages: 1, per: 1m}}, digest: {{text: '{digest}'}}}}\n"
        )
    };
    assert!(Rules::parse(&rule("{data.any.thing} {event.key}", "{count}"), HashMap::new()).is_ok());
    for (template, digest, path) in [
        ("{email}", "{count}", "rules[0].template.text: "),
        ("{event.colour}", "{count}", "rules[0].template.text: "),
        ("x", "{data.name}", "rules[0].digest.text: "),
    ] {
        assert!(faults(&rule(template, digest))[0].starts_with(path));
    }
}

#[test]
fn what_needs_a_channel_or_an_address_that_is_not_there_is_refused() {
    let found = faults(
        "people: [{name: ann}]\nrules:\n  - {name: a, on: DB/*, template: {subject: x, text: x}, recipients: {sms: \
         [ann], email: [ann], webhook: [ann]}}\n",
    );
    assert_eq!(
        found,
        [
            "rules[0].recipients.sms: there is no channels.sms",
            "rules[0].recipients.sms[0]: ann has no phone",
            "rules[0].recipients.email: there is no channels.email",
            "rules[0].recipients.email[0]: ann has no email",
            "rules[0].recipients.webhook[0]: ann has no webhook",
        ]
    );
}

#[test]
fn secrets_come_from_the_environment_and_are_not_printed() {
    let text = "channels:\n  sms:\n    account: AC1\n    token: ${TOKEN}\n    from: Shop\npeople: [{name: ann, phone: \
                '+15005550101'}]\nrules:\n  - {name: a, on: DB/*, template: {text: x}, recipients: {sms: [ann]}}\n";
    let rules = Rules::parse(text, HashMap::from([("TOKEN".to_owned(), "sesame".to_owned())])).unwrap();
    assert!(!format!("{rules:?}").contains("sesame"));
    assert!(faults(&text.replace("token:", "tokn:"))[0].contains("tokn"));
}

/// Whoever takes away the marks of a comment in the reference gets what it says: the defaults.
#[test]
fn the_reference_is_valid_in_all_its_parts() {
    let uncommented: Vec<String> = notifier::REFERENCE
        .lines()
        .map(|line| {
            let bare = line.trim_start();
            let setting = bare.strip_prefix("# ").and_then(|rest| rest.split_whitespace().next());
            match setting {
                Some(key) if bare.len() < line.len() && key.ends_with(':') => line.replacen("# ", "", 1),
                _ => line.to_owned(),
            }
        })
        .collect();
    let variables = ["TWILIO_ACCOUNT", "TWILIO_TOKEN", "SMTP_USER", "SMTP_PASSWORD"].map(|name| (name, "AC1"));
    let secret = ("BEN_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let variables = variables.into_iter().chain([secret]).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let reference =
        Rules::parse(&uncommented.join("\n"), variables.collect()).unwrap_or_else(|faults| panic!("{faults}"));

    let least = Rules::parse(
        "channels:
  sms: {account: AC1, token: AC1, from: '+15005550006'}
  email: {host: smtp.example.com, port: 465, user: AC1, password: AC1, from: Shop <shop@example.com>}
people: [{name: ann}]
rules: [{name: a, on: DB/*, template: {text: x}, recipients: {console: [ann]}}]
",
        HashMap::new(),
    )
    .unwrap();
    assert_eq!(format!("{:?}", reference.channels), format!("{:?}", least.channels));
    assert!(reference.people[1].webhook.is_some());
    Rules::default().check().unwrap();
}

#[tokio::test]
async fn channels_with_tls_can_be_built() {
    let site = Site::sqlite().await;
    for tls in ["tls", "starttls"] {
        let text = format!(
            "channels:\n  email: {{host: smtp.example.com, tls: {tls}, user: a, password: b, from: shop@example.com}}\n  \
             sms: {{account: AC1, token: x, from: Shop}}\npeople: [{{name: ann, phone: '+15005550101', email: \
             ann@example.com}}]\nrules: [{{name: a, on: DB/*, template: {{subject: x, text: x}}, recipients: {{sms: \
             [ann], email: [ann]}}}}]\n"
        );
        let rules = Rules::parse(&text, HashMap::new()).unwrap();
        let config = Config { bus: site.bus.clone(), database: site.url(), rules, pace: None };
        notifier::build(config).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_built_from_rules_that_are_wrong() {
    let site = Site::sqlite().await;
    let rules = Rules { rules: Vec::new(), ..Rules::default() };
    let config = Config { bus: site.bus.clone(), database: site.url(), rules, pace: None };
    let Err(refused) = notifier::build(config).await else { panic!("no rule is nothing to do") };
    assert_eq!(refused.to_string(), "rules: must name at least one");
    assert_eq!(refused.downcast::<Faults>().unwrap().0.len(), 1);
}
