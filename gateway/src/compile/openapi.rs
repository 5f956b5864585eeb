//! What the OpenAPI document is made of: what each route is to callers, what services say of themselves, and where the
//! document is served.

use std::{fs, path::Path, sync::Arc};

use http::{Method, header::CONTENT_TYPE};

use super::{Compiler, policy::Level, routes::Draft};
use crate::{
    action::{
        Action, Document, aggregate,
        document::{Pending, Written},
        proxy, redirect, respond,
    },
    config::{self, ConfigError, did_you_mean},
    descriptors::{Binding, BodyRule},
    openapi::{self, Describe, Described, Fragment, Inside, Part, Section, Subject},
    route::{Authenticate, Conditions, Segment, Template},
    snapshot::Snapshot,
};

impl Compiler<'_> {
    /// What the service of an upstream says of itself.
    pub(super) fn description(&mut self, name: &str, section: &config::Upstream) {
        let Some(source) = &section.openapi else { return };
        let read = match self.sources.descriptors.get(source) {
            Some(built_in) => Ok(String::from_utf8_lossy(built_in).into_owned()),
            None => {
                let file = self.path(Path::new(source));
                self.read.push(file.clone());
                fs::read_to_string(&file).map_err(|error| {
                    let near = did_you_mean(source, self.sources.descriptors.keys().map(String::as_str));
                    format!("neither built in nor a file: {}: {error}{near}", file.display())
                })
            }
        };
        match read.and_then(|text| Fragment::read(&text)) {
            Ok(fragment) => _ = self.descriptions.insert(name.to_owned(), fragment),
            Err(message) => self.fault(format!("upstreams.{name}.openapi"), message),
        }
    }

    /// The document and its page.
    pub(super) fn documents(&mut self) {
        let config = self.config;
        let Some(section) = &config.openapi else { return };
        let pending = Arc::default();
        self.document = Some(Arc::clone(&pending));
        let docs = section.docs.trim_end_matches('/');
        let mut served = vec![("path", section.path.clone(), Document::OpenApi(pending))];
        if !section.docs.is_empty() {
            served.push(("docs", section.docs.clone(), Document::page(&section.title, &section.docs, &section.path)));
            served.push(("docs", format!("{docs}/assets/{{version}}/{{name}}"), Document::Asset));
        }
        if section.title.is_empty() {
            self.fault("openapi.title", "must not be empty");
        }
        for (key, template, action) in served {
            let path = format!("openapi.{key}");
            let is_fixed =
                |template: &Template| template.variables.is_empty() && !template.segments.contains(&Segment::Any);
            match Template::parse(&template) {
                Ok(parsed) if is_fixed(&parsed) || matches!(action, Document::Asset) => {}
                Ok(_) => {
                    self.fault(path, "must be one path");
                    continue;
                }
                Err(message) => {
                    self.fault(path, message);
                    continue;
                }
            }
            let authenticate = if section.public { Authenticate::None } else { Authenticate::Required };
            let level = Level { authenticate: Some(authenticate), ..Level::default() };
            let policy = self.policy(&path, &level, true);
            let described = Described::new(&path, 0, &Describe::default(), Subject::Itself);
            self.add(Draft {
                path,
                name: None,
                template,
                methods: vec![Method::GET],
                hosts: Vec::new(),
                conditions: Conditions::default(),
                policy,
                action: Action::Document(action),
                edits: Default::default(),
                kind: "document",
                upstream: None,
                described,
            });
        }
    }

    /// What is said of all methods of a service at once can't be said of each.
    pub(super) fn describes_all(&mut self, path: &str, describe: &Describe) {
        let Describe { summary, description, examples, .. } = describe;
        let strays = [
            ("summary", summary.is_some()),
            ("description", description.is_some()),
            ("examples", *examples != openapi::config::Examples::default()),
        ];
        for (name, _) in strays.into_iter().filter(|(_, stray)| *stray) {
            self.fault(format!("{path}.describe.{name}"), "belongs to one of `methods`");
        }
    }

    /// What an explicit route is.
    pub(super) fn described(
        &self,
        path: &str,
        route: &config::Route,
        template: &Template,
        methods: &[Method],
    ) -> Described {
        let subject = self.subject(route, template, methods).unwrap_or(Subject::Itself);
        Described::new(path, place_of(path), &route.describe, subject)
    }

    fn subject(&self, route: &config::Route, template: &Template, methods: &[Method]) -> Option<Subject> {
        if let Some(call) = &route.transcode {
            let binding = self.binding_of(route, call, template, methods.first()?)?;
            return Some(Subject::Transcoded { binding: Box::new(binding), response: route.response.clone() });
        }
        if let Some(parts) = &route.aggregate {
            return Some(Subject::Aggregated(parts.iter().map(|part| self.part(route, part)).collect()));
        }
        if let Some(section) = &route.proxy {
            let upstreams = section.upstreams.iter().map(|share| share.upstream.clone()).collect();
            return Some(Subject::Proxied { upstreams, inside: inside(section, template) });
        }
        if let Some(section) = &route.respond {
            return Some(fixed(section));
        }
        route.redirect.as_ref().map(redirected)
    }

    /// What a transcoded route calls, as an annotation would have it.
    fn binding_of(&self, route: &config::Route, call: &str, template: &Template, method: &Method) -> Option<Binding> {
        let has_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        let called = self.directory.called(call, route.served_by()).ok()?;
        Some(Binding {
            schema: self.directory.descriptors(called)?.schema.clone(),
            method: self.directory.method(call, route.served_by()).ok()?.1,
            http_method: Some(method.clone()),
            template: template.text.clone(),
            body: if has_body { BodyRule::All } else { BodyRule::None },
            response_body: None,
        })
    }

    fn part(&self, route: &config::Route, part: &aggregate::PartConfig) -> Part {
        let upstream = part.upstream.as_deref().or(route.upstream.as_deref());
        let method = part.call.as_ref().and_then(|call| self.directory.method(call, upstream).ok());
        Part { config: part.clone(), method: method.map(|(_, method)| method) }
    }
}

