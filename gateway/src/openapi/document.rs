//! All operations together: a path each shape, an operation each method.

use std::collections::{BTreeMap, HashSet};

use http::{Method, Request};

use super::{
    Described, Inside, Section, Subject, aggregated,
    components::Components,
    example, fragment,
    node::Node,
    offer::{Offer, Tag},
    opaque,
    operation::{self, Surroundings},
    path::{Path, camel},
    schema::Schemas,
    security, signing_in, transcoded,
};
use crate::{
    auth::Kind,
    error::ErrorKind,
    route::{Match, Template, Wanted},
    snapshot::{Listed, Snapshot},
};

/// What the configuration says of an operation, and there is no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: String,
    pub message: String,
}

/// The document of a snapshot.
///
/// # Errors
/// What `describe:` says and there is no place for.
pub fn document(snapshot: &Snapshot, section: &Section) -> Result<Node, Vec<Fault>> {
    let around = Surroundings { authentication: &snapshot.authentication, everywhere: &snapshot.edge.client_limits };
    let mut maker = Maker {
        snapshot,
        around,
        schemas: Schemas::default(),
        components: Components::default(),
        paths: Vec::new(),
        tags: Vec::new(),
        faults: Vec::new(),
    };
    let mut routes: Vec<_> = snapshot.routes.iter().filter(|listed| !listed.route.described.is_hidden()).collect();
    routes.sort_by_key(|listed| listed.route.described.place);
    // What takes only some of a path's requests stands behind what takes all others.
    routes.sort_by_key(|listed| conditions(listed));
    for listed in &routes {
        maker.route(listed);
    }
    maker.finish(section)
}

/// What a request must be beside its path and method.
fn conditions(listed: &Listed) -> usize {
    let own = &listed.conditions;
    own.headers.len() + own.query.len() + usize::from(own.host.is_some())
}

struct Maker<'a> {
    snapshot: &'a Snapshot,
    around: Surroundings<'a>,
    schemas: Schemas,
    components: Components,
    paths: Vec<Item>,
    tags: Vec<Tag>,
    faults: Vec<Fault>,
}

/// A path, and what is under it by method.
struct Item {
    path: Path,
    place: usize,
    operations: Vec<(Method, Node)>,
}

/// What there is for a route that takes any method.
const ANY: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];

