//! What a request must be and have before an action sees it: the route's own word, else the word above it.

use std::{sync::Arc, time::Duration};

use super::Compiler;
use crate::{
    action::transcode::FORWARD_HEADERS,
    address::Lists,
    auth::{Kinds, rule::Rule},
    cache,
    config::{self, Idempotency, Override, Requirement, Size, Switch},
    layers::{cors, security_headers},
    limit::{ConcurrencyConfig, Limit},
    route::{Authenticate, Policy, Scopes},
};

/// Settings of one level; what is None is the level above's to say.
#[derive(Clone, Default)]
pub struct Level<'a> {
    /// Where it says how its answers are passed on.
    pub route: Option<&'a config::Route>,
    pub authenticate: Option<Authenticate>,
    pub scopes: Option<&'a config::Scopes>,
    pub authorise: Option<&'a Requirement>,
    pub accepts: Option<Kinds>,
    pub forward_credentials: bool,
    pub timeout: Option<Duration>,
    pub body_limit: Option<Size>,
    pub idempotency: Option<Idempotency>,
    pub cache: Option<&'a Switch<cache::Config>>,
    /// What the action forwards by itself.
    pub forwarded: Vec<String>,
    pub rate_limits: Vec<Limit>,
    pub concurrency: Vec<&'a ConcurrencyConfig>,
    pub addresses: Option<&'a Lists>,
}

impl<'a> Level<'a> {
    pub fn of_route(route: &'a config::Route, rate_limits: Vec<Limit>) -> Self {
        Self {
            route: Some(route),
            authenticate: route.authenticate,
            scopes: route.scopes.as_ref(),
            authorise: route.authorise.as_ref(),
            accepts: route.credentials.as_ref().map(|kinds| kinds.0.iter().collect()),
            forward_credentials: route.forward_credentials.unwrap_or(false),
            timeout: route.timeout,
            body_limit: route.body_limit,
            idempotency: route.idempotency,
            cache: route.cache.as_ref(),
            forwarded: forwarded(route, None),
            rate_limits,
            concurrency: route.concurrency.0.iter().collect(),
            addresses: route.addresses.as_ref(),
        }
    }

    /// A method's word goes before its route's; its rate limits stand beside.
    pub fn with(&self, method: &'a Override, rate_limits: Vec<Limit>) -> Self {
        Self {
            route: self.route,
            authenticate: method.authenticate.or(self.authenticate),
            scopes: method.scopes.as_ref().or(self.scopes),
            authorise: method.authorise.as_ref().or(self.authorise),
            accepts: method.credentials.as_ref().map(|kinds| kinds.0.iter().collect()).or(self.accepts),
            forward_credentials: self.forward_credentials,
            timeout: method.timeout.or(self.timeout),
            body_limit: method.body_limit.or(self.body_limit),
            idempotency: method.idempotency.or(self.idempotency),
            cache: method.cache.as_ref().or(self.cache),
            forwarded: self.route.map_or_else(Vec::new, |route| forwarded(route, Some(method))),
            rate_limits: self.rate_limits.iter().cloned().chain(rate_limits).collect(),
            concurrency: self.concurrency.iter().copied().chain(&method.concurrency.0).collect(),
            addresses: method.addresses.as_ref().or(self.addresses),
        }
    }
}

