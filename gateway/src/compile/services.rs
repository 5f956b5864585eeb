//! Routes that stand in no `match`: those of a service's annotations, and the session's endpoints.

use std::{fs, sync::Arc};

use http::Method;

use super::{Compiler, openapi::place_of, policy::Level, routes::Draft};
use crate::{
    action::{Action, Session, Split, Transcode, edit::Edit, session, transcode},
    config::{self, Override, did_you_mean},
    descriptors::{
        self, Binding, Stale,
        rule::{HttpRule, ServiceConfig},
    },
    openapi::{Describe, Described, Subject},
    route::{Authenticate, Conditions},
};

/// Who serves the routes of a service, and what they have in common.
struct Served<'a> {
    upstream: &'a str,
    split: Split,
    edits: (Edit, Edit),
}

impl Compiler<'_> {
    /// A route with `grpc`: one for each annotation of the service.
    pub(super) fn service(&mut self, path: &str, route: &config::Route, service: &str) {
        let strays = [
            ("match", route.matches.is_some()),
            ("transcode", route.transcode.is_some()),
            ("aggregate", route.aggregate.is_some()),
            ("proxy", route.proxy.is_some()),
            ("respond", route.respond.is_some()),
            ("redirect", route.redirect.is_some()),
            ("response", route.response.is_some()),
            ("decompress", route.decompress.is_some()),
        ];
        for (name, _) in strays.into_iter().filter(|(_, stray)| *stray) {
            self.fault(format!("{path}.{name}"), "does not go with `grpc`");
        }
        self.describes_all(path, &route.describe);
        let Some(upstream) = route.served_by() else {
            self.fault(format!("{path}.upstream"), "must say who serves it");
            return;
        };
        let Some(id) = self.upstream_id(&format!("{path}.upstream"), upstream) else { return };
        let Some(section) = self.config.upstreams.get(upstream) else { return };
        if section.descriptors.is_none() {
            self.fault(format!("upstreams.{upstream}.descriptors"), format!("must say what {service} is"));
            return;
        }
        if self.awaits(path, upstream) {
            return;
        }
        // What can't be read was reported where it stands.
        let Some(descriptors) = self.directory.descriptors(upstream).cloned() else { return };
        // What a service has said may be older than the file; what it says now is not.
        let is_old = section.is_reflected() && !self.sources.live.is_tried(upstream);
        if is_old && descriptors.service(service).is_err() {
            self.await_service(path, upstream);
            return;
        }
        let Some(rules) = self.rules(path, route) else { return };
        let bindings = match descriptors::by_rules(&descriptors, service, &rules) {
            Ok(bindings) => bindings,
            Err(messages) if descriptors.service(service).is_ok() => {
                // It is a rule that makes no sense: the route's, or an annotation.
                let place = match (&route.http_rules_file, route.http_rules.is_empty()) {
                    (Some(_), _) => "http_rules_file",
                    (None, false) => "http_rules",
                    (None, true) => "grpc",
                };
                messages.into_iter().for_each(|message| self.fault(format!("{path}.{place}"), message));
                return;
            }
            Err(messages) => {
                let near = did_you_mean(
                    service,
                    descriptors
                        .services()
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
        let Some(split) = self.served(path, route, id) else { return };
        let served = Served { upstream, split, edits: self.edits(path, route) };
        for binding in bindings {
            self.binding(path, route, &level, &served, &binding);
        }
    }

    /// The rules that take the place of annotations. None if they can't be had: that is reported.
    fn rules(&mut self, path: &str, route: &config::Route) -> Option<Vec<HttpRule>> {
        let (place, written) = match &route.http_rules_file {
            None => (format!("{path}.http_rules"), route.http_rules.clone()),
            Some(_) if !route.http_rules.is_empty() => {
                self.fault(format!("{path}.http_rules_file"), "does not go with `http_rules`");
                return None;
            }
            Some(file) => {
                let file = self.path(file);
                self.read.push(file.clone());
                let place = format!("{path}.http_rules_file");
                let read = fs::read_to_string(&file).map_err(|error| error.to_string());
                let read = read.and_then(|text| {
                    serde_saphyr::from_str::<ServiceConfig>(&text).map_err(|error| error.without_snippet().to_string())
                });
                match read {
                    Ok(config) => (place, config.http.rules),
                    Err(message) => {
                        self.fault(place, format!("{}: {message}", file.display()));
                        return None;
                    }
                }
            }
        };
        let mut rules = Vec::new();
        for (at, written) in written.iter().enumerate() {
            match written.rule() {
                // A service configuration may speak of other services, too; a route's own rules are for its service.
                Ok(rule) if route.http_rules_file.is_some() && !is_of(&rule, route) => {}
                Ok(rule) => rules.push(rule),
                Err(message) => self.fault(format!("{place}[{at}]"), message),
            }
        }
        (rules.len() == written.len() || route.http_rules_file.is_some()).then_some(rules)
    }

    /// Whom actions tell that an upstream is another than was thought. None: nobody could ask it.
    pub(super) fn stale(&self, upstream: &str) -> Option<Stale> {
        let is_reflected = self.config.upstreams.get(upstream).is_some_and(config::Upstream::is_reflected);
        is_reflected.then(|| self.sources.live.stale(upstream))
    }

    fn binding(
        &mut self,
        path: &str,
        route: &config::Route,
        level: &Level<'_>,
        served: &Served<'_>,
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
        self.check_timeout(&place, policy.timeout, served.upstream);
        let action = match Transcode::new(binding, served.split.clone(), &transcoding(route, own)) {
            Ok(action) => Action::Transcode(action.telling(self.stale(served.upstream))),
            Err(errors) => {
                self.faults(&place, errors);
                return;
            }
        };
        let response = transcoding(route, own).response;
        let subject = Subject::Transcoded { binding: Box::new(binding.clone()), response };
        let described = Described::new(&place, place_of(path), &own.describe.or(&route.describe), subject);
        self.add(Draft {
            path: format!("{path}.grpc ({name})"),
            name: None,
            template: binding.template.clone(),
            methods: binding.http_method.iter().cloned().collect(),
            hosts: Vec::new(),
            conditions: Conditions { derived: true, ..Conditions::default() },
            policy,
            action,
            edits: served.edits.clone(),
            kind: "transcode",
            upstream: Some(served.upstream.to_owned()),
            described,
        });
    }

    /// The endpoints of `authentication.session`.
    pub(super) fn session(&mut self) {
        let Some(section) = &self.config.authentication.session else { return };
        let path = "authentication.session";
        let Some(id) = self.upstream_id(&format!("{path}.upstream"), &section.upstream) else { return };
        let action = session::Config { upstream: section.upstream.clone(), login: section.login.clone() };
        let limits = self.limiters.section(
            path,
            &format!("{path}.rate_limit"),
            "session-",
            &section.rate_limit.0,
            &mut self.errors,
        );
        for method in [Method::POST, Method::GET, Method::DELETE] {
            // Who logs in is not known yet; what else it carries doesn't matter.
            let (authenticate, rate_limits) = match method {
                Method::POST => (Authenticate::None, limits.clone()),
                _ => (Authenticate::Optional, Vec::new()),
            };
            let level = Level { authenticate: Some(authenticate), rate_limits, ..Level::default() };
            let policy = self.policy(path, &level, true);
            let sessions = Arc::clone(self.sources.sessions) as Arc<dyn session::Sessions>;
            match Session::new(&action, id, sessions) {
                Ok(action) => self.add(Draft {
                    path: format!("{path}.path"),
                    name: None,
                    template: section.path.clone(),
                    methods: vec![method],
                    hosts: Vec::new(),
                    conditions: Conditions::default(),
                    policy,
                    action: Action::Session(action),
                    edits: Default::default(),
                    kind: "session",
                    upstream: Some(section.upstream.clone()),
                    described: Described::new(path, 0, &Describe::default(), Subject::Session),
                }),
                Err(errors) => return self.faults(path, errors),
            }
        }
    }
}

/// Whether a rule selects a method of the route's service.
fn is_of(rule: &HttpRule, route: &config::Route) -> bool {
    rule.selector.rsplit_once('.').is_some_and(|(service, _)| Some(service) == route.grpc.as_deref())
}

/// The section of a transcoded route: the method's word goes before the route's.
pub(super) fn transcoding(route: &config::Route, method: &Override) -> transcode::Config {
    let default = transcode::Config::default();
    let forward = method.forward_headers.as_ref().or(route.forward_headers.as_ref());
    transcode::Config {
        forward_headers: forward.cloned().unwrap_or(default.forward_headers),
        response: method.response.clone().or_else(|| route.response.clone()),
    }
}