impl Maker<'_> {
    fn route(&mut self, listed: &Listed) {
        let Ok(template) = Template::parse(&listed.template) else { return };
        if let Subject::Proxied { upstreams, inside } = &listed.route.described.subject
            && self.passed_through(listed, &template, upstreams, inside)
        {
            return;
        }
        let path = Path::of(&template);
        for method in self.methods(listed, &path) {
            let mut offer = self.offer(listed, &method, &template);
            if offer.id.is_empty() {
                offer.id = id(listed, &method, &path);
            }
            if offer.summary.is_empty() {
                offer.summary = listed.route.id.to_string();
            }
            self.tag(&offer.tag);
            let operation = operation::of_offer(&offer, &path);
            self.add(listed, &path, method, operation, &offer.failures);
        }
    }

    /// The methods of a route; where it takes any, those that no other route of the path takes.
    fn methods(&self, listed: &Listed, path: &Path) -> Vec<Method> {
        match &listed.conditions.method {
            Some(method) => vec![method.clone()],
            None => {
                let item = self.paths.iter().find(|item| item.path.shape == path.shape);
                let taken = |method: &Method| {
                    let takes_all = |other: &Listed| {
                        other.template == listed.template
                            && conditions(other) == 0
                            && other.conditions.method.as_ref() == Some(method)
                    };
                    let known = item.is_some_and(|item| item.operations.iter().any(|(known, _)| known == method));
                    conditions(listed) == 0 && (known || self.snapshot.routes.iter().any(takes_all))
                };
                let free: Vec<_> = ANY.into_iter().filter(|method| !taken(method)).collect();
                if free.is_empty() { ANY.to_vec() } else { free }
            }
        }
    }

    fn offer(&mut self, listed: &Listed, method: &Method, template: &Template) -> Offer {
        let (schemas, components) = (&mut self.schemas, &mut self.components);
        match &listed.route.described.subject {
            Subject::Transcoded { binding, response } => {
                transcoded::offer(binding, response.as_ref(), method, template, schemas, components)
            }
            Subject::Aggregated(parts) => aggregated::offer(parts, template, schemas, components),
            Subject::Proxied { upstreams, .. } => opaque::proxied(upstreams, method),
            Subject::Fixed { status, media_type, body } => opaque::fixed(*status, media_type.as_deref(), body),
            Subject::Redirected { status, to } => opaque::redirected(*status, to),
            Subject::Session => signing_in::offer(method, components),
            Subject::Itself => Offer::default(),
        }
    }

    /// What the service behind a proxy says of the paths that lead to it. False: nothing.
    fn passed_through(&mut self, listed: &Listed, template: &Template, upstreams: &[String], inside: &Inside) -> bool {
        let [service] = upstreams else { return false };
        let Some(fragment) = self.snapshot.descriptions.get(service) else { return false };
        let mut is_described = false;
        for described in fragment.operations() {
            let Some(path) = seen(described.path, inside) else { continue };
            let Ok(method) = described.method.to_ascii_uppercase().parse::<Method>() else { continue };
            if !fragment::is_within(&path, template) || !self.leads_to(listed, &path, &method) {
                continue;
            }
            let Ok(own) = Template::parse(&path) else { continue };
            let mut operation = described.whole();
            fragment.adopt(service, &mut operation, &mut self.components);
            let named = operation.get("tags").map(Node::items).unwrap_or_default();
            let tags: Vec<_> = named.iter().filter_map(Node::text).map(str::to_owned).collect();
            for name in &tags {
                self.tag(&Tag::new(name.as_str(), fragment.tag(name).unwrap_or_default()));
            }
            if tags.is_empty() {
                operation.set("tags", Node::list([service.as_str()]));
                self.tag(&Tag::new(service.as_str(), ""));
            }
            let path = Path { text: path, ..Path::of(&own) };
            if operation.get("operationId").is_none() {
                operation.set("operationId", id(listed, &method, &path));
            }
            // It reads what it takes, and says itself who may.
            self.add(listed, &path, method, operation, &[ErrorKind::Invalid, ErrorKind::Forbidden]);
            is_described = true;
        }
        is_described
    }

    /// Whether requests for a path of this form go to this route, and to none that is more exact.
    fn leads_to(&self, listed: &Listed, path: &str, method: &Method) -> bool {
        if listed.conditions.method.as_ref().is_some_and(|own| own != method) {
            return false;
        }
        let concrete: Vec<_> =
            path.split('/').map(|segment| if segment.contains('{') { "0" } else { segment }).collect();
        let concrete = concrete.join("/");
        let value = |wanted: &Wanted| match wanted {
            Wanted::Exact(value) | Wanted::Prefix(value) => Some(value.clone()),
            Wanted::Present => Some("0".to_owned()),
            Wanted::Absent => None,
        };
        let pairs = listed.conditions.query.iter();
        let pairs = pairs.filter_map(|(name, wanted)| Some(format!("{name}={}", value(wanted)?)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let uri = if query.is_empty() { concrete.clone() } else { format!("{concrete}?{query}") };
        let mut request = Request::builder().method(method.clone()).uri(uri);
        if let Some(host) = &listed.conditions.host {
            request = request.header("host", host.replace('*', "0"));
        }
        for (name, wanted) in &listed.conditions.headers {
            if let Some(value) = value(wanted) {
                request = request.header(name, value);
            }
        }
        // A condition that can't be written is asked for in vain.
        let Ok(request) = request.body(()) else { return false };
        let (parts, ()) = request.into_parts();
        match self.snapshot.table.find(&concrete, &parts) {
            Match::Found { value, .. } => value.id == listed.route.id,
            _ => false,
        }
    }

    fn add(&mut self, listed: &Listed, path: &Path, method: Method, mut operation: Node, failures: &[ErrorKind]) {
        let described: &Described = &listed.route.described;
        operation::reword(&mut operation, described);
        for name in &described.describe.tags {
            self.tag(&Tag::new(name.as_str(), ""));
        }
        let mut operation = operation::dress(operation, listed, &method, failures, &self.around, &mut self.components);
        self.faults.extend(operation::exemplify(&mut operation, described));
        let item = match self.paths.iter().position(|item| item.path.shape == path.shape) {
            Some(at) => &mut self.paths[at],
            None => {
                let at = self.paths.len();
                self.paths.push(Item { path: path.clone(), place: described.place, operations: Vec::new() });
                &mut self.paths[at]
            }
        };
        item.place = item.place.min(described.place);
        operation::rename(&mut operation, path, &item.path);
        match item.operations.iter_mut().find(|(known, _)| *known == method) {
            // Requests of one path and method that other routes take.
            Some((_, first)) => first.entry("x-turnpike-variants").push(operation),
            None => item.operations.push((method, operation)),
        }
    }

    fn tag(&mut self, tag: &Tag) {
        match self.tags.iter_mut().find(|known| known.name == tag.name) {
            Some(known) if known.description.is_empty() => known.description.clone_from(&tag.description),
            Some(_) => {}
            None if tag.name.is_empty() => {}
            None => self.tags.push(tag.clone()),
        }
    }

    fn finish(mut self, section: &Section) -> Result<Node, Vec<Fault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        self.paths.sort_by_key(|item| item.place);
        let mut used = HashSet::new();
        let mut paths = Node::object();
        for Item { path, operations, .. } in self.paths {
            let mut item = Node::object();
            for (method, mut operation) in operations {
                unique(&mut operation, &mut used);
                match known(&method) {
                    Some(name) => item.set(name, operation),
                    // OpenAPI 3.1 has no word for it.
                    None => item.entry("x-turnpike-methods").set(method.as_str(), operation),
                }
            }
            paths.set(&path.text, item);
        }
        let used: BTreeMap<&str, ()> = paths
            .members()
            .iter()
            .flat_map(|(_, item)| item.members())
            .flat_map(|(_, operation)| tags(operation))
            .map(|name| (name, ()))
            .collect();
        let tags = self.tags.iter().filter(|tag| used.contains_key(tag.name.as_str())).map(|tag| {
            Node::object().with("name", tag.name.as_str()).with_some("description", Some(tag.description.clone()))
        });
        let tags = Node::List(tags.collect());
        let servers: Vec<_> = match section.servers.as_slice() {
            [] => vec!["/".to_owned()],
            servers => servers.to_vec(),
        };
        let description = section.description.clone().unwrap_or_else(|| about(self.snapshot));
        let info = Node::object()
            .with("title", section.title.as_str())
            .with("version", section.version.as_str())
            .with("description", description.trim());
        let mut document = Node::object()
            .with("openapi", "3.1.0")
            .with("info", info)
            .with("servers", Node::list(servers.into_iter().map(|url| Node::object().with("url", url))))
            .with_some("tags", Some(tags))
            .with("paths", paths);
        self.schemas.finish(&mut self.components);
        self.components.finish(security::schemes(&self.snapshot.authentication), &mut document);
        example::complete(&mut document);
        Ok(document)
    }
}

