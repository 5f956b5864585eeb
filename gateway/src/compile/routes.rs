//! The section `routes:`. Explicit routes go into the table first: they hide derived ones.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::{Compiler, policy::Level};
use crate::{
    action::Action,
    config::{self, Match},
    metrics::RouteMetrics,
    route::{Conditions, Conflict, Policy, Route, Template},
    snapshot::Listed,
};

/// A route that is about to go into the table.
pub(super) struct Draft {
    /// Where it stands in the file.
    pub path: String,
    pub name: Option<String>,
    pub template: String,
    /// None: any.
    pub methods: Vec<Method>,
    pub conditions: Conditions,
    pub policy: Policy,
    pub action: Action,
    pub kind: &'static str,
    pub upstream: Option<String>,
}

impl Compiler<'_> {
    pub(super) fn routes(&mut self) {
        self.session();
        let config = self.config;
        for (at, route) in config.routes.iter().enumerate() {
            let path = format!("routes[{at}]");
            if let Some(name) = &route.name
                && config.routes[..at].iter().any(|other| other.name.as_ref() == Some(name))
            {
                self.fault(format!("{path}.name"), format!("`{name}` is there already"));
            }
            if route.grpc.is_none() {
                self.explicit(&path, route);
            }
        }
        for (at, route) in config.routes.iter().enumerate() {
            if let Some(service) = &route.grpc {
                self.service(&format!("routes[{at}]"), route, service);
            }
        }
    }

    /// A route with `match`.
    fn explicit(&mut self, path: &str, route: &config::Route) {
        let Some(matches) = &route.matches else {
            self.fault(path, "a route has either `grpc` or `match`");
            return;
        };
        if !route.methods.is_empty() {
            self.fault(format!("{path}.methods"), "belongs to a route with `grpc`");
        }
        if route.transcode.is_none() {
            let strays = [("response", route.response.is_some()), ("forward_headers", route.forward_headers.is_some())];
            for (name, _) in strays.into_iter().filter(|(_, stray)| *stray) {
                self.fault(format!("{path}.{name}"), "belongs to a route with `grpc` or `transcode`");
            }
        }
        let template = match Template::parse(&matches.path) {
            Ok(template) => template,
            Err(message) => {
                self.fault(format!("{path}.match.path"), message);
                return;
            }
        };
        let methods = self.methods(path, matches);
        let conditions = self.conditions(path, matches);
        let limits = self.limiters.section(
            &place(matches),
            &format!("{path}.rate_limit"),
            "route-",
            &route.rate_limit.0,
            &mut self.errors,
        );
        let json = route.transcode.is_some() || route.aggregate.is_some();
        let policy = self.policy(path, &Level::of_route(route, limits), json);
        let Some((action, kind, upstream)) = self.action(path, route, &template, &methods, &policy) else { return };
        if let Some(upstream) = &upstream {
            self.check_timeout(path, policy.timeout, upstream);
        }
        let methods = if kind == "aggregate" && methods.is_empty() { vec![Method::GET] } else { methods };
        let name = route.name.clone();
        let template = matches.path.clone();
        self.add(Draft { path: path.to_owned(), name, template, methods, conditions, policy, action, kind, upstream });
    }

    pub(super) fn add(&mut self, draft: Draft) {
        let template = match Template::parse(&draft.template) {
            Ok(template) => template,
            Err(message) => return self.fault(draft.path, format!("{}: {message}", draft.template)),
        };
        let methods: Vec<_> = draft.methods.iter().map(Method::as_str).collect();
        let id = match (draft.name, methods.as_slice()) {
            (Some(name), _) => name,
            (None, []) => draft.template.clone(),
            (None, methods) => format!("{} {}", methods.join("|"), draft.template),
        };
        let route = Arc::new(Route {
            id: id.as_str().into(),
            policy: draft.policy,
            action: draft.action,
            upstream: draft.upstream.map(Into::into),
            kind: draft.kind,
            derived: draft.conditions.derived,
            metrics: RouteMetrics::new(&id),
        });
        let conditions: Vec<_> = match draft.methods.as_slice() {
            [] => vec![draft.conditions],
            methods => methods
                .iter()
                .map(|method| Conditions { method: Some(method.clone()), ..draft.conditions.clone() })
                .collect(),
        };
        for conditions in conditions {
            match self.table.insert(template.clone(), conditions.clone(), Arc::clone(&route)) {
                Ok(()) => {
                    let listed = Listed { template: draft.template.clone(), conditions, route: Arc::clone(&route) };
                    self.routes.push(listed);
                }
                Err(Conflict::Clash(other)) => {
                    let message = format!("no request can tell it from the route `{}`", other.id);
                    self.fault(draft.path.as_str(), message);
                }
                Err(Conflict::Hidden(other)) => {
                    self.notes.push(format!("{}: `{id}` is hidden by the route `{}`", draft.path, other.id));
                }
            }
        }
    }

    fn methods(&mut self, path: &str, matches: &Match) -> Vec<Method> {
        let mut methods = Vec::new();
        for (at, name) in matches.method.0.iter().enumerate() {
            match name.parse::<Method>() {
                Ok(method) if !name.is_empty() && *name == name.to_ascii_uppercase() => methods.push(method),
                _ => self.fault(format!("{path}.match.method[{at}]"), format!("`{name}` is not a method such as GET")),
            }
        }
        methods
    }

    fn conditions(&mut self, path: &str, matches: &Match) -> Conditions {
        let mut headers = Vec::new();
        for (name, value) in &matches.headers {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => headers.push((name, (!value.is_empty()).then_some(value))),
                _ => self.fault(format!("{path}.match.headers.{name}"), "not a header field"),
            }
        }
        if let Some(host) = &matches.host
            && (host.is_empty() || host.contains(['/', ':', ' ']) || host.trim_start_matches("*.").contains('*'))
        {
            self.fault(format!("{path}.match.host"), "must be a name such as api.example or *.api.example");
        }
        Conditions { method: None, host: matches.host.clone(), headers, priority: matches.priority, derived: false }
    }
}

/// What a route is recognised by in the next file: all that it matches.
fn place(matches: &Match) -> String {
    let mut place = format!("{} {}", matches.method.0.join("|"), matches.path).trim_start().to_owned();
    if let Some(host) = &matches.host {
        place = format!("{place} @{host}");
    }
    for (name, value) in &matches.headers {
        place = format!("{place} {name}={value}");
    }
    if matches.priority != 0 {
        place = format!("{place} !{}", matches.priority);
    }
    place
}
