//! Active checks: every endpoint is asked how it is, on connections of their own, whoever else uses it.
//!
//! One good answer isn't health and one bad one isn't illness: two in a row bring an endpoint up, three take it down. An
//! instance that says itself that it isn't serving (it drains, or has lost what it needs) is believed at once.
//!
//! A service without `grpc.health.v1` (UNIMPLEMENTED) can't say how it is: that it answers is all there is to know, and
//! counts as well, as gRPC's proposal A17 has it. It is still asked: one that no longer answers is down as any other.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header::USER_AGENT};
use prost::Message as _;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};

use crate::{Body, Client, Health, Options, Protocol, endpoint, grpc::Code, upstream};

const UP_AFTER: u32 = 2;
const DOWN_AFTER: u32 = 3;
/// The longest wait while an endpoint is unhealthy or its last check failed.
const IN_DOUBT: Duration = Duration::from_secs(1);
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// What a check found.
enum Finding {
    Good(&'static str),
    Bad(String),
    /// It says itself that it doesn't serve.
    NotServing(&'static str),
}

/// The findings in a row that lead from one state to the other.
#[derive(Default)]
struct Streak {
    good: u32,
    bad: u32,
}

/// Checks all endpoints until told to stop, as they come and go. Returns at once where no checks are configured.
pub(crate) async fn check(upstream: &Arc<upstream::Shared>, stop: &CancellationToken) {
    let Some(health) = &upstream.config.health else { return };
    // They end with this set.
    let mut checks = JoinSet::new();
    let mut checked: Vec<(Arc<endpoint::Shared>, AbortHandle)> = Vec::new();
    loop {
        let mut changed = pin!(upstream.changed());
        // From here on no change is missed.
        changed.as_mut().enable();
        let endpoints = upstream.endpoints();
        checked.retain(|(endpoint, check)| {
            let stays = endpoints.iter().any(|other| Arc::ptr_eq(other, endpoint));
            if !stays {
                check.abort();
            }
            stays
        });
        for endpoint in endpoints.iter() {
            if !checked.iter().any(|(other, _)| Arc::ptr_eq(other, endpoint)) {
                let check = checks.spawn(keep_checked(Arc::clone(upstream), Arc::clone(endpoint), health.clone()));
                checked.push((Arc::clone(endpoint), check));
            }
        }
        while checks.try_join_next().is_some() {}
        tokio::select! {
            () = changed => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn keep_checked(upstream: Arc<upstream::Shared>, endpoint: Arc<endpoint::Shared>, health: Health) {
    // No balance and no retry may hide how it is.
    let client = Client::new(upstream.alone(&endpoint));
    let mut streak = Streak::default();
    loop {
        let finding = probe(&client, &health, upstream.config.protocol).await;
        let is_good = matches!(finding, Finding::Good(_));
        let was_healthy = endpoint.is_healthy();
        let (is_healthy, reason) = streak.judge(was_healthy, finding);
        if endpoint.set_health(is_healthy, &reason, std::time::Instant::now()) && is_healthy {
            upstream.heal();
        }
        let is_sure = is_healthy && is_good;
        sleep(if is_sure { health.interval } else { health.interval.min(IN_DOUBT) }).await;
    }
}

async fn probe(client: &Client, health: &Health, protocol: Protocol) -> Finding {
    let deadline = Instant::now() + health.timeout;
    let options = Options { deadline: Some(deadline.into_std()), idempotent: true, ..Options::default() };
    let probe = async {
        match (&health.path, protocol) {
            (Some(path), Protocol::Http1 | Protocol::Http2) => get(client, path, options).await,
            _ => ask(client, options).await,
        }
    };
    timeout_at(deadline, probe).await.unwrap_or_else(|_| Finding::Bad("no answer in time".to_owned()))
}

async fn get(client: &Client, path: &str, options: Options) -> Finding {
    let mut request = Request::new(Body::empty());
    match path.parse() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(error) => return Finding::Bad(format!("GET {path}: {error}")),
    }
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("turnpike-health"));
    match client.send(request, options).await {
        Ok(response) if response.status().is_success() => Finding::Good("answers its health path"),
        Ok(response) => Finding::Bad(format!("GET {path} answers {}", response.status())),
        Err(error) => Finding::Bad(error.detail.into_owned()),
    }
}

async fn ask(client: &Client, options: Options) -> Finding {
    // The empty name asks for the server as a whole.
    let question = HealthCheckRequest { service: String::new() }.encode_to_vec();
    let reply = match client.unary(CHECK, HeaderMap::new(), Bytes::from(question), options).await {
        Ok(reply) => reply,
        Err(status) if status.local.is_some() => return Finding::Bad(status.message),
        Err(status) if status.code == Code::Unimplemented as i32 => {
            return Finding::Good("answers; it has no grpc.health.v1 to say how it is");
        }
        Err(status) => return Finding::Bad(status.to_string()),
    };
    match HealthCheckResponse::decode(reply.message).map(|response| response.status()) {
        Ok(ServingStatus::Serving) => Finding::Good("serving"),
        Ok(ServingStatus::NotServing) => Finding::NotServing("says it is not serving"),
        Ok(other) => Finding::Bad(format!("answers {}", other.as_str_name())),
        Err(error) => Finding::Bad(format!("answers what is no health: {error}")),
    }
}

impl Streak {
    /// The state after a finding, and why.
    fn judge(&mut self, was_healthy: bool, finding: Finding) -> (bool, String) {
        match finding {
            Finding::Good(reason) => {
                self.good += 1;
                self.bad = 0;
                let is_healthy = was_healthy || self.good >= UP_AFTER;
                (
                    is_healthy,
                    if is_healthy { reason.to_owned() } else { format!("{reason}, {} of {UP_AFTER}", self.good) },
                )
            }
            Finding::Bad(reason) => {
                self.good = 0;
                self.bad += 1;
                let is_healthy = was_healthy && self.bad < DOWN_AFTER;
                (is_healthy, if is_healthy { format!("{reason}, {} of {DOWN_AFTER}", self.bad) } else { reason })
            }
            Finding::NotServing(reason) => {
                *self = Self { good: 0, bad: DOWN_AFTER };
                (false, reason.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_take_it_down_and_two_successes_bring_it_up() {
        let mut streak = Streak::default();
        let bad = || Finding::Bad("no answer in time".to_owned());
        assert!(streak.judge(true, bad()).0);
        assert_eq!(streak.judge(true, bad()), (true, "no answer in time, 2 of 3".to_owned()));
        assert_eq!(streak.judge(true, bad()), (false, "no answer in time".to_owned()));
        assert_eq!(streak.judge(false, Finding::Good("serving")), (false, "serving, 1 of 2".to_owned()));
        assert_eq!(streak.judge(false, Finding::Good("serving")), (true, "serving".to_owned()));
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let mut streak = Streak::default();
        for _ in 0..5 {
            assert!(streak.judge(true, Finding::Bad("x".to_owned())).0);
            assert!(streak.judge(true, Finding::Bad("x".to_owned())).0);
            assert!(streak.judge(true, Finding::Good("serving")).0);
        }
    }

    #[test]
    fn an_instance_that_drains_leaves_at_once() {
        let mut streak = Streak::default();
        assert!(!streak.judge(true, Finding::NotServing("says it is not serving")).0);
        assert!(!streak.judge(false, Finding::Good("serving")).0);
        assert!(streak.judge(false, Finding::Good("serving")).0);
    }
}
