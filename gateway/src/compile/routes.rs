//! The section `routes:`. Explicit routes go into the table first: they hide derived ones.

use std::{collections::HashSet, net::Ipv6Addr, sync::Arc};

use http::{HeaderName, Method, header::HOST};

use super::{Compiler, policy::Level};
use crate::{
    action::{Action, edit::Edit},
    config::{self, FieldMatch, Match},
    metrics::RouteMetrics,
    openapi::Described,
    route::{Conditions, Conflict, Kind, Policy, Route, Table, Template, Wanted},
    snapshot::Listed,
};

/// A route with one method and one host, as it goes into the table.
pub(super) struct Pending {
    /// Where it stands in the file.
    path: String,
    template: Template,
    conditions: Conditions,
    route: Arc<Route>,
}

/// A route that is about to go into the table.
pub(super) struct Draft {
    /// Where it stands in the file.
    pub path: String,
    pub name: Option<String>,
    pub template: String,
    /// None: any.
    pub methods: Vec<Method>,
    /// None: any.
    pub hosts: Vec<String>,
    pub conditions: Conditions,
    pub policy: Policy,
    pub action: Action,
    /// Of the request and of the answer.
    pub edits: (Edit, Edit),
    pub kind: &'static str,
    pub upstream: Option<String>,
    /// For the OpenAPI document.
    pub described: Described,
}

impl Compiler<'_> {
    pub(super) fn routes(&mut self) {
        self.documents();
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
        self.settle();
    }

    /// Makes the table, and says which routes stand in each other's way.
    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let entries = pending.iter().map(|own| (own.template.clone(), own.conditions.clone(), Arc::clone(&own.route)));
        let (table, conflicts) = Table::new(entries);
        self.table = table;
        if self.errors.is_empty() {
            self.unasked(pending.iter().map(|own| &*own.route));
        }
        self.lonely_scopes();
        let mut is_hidden = vec![false; pending.len()];
        let mut said = HashSet::new();
        for Conflict { route, with, kind } in conflicts {
            let (own, other) = (&pending[route], &pending[with]);
            let (id, its) = (&own.route.id, &other.route.id);
            if kind == Kind::Shadowed && own.conditions.derived && !other.conditions.derived {
                if !std::mem::replace(&mut is_hidden[route], true) {
                    self.notes.push(format!("{}: `{id}` is hidden by the route `{its}`", own.path));
                }
                continue;
            }
            let message = match kind {
                Kind::Same => format!("no request can tell it from the route `{its}`"),
                Kind::Shadowed => format!("is never taken: the route `{its}` takes all of its requests"),
                Kind::Ambiguous => {
                    format!("some requests fit this and the route `{its}` alike: a `priority` on one of them decides")
                }
            };
            if said.insert((own.path.clone(), message.clone())) {
                self.fault(own.path.as_str(), message);
            }
        }
        let taken = pending.into_iter().zip(is_hidden).filter(|(_, is_hidden)| !is_hidden);
        self.routes.extend(taken.map(|(own, _)| Listed {
            template: own.template.text,
            conditions: own.conditions,
            route: own.route,
        }));
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
        if route.proxy.is_none() && route.decompress.is_some() {
            self.fault(format!("{path}.decompress"), "belongs to a route with `proxy`");
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
        let hosts = self.hosts(path, matches);
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
        for asked in action.asks() {
            if let Some(upstream) = self.upstreams.get(asked.upstream.0).map(|running| running.config.name.clone()) {
                self.check_timeout(path, policy.timeout, &upstream);
            }
        }
        let methods = if kind == "aggregate" && methods.is_empty() { vec![Method::GET] } else { methods };
        let edits = self.edits(path, route);
        let described = self.described(path, route, &template, &methods);
        let name = route.name.clone();
        let template = matches.path.clone();
        self.add(Draft {
            path: path.to_owned(),
            name,
            template,
            methods,
            hosts,
            conditions,
            policy,
            action,
            edits,
            kind,
            upstream,
            described,
        });
    }

    pub(super) fn add(&mut self, draft: Draft) {
        let template = match Template::parse(&draft.template) {
            Ok(template) => template,
            Err(message) => return self.fault(draft.path, format!("{}: {message}", draft.template)),
        };
        let looked_at = draft.policy.rule.iter().flat_map(|rule| rule.variables());
        for name in looked_at.filter(|name| !template.variables.iter().any(|known| *known.name == **name)) {
            self.fault(format!("{}.authorise", draft.path), format!("{} has no variable {{{name}}}", draft.template));
        }
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
            request_headers: draft.edits.0,
            response_headers: draft.edits.1,
            upstream: draft.upstream.map(Into::into),
            kind: draft.kind,
            derived: draft.conditions.derived,
            described: draft.described,
            metrics: RouteMetrics::new(&id),
        });
        let methods = each(&draft.methods);
        let hosts = each(&draft.hosts);
        for (method, host) in methods.iter().flat_map(|method| hosts.iter().map(move |host| (method, host))) {
            let conditions = Conditions { method: method.clone(), host: host.clone(), ..draft.conditions.clone() };
            let (path, template, route) = (draft.path.clone(), template.clone(), Arc::clone(&route));
            self.pending.push(Pending { path, template, conditions, route });
        }
    }

    fn methods(&mut self, path: &str, matches: &Match) -> Vec<Method> {
        let mut methods = Vec::new();
        for (at, name) in matches.method.0.iter().enumerate() {
            let place = format!("{path}.match.method[{at}]");
            match name.parse::<Method>() {
                Ok(method) if methods.contains(&method) => self.fault(place, format!("`{name}` is there already")),
                Ok(method) if !name.is_empty() && *name == name.to_ascii_uppercase() => methods.push(method),
                _ => self.fault(place, format!("`{name}` is not a method such as GET")),
            }
        }
        methods
    }

    fn hosts(&mut self, path: &str, matches: &Match) -> Vec<String> {
        let mut hosts = Vec::new();
        for (at, written) in matches.host.0.iter().enumerate() {
            let place = format!("{path}.match.host[{at}]");
            let host = written.to_ascii_lowercase();
            if hosts.contains(&host) {
                self.fault(place, format!("`{written}` is there already"));
            } else if is_host(&host) {
                hosts.push(host);
            } else {
                self.fault(place, format!("`{written}` is not a name such as api.example or *.api.example"));
            }
        }
        hosts
    }

    fn conditions(&mut self, path: &str, matches: &Match) -> Conditions {
        let mut headers: Vec<(HeaderName, Wanted)> = Vec::new();
        for (name, written) in &matches.headers {
            let place = format!("{path}.match.headers.{name}");
            match (HeaderName::try_from(name), wanted(written)) {
                (_, Err(message)) => self.fault(place, message),
                (Err(_), _) => self.fault(place, "not the name of a header"),
                (Ok(HOST), _) => self.fault(place, "a host is asked for by `match.host`"),
                (Ok(name), _) if headers.iter().any(|(other, _)| *other == name) => {
                    self.fault(place, "is there already")
                }
                (Ok(name), Ok(wanted)) => headers.push((name, wanted)),
            }
        }
        let mut query = Vec::new();
        for (name, written) in &matches.query {
            match wanted(written) {
                Ok(wanted) => query.push((name.clone(), wanted)),
                Err(message) => self.fault(format!("{path}.match.query.{name}"), message),
            }
        }
        Conditions { headers, query, priority: matches.priority, ..Conditions::default() }
    }
}