/// The request headers that reach a gRPC service, and so may make its answer another.
fn forwarded(route: &config::Route, method: Option<&Override>) -> Vec<String> {
    if route.grpc.is_none() && route.transcode.is_none() && route.aggregate.is_none() {
        return Vec::new();
    }
    let own = method.and_then(|method| method.forward_headers.as_ref()).or(route.forward_headers.as_ref());
    own.cloned().unwrap_or_else(|| FORWARD_HEADERS.map(str::to_owned).to_vec())
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
        let rule = level.authorise.and_then(|requirement| match Rule::new(requirement) {
            Ok(rule) => Some(Arc::new(rule)),
            Err(faults) => {
                for (place, message) in faults {
                    let separator = if place.is_empty() { "" } else { "." };
                    self.fault(format!("{path}.authorise{separator}{place}"), message);
                }
                None
            }
        });
        let asks = match (&scopes, level.authorise) {
            (Scopes::None, None) => None,
            (Scopes::None, Some(_)) => Some("authorise"),
            _ => Some("scopes"),
        };
        let authenticate = match (level.authenticate, asks) {
            (Some(own), None) => own,
            (None, None) => self.config.authenticate,
            (None | Some(Authenticate::Required), _) => Authenticate::Required,
            (Some(_), Some(section)) => {
                self.fault(
                    format!("{path}.{section}"),
                    "only a caller who must be known can have scopes: authenticate: required",
                );
                Authenticate::Required
            }
        };
        if level.accepts == Some(Kinds::NONE) {
            self.fault(format!("{path}.credentials"), "names none");
        }
        let accepts = level.accepts.unwrap_or(Kinds::ALL);
        if level.timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.fault(format!("{path}.timeout"), "must be above 0");
        }
        let timeout = level.timeout.unwrap_or(self.config.timeout);
        let limits = &self.config.limits;
        let body = level.body_limit.unwrap_or(if json { limits.json_body } else { limits.body }).0;
        let whole_body = level.body_limit.unwrap_or(limits.json_body).0;
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
        let concurrency = self.config.concurrency.0.iter().chain(level.concurrency.iter().copied());
        let concurrency = concurrency.map(|config| self.concurrency.of(config)).collect();
        let addresses = level.addresses.filter(|lists| !lists.is_empty()).cloned().map(Arc::new);
        let forward_credentials = level.forward_credentials;
        let route = level.route;
        let decompress = json || route.is_some_and(|route| route.decompress == Some(true));
        Policy {
            authenticate,
            accepts,
            scopes,
            rule,
            forward_credentials,
            timeout,
            body,
            whole_body,
            rate_limits,
            concurrency,
            addresses,
            idempotency: level.idempotency,
            cache: self.cache(path, level),
            compression: route.and_then(|route| route.compression).unwrap_or(true),
            decompress,
            cors: self.cors(path, route),
            security_headers: self.security_headers(path, route),
        }
    }

    /// What is kept of the route's answers.
    fn cache(&mut self, path: &str, level: &Level<'_>) -> Option<Arc<cache::Policy>> {
        let config = level.cache.and_then(Switch::on)?;
        // Whatever the file says otherwise of the route, its answers are others.
        let route = format!("{:?}", level.route);
        match cache::Policy::new(config, &level.forwarded, &route) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(faults) => {
                for (place, message) in faults {
                    self.fault(format!("{path}.cache.{place}"), message);
                }
                None
            }
        }
    }

    /// Which other origins' pages may call.
    fn cors(&mut self, path: &str, route: Option<&config::Route>) -> cors::OfRoute {
        match route.and_then(|route| route.cors.as_ref()) {
            None => cors::OfRoute::Inherited,
            Some(Switch::Off) => cors::OfRoute::Off,
            Some(Switch::On(section)) => match cors::Config::new(&format!("{path}.cors"), section) {
                Ok(own) => cors::OfRoute::Own(Arc::new(own)),
                Err(errors) => {
                    self.errors.extend(errors);
                    cors::OfRoute::Off
                }
            },
        }
    }

    /// The response headers that only this route's answers carry, or don't.
    fn security_headers(&mut self, path: &str, route: Option<&config::Route>) -> Option<security_headers::Config> {
        let own = route.map(|route| &route.security_headers).filter(|own| !own.is_empty())?;
        let sections = [&self.config.security_headers, own];
        security_headers::Config::new(&format!("{path}.security_headers"), &sections)
            .map_err(|errors| self.errors.extend(errors))
            .ok()
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