/// Puts the document of a snapshot where it is served.
///
/// # Errors
/// What `describe:` says and there is no place for.
pub fn write(snapshot: &Snapshot, served: (Option<&Section>, Option<Pending>)) -> Result<(), Vec<ConfigError>> {
    let (Some(section), Some(pending)) = served else { return Ok(()) };
    let text = serde_json::to_vec(&describe(snapshot, section)?);
    let text = text.map_err(|error| vec![ConfigError::new("openapi", error.to_string())])?;
    // A snapshot is made once.
    _ = pending.set(Written::new(text));
    Ok(())
}

/// The document of a snapshot.
///
/// # Errors
/// What `describe:` says and there is no place for.
pub fn describe(snapshot: &Snapshot, section: &Section) -> Result<openapi::Node, Vec<ConfigError>> {
    openapi::document(snapshot, section)
        .map_err(|faults| faults.into_iter().map(|fault| ConfigError::new(fault.path, fault.message)).collect())
}

/// 3 of `routes[2].grpc`: what stands above the routes comes first.
pub fn place_of(path: &str) -> usize {
    let number = path.strip_prefix("routes[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
    number.map_or(0, |number| number + 1)
}

fn inside(section: &proxy::Config, template: &Template) -> Inside {
    let Some(rewrite) = &section.rewrite else { return Inside::Same };
    match (&rewrite.prefix, &rewrite.path) {
        (None, None) => Inside::Same,
        (Some(prefix), None) => {
            let literals = template.segments.iter().map_while(|segment| match segment {
                Segment::Literal(literal) => Some(format!("/{literal}")),
                Segment::Any | Segment::Rest => None,
            });
            Inside::Prefix { inside: prefix.clone(), outside: literals.collect() }
        }
        _ => Inside::Another,
    }
}

fn fixed(section: &respond::Config) -> Subject {
    let named = section.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
    let media_type = named.map(|(_, value)| value.clone());
    let media_type = media_type.or_else(|| (!section.body.is_empty()).then(|| "text/plain".to_owned()));
    Subject::Fixed { status: section.status, media_type, body: section.body.clone() }
}

fn redirected(section: &redirect::Config) -> Subject {
    let to = match (&section.to, &section.host, &section.path) {
        (Some(to), _, _) => to.clone(),
        (None, host, path) => {
            let scheme = if section.https { "https:" } else { "" };
            let host = host.as_ref().map(|host| format!("//{host}")).unwrap_or_default();
            let to = format!("{scheme}{host}{}", path.as_deref().unwrap_or_default());
            if to == "https:" { "https".to_owned() } else { to }
        }
    };
    Subject::Redirected { status: section.status, to }
}