fn tags(operation: &Node) -> impl Iterator<Item = &str> {
    operation.get("tags").map(Node::items).unwrap_or_default().iter().filter_map(Node::text)
}

/// What is so of every operation.
fn about(snapshot: &Snapshot) -> String {
    let takes_sessions = snapshot.routes.iter().any(|listed| listed.route.policy.accepts.contains(Kind::Session));
    let session = snapshot.authentication.session.as_ref().filter(|_| takes_sessions);
    let session = session.map(|section| format!(" `POST {}` opens a session.", section.path)).unwrap_or_default();
    format!(
        "Every refusal and every failure is a problem document (RFC 9457): programs go by its `type`.{session} \
         In JSON, names of members are also read as they stand in the .proto; unknown ones are refused by name. \
         64-bit integers are texts."
    )
}

/// The path as callers of the gateway see it.
fn seen(path: &str, inside: &Inside) -> Option<String> {
    match inside {
        Inside::Same => Some(path.to_owned()),
        Inside::Prefix { inside, outside } => fragment::outside(path, inside, outside),
        Inside::Another => None,
    }
}

/// What OpenAPI calls a method.
fn known(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET => "get",
        Method::PUT => "put",
        Method::POST => "post",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::HEAD => "head",
        Method::PATCH => "patch",
        Method::TRACE => "trace",
        _ => return None,
    })
}

/// No two operations have one id: the later one gets a number.
fn unique(operation: &mut Node, used: &mut HashSet<String>) {
    let own = operation.get("operationId").and_then(Node::text).unwrap_or("operation").to_owned();
    let ids = std::iter::once(own.clone()).chain((2..).map(|number| format!("{own}_{number}")));
    let free = ids.into_iter().find(|id| !used.contains(id)).unwrap_or(own);
    operation.set("operationId", free.as_str());
    used.insert(free);
    if let Some(Node::List(variants)) = operation.get_mut("x-turnpike-variants") {
        variants.iter_mut().for_each(|variant| unique(variant, used));
    }
}

/// An id of what the route is called, or of its method and path: `getProductsById`.
fn id(listed: &Listed, method: &Method, path: &Path) -> String {
    let verb = method.as_str().to_ascii_lowercase();
    let route = &listed.route.id;
    let is_named = !route.contains(['/', ' ']);
    let mut words = vec![verb];
    if is_named {
        words.push(route.to_string());
    } else {
        for segment in path.text.split(['/', ':', '.']).filter(|segment| !segment.is_empty()) {
            match segment.strip_prefix('{') {
                Some(name) => words.extend(["by".to_owned(), name.trim_end_matches('}').to_owned()]),
                None => words.push(segment.to_owned()),
            }
        }
    }
    let plain = |word: String| -> String {
        word.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
    };
    camel(&words.into_iter().map(plain).collect::<Vec<_>>().join("_"))
}
