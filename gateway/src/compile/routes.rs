//! The section `routes:`, and the routes that come from annotations. Explicit routes go into the table first: they hide
//! derived ones.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::{Compiler, policy::Level};
use crate::{
    action::{Action, Aggregate, Proxy, Redirect, Respond, Session, Transcode, aggregate, session, transcode},
    config::{self, Match, Override, did_you_mean},
    descriptors::{self, Binding, BodyRule},
    metrics::RouteMetrics,
    route::{Authenticate, Conditions, Conflict, Policy, Route, Template},
    snapshot::Listed,
};

/// A route that is about to go into the table.
struct Draft {
    /// Where it stands in the file.
    path: String,
    name: Option<String>,
    template: String,
    /// None: any.
    methods: Vec<Method>,
    conditions: Conditions,
    policy: Policy,
    action: Action,
    kind: &'static str,
    upstream: Option<String>,
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
        let owner =
            format!("{:?}", (&matches.path, &matches.method.0, &matches.host, &matches.headers, matches.priority));
        let limits = self.limiters.section(
            &owner,
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

    /// The action of an explicit route, with its kind and, if there is only one, its upstream.
    fn action(
        &mut self,
        path: &str,
        route: &config::Route,
        template: &Template,
        methods: &[Method],
        policy: &Policy,
    ) -> Option<(Action, &'static str, Option<String>)> {
        let variables: Vec<&str> = template.variables.iter().map(|variable| &*variable.name).collect();
        let made = match (&route.transcode, &route.aggregate, &route.proxy, &route.respond, &route.redirect) {
            (Some(call), None, None, None, None) => {
                let (action, upstream) = self.transcode(path, route, call, template, methods)?;
                return Some((action, "transcode", Some(upstream)));
            }
            (None, Some(parts), None, None, None) => {
                let parts = self.parts(path, parts, route.upstream.as_deref(), policy)?;
                let made = Aggregate::new(&parts, &variables, &self.directory);
                ("aggregate", made.map(Action::Aggregate), None)
            }
            (None, None, Some(section), None, None) => {
                let id = self.upstream_id(&format!("{path}.proxy"), &section.upstream)?;
                let made = Proxy::new(section, id, &template.text, &variables);
                ("proxy", made.map(Action::Proxy), Some(section.upstream.clone()))
            }
            (None, None, None, Some(section), None) => ("respond", Respond::new(section).map(Action::Respond), None),
            (None, None, None, None, Some(section)) => {
                ("redirect", Redirect::new(section, &variables).map(Action::Redirect), None)
            }
            _ => {
                self.fault(
                    path,
                    "a route has exactly one of `transcode`, `aggregate`, `proxy`, `respond` and `redirect`",
                );
                return None;
            }
        };
        let (kind, made, upstream) = made;
        match made {
            Ok(action) => Some((action, kind, upstream)),
            Err(errors) => {
                self.faults(&format!("{path}.{kind}"), errors);
                None
            }
        }
    }

    /// Parts with the route's upstream where they name none, checked against the route's timeout. None if an upstream is
    /// not known: that is reported once.
    fn parts(
        &mut self,
        path: &str,
        parts: &[aggregate::PartConfig],
        upstream: Option<&str>,
        policy: &Policy,
    ) -> Option<Vec<aggregate::PartConfig>> {
        let mut parts = parts.to_vec();
        let mut known = upstream.is_none_or(|name| self.upstream_id(&format!("{path}.upstream"), name).is_some());
        for (at, part) in parts.iter_mut().enumerate() {
            let place = format!("{path}.aggregate[{at}]");
            if let Some(timeout) = part.timeout
                && timeout > policy.timeout
            {
                self.fault(format!("{place}.timeout"), format!("is longer than the route's, {:?}", policy.timeout));
            }
            if let Some(name) = &part.upstream {
                known &= self.upstream_id(&format!("{place}.upstream"), name).is_some();
            }
            part.upstream = part.upstream.take().or_else(|| upstream.map(str::to_owned));
        }
        known.then_some(parts)
    }

    fn transcode(
        &mut self,
        path: &str,
        route: &config::Route,
        call: &str,
        template: &Template,
        methods: &[Method],
    ) -> Option<(Action, String)> {
        let [http_method] = methods else {
            self.fault(format!("{path}.match.method"), "a transcoded route has exactly one method");
            return None;
        };
        if let Some(name) = &route.upstream {
            self.upstream_id(&format!("{path}.upstream"), name)?;
        }
        let (upstream, method) = match self.directory.method(call, route.upstream.as_deref()) {
            Ok(found) => found,
            Err(message) => {
                self.fault(format!("{path}.transcode"), message);
                return None;
            }
        };
        let has_body = matches!(*http_method, Method::POST | Method::PUT | Method::PATCH);
        let binding = Binding {
            method,
            http_method: http_method.clone(),
            template: template.text.clone(),
            body: if has_body { BodyRule::All } else { BodyRule::None },
            response_body: None,
        };
        let section = transcoding(route, &Override::default());
        match Transcode::new(&binding, upstream, &section) {
            Ok(action) => Some((Action::Transcode(action), self.upstreams.get(upstream.0)?.config.name.clone())),
            Err(errors) => {
                self.faults(path, errors);
                None
            }
        }
    }

    /// A route with `grpc`: one for each annotation of the service.
    fn service(&mut self, path: &str, route: &config::Route, service: &str) {
        let strays = [
            ("match", route.matches.is_some()),
            ("transcode", route.transcode.is_some()),
            ("aggregate", route.aggregate.is_some()),
            ("proxy", route.proxy.is_some()),
            ("respond", route.respond.is_some()),
            ("redirect", route.redirect.is_some()),
            ("response", route.response.is_some()),
        ];
        for (name, _) in strays.into_iter().filter(|(_, stray)| *stray) {
            self.fault(format!("{path}.{name}"), "does not go with `grpc`");
        }
        let Some(upstream) = &route.upstream else {
            self.fault(format!("{path}.upstream"), "must say who serves it");
            return;
        };
        let Some(id) = self.upstream_id(&format!("{path}.upstream"), upstream) else { return };
        let source = self.config.upstreams.get(upstream).and_then(|section| section.descriptors.as_deref());
        let Some(source) = source else {
            self.fault(format!("upstreams.{upstream}.descriptors"), format!("must say what {service} is"));
            return;
        };
        // What can't be read was reported where it stands.
        let Some(Some(pool)) = self.pools.get(source).cloned() else { return };
        let bindings = match descriptors::bindings(&pool, service) {
            Ok(bindings) => bindings,
            Err(messages) => {
                let near = did_you_mean(
                    service,
                    pool.services()
                        .map(|known| known.full_name().to_owned())
                        .collect::<Vec<_>>()
                        .iter()
                        .map(String::as_str),
                );
                messages.into_iter().for_each(|message| self.fault(format!("{path}.grpc"), format!("{message}{near}")));
                return;
            }
        };
        if bindings.is_empty() {
            self.notes.push(format!("{path}.grpc: no method of {service} is annotated with google.api.http"));
        }
        for name in route.methods.keys() {
            if !bindings.iter().any(|binding| binding.method.name() == name) {
                let near = did_you_mean(name, bindings.iter().map(|binding| binding.method.name()));
                self.fault(
                    format!("{path}.methods.{name}"),
                    format!("{service} has no annotated method \"{name}\"{near}"),
                );
            }
        }
        let limits = self.limiters.section(
            service,
            &format!("{path}.rate_limit"),
            "route-",
            &route.rate_limit.0,
            &mut self.errors,
        );
        let level = Level::of_route(route, limits);
        for binding in bindings {
            self.binding(path, route, &level, upstream, id, &binding);
        }
    }

    fn binding(
        &mut self,
        path: &str,
        route: &config::Route,
        level: &Level<'_>,
        upstream: &str,
        id: crate::worker::UpstreamId,
        binding: &Binding,
    ) {
        let name = binding.method.name();
        let plain = Override::default();
        let (own, place) = match route.methods.get(name) {
            Some(own) => (own, format!("{path}.methods.{name}")),
            None => (&plain, path.to_owned()),
        };
        let limits = self.limiters.section(
            binding.method.full_name(),
            &format!("{place}.rate_limit"),
            "method-",
            &own.rate_limit.0,
            &mut self.errors,
        );
        let policy = self.policy(&place, &level.with(own, limits), true);
        self.check_timeout(&place, policy.timeout, upstream);
        let action = match Transcode::new(binding, id, &transcoding(route, own)) {
            Ok(action) => Action::Transcode(action),
            Err(errors) => {
                self.faults(&place, errors);
                return;
            }
        };
        self.add(Draft {
            path: format!("{path}.grpc ({name})"),
            name: None,
            template: binding.template.clone(),
            methods: vec![binding.http_method.clone()],
            conditions: Conditions { derived: true, ..Conditions::default() },
            policy,
            action,
            kind: "transcode",
            upstream: Some(upstream.to_owned()),
        });
    }

    /// The endpoints of `authentication.session`.
    fn session(&mut self) {
        let Some(section) = &self.config.authentication.session else { return };
        let path = "authentication.session";
        let Some(id) = self.upstream_id(&format!("{path}.upstream"), &section.upstream) else { return };
        let action = session::Config { upstream: section.upstream.clone(), login: section.login.clone() };
        for method in [Method::POST, Method::GET, Method::DELETE] {
            // Who logs in is not known yet; what else it carries doesn't matter.
            let authenticate = if method == Method::POST { Authenticate::None } else { Authenticate::Optional };
            let level = Level { authenticate: Some(authenticate), ..Level::default() };
            let policy = self.policy(path, &level, true);
            let sessions = Arc::clone(self.sources.sessions) as Arc<dyn session::Sessions>;
            match Session::new(&action, id, sessions) {
                Ok(action) => self.add(Draft {
                    path: format!("{path}.path"),
                    name: None,
                    template: section.path.clone(),
                    methods: vec![method],
                    conditions: Conditions::default(),
                    policy,
                    action: Action::Session(action),
                    kind: "session",
                    upstream: Some(section.upstream.clone()),
                }),
                Err(errors) => return self.faults(path, errors),
            }
        }
    }

    fn add(&mut self, draft: Draft) {
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

/// The section of a transcoded route: the method's word goes before the route's.
fn transcoding(route: &config::Route, method: &Override) -> transcode::Config {
    let default = transcode::Config::default();
    let forward = method.forward_headers.as_ref().or(route.forward_headers.as_ref());
    transcode::Config {
        forward_headers: forward.cloned().unwrap_or(default.forward_headers),
        response: method.response.clone().or_else(|| route.response.clone()),
    }
}
