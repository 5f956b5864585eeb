//! What an explicit route does: exactly one action.

use std::collections::BTreeSet;

use http::Method;

use super::{Compiler, services::transcoding};
use crate::{
    action::{
        Action, Aggregate, Proxy, Redirect, Respond, Split, Transcode, aggregate,
        edit::Edit,
        proxy::{self, Mirror},
        split::{MAX_WEIGHT, Sticky, Weighted},
    },
    config::{self, Override},
    descriptors::{Binding, BodyRule},
    route::{Policy, Template},
    worker::UpstreamId,
};

impl Compiler<'_> {
    /// The action of an explicit route, with its kind and, if there is only one, its upstream.
    pub(super) fn action(
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
                if self.awaits_any(path, &parts) {
                    return None;
                }
                let made = Aggregate::new(&parts, &variables, &template.rests(), &self.directory);
                ("aggregate", made.map(Action::Aggregate), None)
            }
            (None, None, Some(section), None, None) => {
                let (split, mirror) = self.proxied(path, section)?;
                let is_grpc = |share: &Weighted| {
                    self.config.upstreams.get(&share.upstream).is_some_and(config::Upstream::is_grpc)
                };
                let is_grpc = section.upstreams.iter().all(is_grpc);
                let made = Proxy::new(section, split, mirror, &template.text);
                let made = made.map(|proxy| proxy.speaking_grpc(is_grpc));
                let alone = match section.upstreams.as_slice() {
                    [only] => Some(only.upstream.clone()),
                    _ => None,
                };
                ("proxy", made.map(Action::Proxy), alone)
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

    /// Whom a proxy asks. None if one of them is not known: that is reported once.
    fn proxied(&mut self, path: &str, section: &proxy::Config) -> Option<(Split, Option<Mirror>)> {
        let split = match section.upstreams.as_slice() {
            [only] if only.weight == 1 => self.upstream_id(&format!("{path}.proxy"), &only.upstream).map(Split::from),
            several => self.split(&format!("{path}.proxy.weights"), several, section.sticky.as_ref()),
        };
        let Some(written) = &section.mirror else { return Some((split?, None)) };
        let id = self.upstream_id(&format!("{path}.proxy.mirror.upstream"), &written.upstream);
        let mirror = Mirror::new(written, id?).map_err(|error| self.faults(&format!("{path}.proxy"), vec![error])).ok();
        Some((split?, Some(mirror?)))
    }

    /// Whom `grpc` or `transcode` asks: `id`, unless there are several that share the requests.
    pub(super) fn served(&mut self, path: &str, route: &config::Route, id: UpstreamId) -> Option<Split> {
        if route.weights.is_empty() {
            if route.sticky.is_some() {
                self.fault(format!("{path}.sticky"), "belongs to `weights`");
            }
            return Some(id.into());
        }
        self.split(&format!("{path}.weights"), &route.weights, route.sticky.as_ref())
    }

    fn split(&mut self, path: &str, weights: &[Weighted], sticky: Option<&Sticky>) -> Option<Split> {
        let mut shares = Vec::new();
        for (at, Weighted { upstream, weight }) in weights.iter().enumerate() {
            if weights[..at].iter().any(|other| other.upstream == *upstream) {
                self.fault(format!("{path}[{at}].upstream"), format!("`{upstream}` is there already"));
            }
            if *weight > MAX_WEIGHT {
                self.fault(format!("{path}[{at}].weight"), format!("must be at most {MAX_WEIGHT}"));
            }
            shares.extend(self.upstream_id(&format!("{path}[{at}].upstream"), upstream).map(|id| (id, *weight)));
        }
        let is_known = shares.len() == weights.len();
        let split = Split::new(shares, sticky.cloned());
        if split.is_none() && is_known {
            self.fault(path, "at least one must have a weight above 0");
        }
        split.filter(|_| is_known)
    }

    /// Whether one of the services that the parts call has not told yet what it is.
    fn awaits_any(&mut self, path: &str, parts: &[aggregate::PartConfig]) -> bool {
        let calls = parts.iter().filter_map(|part| Some((part.call.as_deref()?, part.upstream.as_deref())));
        let called: BTreeSet<_> = calls.filter_map(|(call, at)| self.directory.called(call, at).ok()).collect();
        let called: Vec<_> = called.into_iter().map(str::to_owned).collect();
        called.iter().filter(|upstream| self.awaits(path, upstream)).count() > 0
    }

    /// What a route changes in headers.
    pub(super) fn edits(&mut self, path: &str, route: &config::Route) -> (Edit, Edit) {
        let mut take = |section: &str, made: Result<Edit, Vec<_>>| {
            made.unwrap_or_else(|errors| {
                self.faults(&format!("{path}.{section}"), errors);
                Edit::default()
            })
        };
        let request = take("request_headers", Edit::of_request(&route.request_headers));
        (request, take("response_headers", Edit::of_response(&route.response_headers)))
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
            let asked = part.upstream.as_ref().and_then(|name| Some((name, self.config.upstreams.get(name)?)));
            if let (None, Some((name, section))) = (&part.call, asked)
                && section.is_grpc()
            {
                self.fault(format!("{place}.upstream"), format!("`{name}` speaks gRPC: it is asked by `call`"));
            }
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
        if let Some(name) = route.served_by() {
            self.upstream_id(&format!("{path}.upstream"), name)?;
        }
        if let Ok(called) = self.directory.called(call, route.served_by()).map(str::to_owned)
            && self.awaits(path, &called)
        {
            return None;
        }
        let (upstream, method) = match self.directory.method(call, route.served_by()) {
            Ok(found) => found,
            Err(message) => {
                self.fault(format!("{path}.transcode"), message);
                return None;
            }
        };
        let has_body = matches!(*http_method, Method::POST | Method::PUT | Method::PATCH);
        let called = self.directory.called(call, route.served_by()).ok()?.to_owned();
        let binding = Binding {
            schema: self.directory.descriptors(&called)?.schema.clone(),
            method,
            http_method: Some(http_method.clone()),
            template: template.text.clone(),
            body: if has_body { BodyRule::All } else { BodyRule::None },
            response_body: None,
        };
        let section = transcoding(route, &Override::default());
        let split = self.served(path, route, upstream)?;
        match Transcode::new(&binding, split, &section) {
            Ok(action) => Some((
                Action::Transcode(action.telling(self.stale(&called))),
                self.upstreams.get(upstream.0)?.config.name.clone(),
            )),
            Err(errors) => {
                self.faults(path, errors);
                None
            }
        }
    }
}
