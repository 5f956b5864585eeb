//! What an explicit route does: exactly one action.

use http::Method;

use super::{Compiler, services::transcoding};
use crate::{
    action::{Action, Aggregate, Proxy, Redirect, Respond, Transcode, aggregate},
    config::{self, Override},
    descriptors::{Binding, BodyRule},
    route::{Policy, Template},
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
}