/// Each of them, or none once.
fn each<T: Clone>(items: &[T]) -> Vec<Option<T>> {
    if items.is_empty() { vec![None] } else { items.iter().cloned().map(Some).collect() }
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok() && name == host,
        None => {
            let label = |label: &str| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            };
            name.len() <= 253 && name.split('.').all(label)
        }
    }
}

fn wanted(written: &FieldMatch) -> Result<Wanted, &'static str> {
    match written {
        FieldMatch::Exact(value) => Ok(Wanted::Exact(value.clone())),
        FieldMatch::Prefix(prefix) if prefix.is_empty() => Err("an empty prefix asks for nothing: say `present: true`"),
        FieldMatch::Prefix(prefix) => Ok(Wanted::Prefix(prefix.clone())),
        FieldMatch::Present(true) => Ok(Wanted::Present),
        FieldMatch::Present(false) => Ok(Wanted::Absent),
    }
}

/// What a route is recognised by in the next file: all that it matches.
fn place(matches: &Match) -> String {
    let mut place = format!("{} {}", matches.method.0.join("|"), matches.path).trim_start().to_owned();
    if !matches.host.0.is_empty() {
        place = format!("{place} @{}", matches.host.0.join("|"));
    }
    for (name, value) in &matches.headers {
        place = format!("{place} {name}={value}");
    }
    for (name, value) in &matches.query {
        place = format!("{place} ?{name}={value}");
    }
    if matches.priority != 0 {
        place = format!("{place} !{}", matches.priority);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_an_address_or_all_below_a_name() {
        for good in ["localhost", "api.example", "*.api.example", "10.0.0.1", "[::1]", "xn--bcher-kva.example"] {
            assert!(is_host(good), "{good}");
        }
        for wrong in ["", "*", "*.", "a.*.b", "*.*.a", "a..b", "a.example.", "a:80", "a/b", "[::1", "*.[::1]", "[x]"] {
            assert!(!is_host(wrong), "{wrong}");
        }
    }
}
