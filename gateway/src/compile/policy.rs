//! What a request must be and have before an action sees it: the route's own word, else the word above it.

use std::{sync::Arc, time::Duration};

use super::Compiler;
use crate::{
    config::{self, Idempotency, Override, Size},
    limit::Limiter,
    route::{Authenticate, Policy, Scopes},
};

/// Settings of one level; what is None is the level above's to say.
#[derive(Clone, Default)]
pub struct Level<'a> {
    pub authenticate: Option<Authenticate>,
    pub scopes: Option<&'a config::Scopes>,
    pub timeout: Option<Duration>,
    pub body_limit: Option<Size>,
    pub idempotency: Option<Idempotency>,
    pub rate_limits: Vec<Arc<Limiter>>,
}

impl<'a> Level<'a> {
    pub fn of_route(route: &'a config::Route, rate_limits: Vec<Arc<Limiter>>) -> Self {
        Self {
            authenticate: route.authenticate,
            scopes: route.scopes.as_ref(),
            timeout: route.timeout,
            body_limit: route.body_limit,
            idempotency: route.idempotency,
            rate_limits,
        }
    }

    /// A method's word goes before its route's; its rate limits stand beside.
    pub fn with(&self, method: &'a Override, rate_limits: Vec<Arc<Limiter>>) -> Self {
        Self {
            authenticate: method.authenticate.or(self.authenticate),
            scopes: method.scopes.as_ref().or(self.scopes),
            timeout: method.timeout.or(self.timeout),
            body_limit: method.body_limit.or(self.body_limit),
            idempotency: method.idempotency.or(self.idempotency),
            rate_limits: self.rate_limits.iter().cloned().chain(rate_limits).collect(),
        }
    }
}

impl Compiler<'_> {
    /// `json`: the body is read whole, to become a message.
    pub(super) fn policy(&mut self, path: &str, level: &Level<'_>, json: bool) -> Policy {
        let scopes = level.scopes.map(Scopes::from).unwrap_or_default();
        if let Scopes::All(list) | Scopes::Any(list) = &scopes
            && list.is_empty()
        {
            self.fault(format!("{path}.scopes"), "names no scope");
        }
        let authenticate = match (level.authenticate, &scopes) {
            (Some(own), Scopes::None) => own,
            (None, Scopes::None) => self.config.authenticate,
            (None | Some(Authenticate::Required), _) => Authenticate::Required,
            (Some(_), _) => {
                self.fault(
                    format!("{path}.scopes"),
                    "only a caller who must be known can have scopes: authenticate: required",
                );
                Authenticate::Required
            }
        };
        if level.timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.fault(format!("{path}.timeout"), "must be above 0");
        }
        let timeout = level.timeout.unwrap_or(self.config.timeout);
        let limits = &self.config.limits;
        let body = level.body_limit.unwrap_or(if json { limits.json_body } else { limits.body }).0;
        if let Some(idempotency) = &level.idempotency {
            if authenticate != Authenticate::Required {
                self.fault(
                    format!("{path}.idempotency"),
                    "keys are told apart by their caller, who must be known: authenticate: required",
                );
            }
            if idempotency.keep < Duration::from_secs(1) || idempotency.keep > Duration::from_secs(7 * 24 * 3600) {
                self.fault(format!("{path}.idempotency.keep"), "must be within 1s to 168h");
            }
        }
        let rate_limits = self.limiters.policies(&level.rate_limits);
        Policy { authenticate, scopes, timeout, body, rate_limits, idempotency: level.idempotency }
    }

    /// An upstream that may take longer to connect to than the whole request may take is a contradiction.
    pub(super) fn check_timeout(&mut self, path: &str, timeout: Duration, upstream: &str) {
        if let Some(section) = self.config.upstreams.get(upstream)
            && section.connect_timeout > timeout
        {
            let connect = section.connect_timeout;
            let message = format!("{timeout:?} is over before the connect timeout of \"{upstream}\", {connect:?}");
            self.fault(format!("{path}.timeout"), message);
        }
    }
}
