//! How much is let in.

use std::time::Duration;

use super::node::Node;
use crate::{
    config::Size,
    limit::{Limiter, Policies, Quota},
    route::Policy,
};

/// For programs: `x-turnpike-limits`.
pub fn extension(policy: &Policy, everywhere: &Policies, has_body: bool) -> Node {
    let body = if policy.decompress { policy.whole_body.min(policy.body) } else { policy.body };
    let limits = limiters(policy, everywhere)
        .map(|limiter| Node::object().with("policy", limiter.policy.clone()).with("key", limiter.key.to_string()));
    let concurrency = policy.concurrency.iter().map(|limit| {
        let (requests, key) = (u64::from(limit.config.requests.get()), limit.config.key.to_string());
        Node::object().with("requests", requests).with("key", key)
    });
    Node::object()
        .with_some("body_bytes", has_body.then_some(body))
        .with("timeout_ms", u64::try_from(policy.timeout.as_millis()).unwrap_or(u64::MAX))
        .with_some("rate", Some(Node::List(limits.collect())))
        .with_some("concurrency", Some(Node::List(concurrency.collect())))
}

/// For people.
pub fn sentence(policy: &Policy, everywhere: &Policies, has_body: bool) -> String {
    let mut said: Vec<_> = limiters(policy, everywhere).map(rate).collect();
    let at_once = policy.concurrency.iter();
    said.extend(
        at_once.map(|limit| format!("{} at once {}", limit.config.requests, whom(&limit.config.key.to_string()))),
    );
    let mut sentence = if said.is_empty() { String::new() } else { format!("At most {}.", said.join("; ")) };
    if has_body {
        let body = if policy.decompress { policy.whole_body.min(policy.body) } else { policy.body };
        sentence = format!("{sentence} The body has at most {}.", Size(body)).trim().to_owned();
    }
    sentence
}

/// Whether requests are counted.
pub fn are_there(policy: &Policy, everywhere: &Policies) -> bool {
    limiters(policy, everywhere).next().is_some()
}

fn limiters<'a>(policy: &'a Policy, everywhere: &'a Policies) -> impl Iterator<Item = &'a Limiter> {
    everywhere.iter().chain(policy.rate_limits.iter()).map(|limiter| &**limiter).filter(|limiter| !limiter.shadow)
}

fn rate(limiter: &Limiter) -> String {
    let whom = whom(&limiter.key.to_string());
    match limiter.config.quota {
        Quota::Window { requests, per } => format!("{requests} requests in any {} {whom}", span(per)),
        Quota::Rate { per_second, burst } => {
            format!("{per_second} requests a second, {burst} at once, {whom}")
        }
    }
}

/// `for each client address and route` of `client_address+route`.
fn whom(key: &str) -> String {
    if key == "everyone" {
        return "for all callers together".to_owned();
    }
    let parts = key.split('+').map(|part| match part.strip_prefix("header:") {
        Some(name) => format!("`{name}`"),
        None if part == "principal" => "caller".to_owned(),
        None => part.replace('_', " "),
    });
    format!("for each {}", parts.collect::<Vec<_>>().join(" and "))
}

fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if duration.subsec_millis() > 0 || seconds < 60 => format!("{duration:?}"),
        60 => "minute".to_owned(),
        3600 => "hour".to_owned(),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
