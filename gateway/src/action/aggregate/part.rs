//! One part, compiled: what it asks, of whom, after which others, and what of its answer is taken.

use std::time::Duration;

use prost_reflect::Kind;
use protojson::{Malformed, Path};
use serde_json::Value;

use super::{
    super::ConfigError,
    body::quoted,
    config::PartConfig,
    each::Each,
    exchange::Exchange,
    json,
    kept::Kept,
    rpc::{Parameters, Rpc},
    text::{Scope, Shape, Text, Variable},
};
use crate::{
    context::RequestContext, descriptors::Directory, error::Violation, metrics::PartMetrics, worker::UpstreamId,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// A compiled part.
pub struct Part {
    pub name: String,
    pub required: bool,
    /// JSON.
    pub fallback: Option<Vec<u8>>,
    pub upstream: UpstreamId,
    pub ask: Ask,
    pub pick: Option<Pick>,
    /// The members that its own become in the answer; none where it has a member of its own.
    pub flatten: Option<Vec<String>>,
    pub timeout: Duration,
    pub each: Option<Each>,
    pub kept: Option<Kept>,
    /// Parts that are asked before, a bit each.
    pub needs: u32,
    /// Others are asked by what it answers, or put something into it.
    pub is_read: bool,
    metrics: PartMetrics,
}

pub enum Ask {
    Rpc(Rpc),
    Http(Exchange),
}

/// What is taken out of an answer.
pub struct Pick {
    /// As JSON has them.
    pub names: Vec<String>,
    /// Of a call: the same in the encoded answer, or in the elements of a batch's.
    path: Option<Path>,
}

/// What is asked, before its texts are read: they name other parts, and what those are has to be known first.
pub struct Target {
    pub upstream: UpstreamId,
    method: Option<prost_reflect::MethodDescriptor>,
}

impl Target {
    /// # Errors
    /// Not one of `call`, `get` and `post`; a method or an upstream that isn't there.
    pub fn new(config: &PartConfig, directory: &Directory) -> Result<Self, ConfigError> {
        let http = match (&config.call, &config.get, &config.post) {
            (Some(call), None, None) => {
                let method = directory.method(call, config.upstream.as_deref());
                let (upstream, method) = method.map_err(|message| ConfigError::new("call", message))?;
                return Ok(Self { upstream, method: Some(method) });
            }
            (None, Some(_), None) => "get",
            (None, None, Some(_)) => "post",
            _ => return Err(ConfigError::new("", "asks by exactly one of `call`, `get` and `post`")),
        };
        let name = config.upstream.as_deref();
        let name = name.ok_or_else(|| ConfigError::new(http, "name the upstream that is asked"))?;
        let upstream = directory.upstream(name);
        let upstream =
            upstream.ok_or_else(|| ConfigError::new("upstream", format!("there is no upstream `{name}`")))?;
        Ok(Self { upstream, method: None })
    }

    /// That of its answer.
    pub fn shape(&self) -> Shape {
        self.method.as_ref().map_or(Shape::Unknown, |method| Shape::of(&Kind::Message(method.output())))
    }
}

impl Part {
    /// `scope` has every part.
    pub fn new(config: &PartConfig, target: Target, scope: &mut Scope<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = strays(config);
        let each = config.for_each.as_ref().and_then(|list| {
            let made = Each::new(list, config, scope);
            made.map_err(|found| errors.extend(found)).ok()
        });
        // An element is looked into whatever its list is, so that no fault hides another.
        scope.item = match &each {
            Some((_, shape)) => Some(shape.clone()),
            None => config.for_each.as_ref().map(|_| Shape::Unknown),
        };
        let each = each.map(|(each, _)| each);
        let ask = match (&target.method, &config.get, &config.post) {
            (Some(method), _, _) => Rpc::new(method, config, scope).map(Ask::Rpc),
            (None, Some(path), _) => Exchange::new("get", path, config, scope).map(Ask::Http),
            (None, None, path) => {
                Exchange::new("post", path.as_deref().unwrap_or_default(), config, scope).map(Ask::Http)
            }
        };
        let ask = ask.map_err(|found| errors.extend(found)).ok();
        let pick = config.pick.as_ref().and_then(|path| {
            let made = Pick::new(path, ask.as_ref(), &target.shape());
            made.map_err(|message| errors.push(ConfigError::new("pick", message))).ok()
        });
        let flatten = config.flatten.then(|| flattened(config, &target.shape())).transpose();
        let flatten = flatten.map_err(|error| errors.push(error)).ok().flatten();
        let kept = config
            .cache
            .as_ref()
            .and_then(|cache| Kept::new(cache, config, scope).map_err(|found| errors.extend(found)).ok());
        let (Some(ask), true) = (ask, errors.is_empty()) else { return Err(errors) };
        let mut part = Self {
            name: config.part.clone(),
            required: config.required,
            fallback: config.fallback.as_ref().map(|value| value.to_string().into_bytes()),
            upstream: target.upstream,
            pick,
            flatten,
            timeout: config.timeout.unwrap_or(TIMEOUT),
            each,
            kept,
            needs: 0,
            is_read: false,
            metrics: PartMetrics::new(&config.part),
            ask,
        };
        if part.each.is_some() && !part.late().iter().any(|text| text.names_item()) {
            return Err(vec![ConfigError::new(
                "for_each",
                "nothing that is asked names `{item}`: each would be the same",
            )]);
        }
        part.needs = part.needed().fold(0, |needs, part| needs | 1 << part);
        Ok(part)
    }

    /// Parts that are asked before it, each perhaps more than once.
    fn needed(&self) -> impl Iterator<Item = usize> {
        let texts = self.late().into_iter().chain(self.kept.iter().flat_map(Kept::texts));
        let named = texts.flat_map(Text::variables).filter_map(|variable| match variable {
            Variable::Part(place) => Some(place.part),
            _ => None,
        });
        named.chain(self.each.iter().map(|each| each.list.part))
    }

    /// What is asked by what others answer.
    fn late(&self) -> Vec<&Text> {
        match &self.ask {
            Ask::Rpc(rpc) => rpc.late().collect(),
            Ask::Http(exchange) => exchange.texts(),
        }
    }

    /// Whether asking twice does no harm, whoever asks.
    pub fn is_idempotent(&self) -> bool {
        match &self.ask {
            Ask::Rpc(rpc) => rpc.idempotent,
            Ask::Http(exchange) => exchange.is_safe(),
        }
    }

    /// Whether a query parameter means something to it.
    pub fn takes(&self, parameter: &str) -> bool {
        match &self.ask {
            Ask::Rpc(rpc) => rpc.takes(parameter),
            Ask::Http(exchange) => exchange.takes(parameter),
        }
    }

    /// What the request says of it, as far as that is a message.
    pub fn begin(&self, parameters: &Parameters<'_>, context: &RequestContext) -> Result<Vec<u8>, Vec<Violation>> {
        match &self.ask {
            Ask::Rpc(rpc) => rpc.begin(parameters, context),
            Ask::Http(_) => Ok(Vec::new()),
        }
    }

    /// Whether it is given to the elements of another.
    pub fn goes_into(&self) -> Option<usize> {
        self.each.as_ref().filter(|each| each.into.is_some()).map(|each| each.list.part)
    }

    /// Counts what became of it.
    pub fn ended(&self, context: &RequestContext, outcome: &'static str) {
        if let Some(route) = &context.route {
            self.metrics.ended(&route.metrics, outcome);
        }
    }

    /// What operators read: `shop.product.v1.ProductService/GetProduct`, `GET /reviews?of={id}`.
    pub fn asks(&self) -> String {
        match &self.ask {
            Ask::Rpc(rpc) => format!("{}/{}", rpc.method.parent_service().full_name(), rpc.method.name()),
            Ask::Http(exchange) => exchange.written(),
        }
    }

    /// Appends what is taken of an encoded answer.
    pub fn write(&self, wire: &[u8], json: &mut Vec<u8>) -> Result<(), Malformed> {
        match (&self.ask, &self.pick) {
            (Ask::Rpc(_), Some(Pick { path: Some(path), .. })) => path.write(wire, json),
            (Ask::Rpc(rpc), _) => rpc.output().write(wire, json),
            // What comes by HTTP is JSON already.
            (Ask::Http(_), _) => {
                json.extend_from_slice(wire);
                Ok(())
            }
        }
    }

    /// Where that stands in a whole answer in JSON; none where it isn't there.
    pub fn taken(&self, json: &[u8]) -> Option<json::Span> {
        match &self.pick {
            Some(pick) => json::find(json, 0..json.len(), &pick.names),
            None => Some(0..json.len()),
        }
    }
}

impl Pick {
    fn new(path: &str, ask: Option<&Ask>, shape: &Shape) -> Result<Self, String> {
        let (shape, path_of_wire) = match ask {
            Some(Ask::Rpc(rpc)) => match &rpc.batch {
                Some(batch) => (&batch.element, None),
                None => (shape, rpc.output().path(path)),
            },
            _ => (shape, None),
        };
        let way = shape.walk(path)?;
        if way.passes_list {
            return Err(format!("`{path}` goes through a list"));
        }
        if path.is_empty() {
            return Err("names nothing".to_owned());
        }
        Ok(Self { names: way.names, path: path_of_wire })
    }
}

/// The names that a flattened part gives to the answer.
fn flattened(config: &PartConfig, shape: &Shape) -> Result<Vec<String>, ConfigError> {
    let refuse = |message: String| ConfigError::new("flatten", message);
    let way =
        shape.walk(config.pick.as_deref().unwrap_or_default()).map_err(|_| refuse("nothing is picked".to_owned()))?;
    let Shape::Message(message) = &way.shape else {
        return Err(refuse("only a message whose fields are known can be flattened".to_owned()));
    };
    if way.is_list == Some(true) || config.for_each.is_some() {
        return Err(refuse("a list has no members".to_owned()));
    }
    let names: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
    match &config.fallback {
        Some(Value::Object(members)) => match members.keys().find(|name| !names.contains(name)) {
            Some(stray) => Err(ConfigError::new("fallback", format!("{} has no field `{stray}`", message.full_name()))),
            None => Ok(names),
        },
        Some(_) => Err(ConfigError::new("fallback", "of a flattened part it must be an object")),
        None => Ok(names),
    }
}

/// Keys that mean nothing where they stand, and numbers out of their range.
fn strays(config: &PartConfig) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(ConfigError::new(path, message));
    let (is_call, is_post, is_list) = (config.call.is_some(), config.post.is_some(), config.for_each.is_some());
    let keys = [
        ("request", config.request.is_some() && !is_call, "call"),
        ("headers", !config.headers.is_empty() && is_call, "get` or `post"),
        ("body", config.body.is_some() && !is_post, "post"),
        ("flatten", config.flatten && !is_call, "call"),
        ("batch", config.batch.is_some() && !is_list, "for_each"),
        ("into", config.into.is_some() && !is_list, "for_each"),
        ("concurrency", config.concurrency.is_some() && !is_list, "for_each"),
        ("max_elements", config.max_elements.is_some() && !is_list, "for_each"),
        ("batch", config.batch.is_some() && is_list && !is_call, "call"),
    ];
    for (key, _, owner) in keys.into_iter().filter(|(_, is_stray, _)| *is_stray) {
        wrong(key, format!("belongs to `{owner}`"));
    }
    if config.batch.is_some() && config.concurrency.is_some() {
        wrong("concurrency", "`batch` makes one call".to_owned());
    }
    if config.timeout.is_some_and(|timeout| timeout.is_zero()) {
        wrong("timeout", "must be above 0".to_owned());
    }
    if config.required && config.fallback.is_some() {
        wrong("fallback", "a required part has none".to_owned());
    }
    errors
}

/// The name of a member and its colon, as JSON.
pub fn member(name: &str) -> Vec<u8> {
    let mut json = quoted(name);
    json.push(b':');
    json
}
