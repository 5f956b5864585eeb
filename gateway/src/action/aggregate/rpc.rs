//! A part that is a unary gRPC call. Its request is encoded once as far as it is the same for all; what the client says is
//! read before anything is asked, so that all that is wrong with it is told at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use bytes::Bytes;
use prost_reflect::{Kind, MethodDescriptor};
use protojson::{Fault, Message, Path, Schema};
use serde_json::Value;
use upstream::{Client, Options};

use super::{
    super::{ConfigError, grpc_path, is_idempotent, is_safe, template::Escape},
    config::{BatchConfig, PartConfig},
    each::Answer,
    failure::Failure,
    json,
    part::Part,
    text::{Scope, Shape, Text, Values, Variable},
};
use crate::{context::RequestContext, descriptors::rule::HttpRule, error::Violation};

/// A compiled call.
pub struct Rpc {
    pub method: MethodDescriptor,
    /// Its `idempotency_level` says that repeating it does no harm.
    pub idempotent: bool,
    /// The same, even twice at once.
    safe: bool,
    /// It is bound to GET: on a route that reads, it is a read.
    reads: bool,
    path: String,
    input: Message,
    output: Message,
    /// Fields that are the same for every request, encoded.
    fixed: Vec<u8>,
    /// Fields that only the request says.
    early: Vec<Field>,
    /// Fields that other parts or elements say.
    late: Vec<Field>,
    /// Query parameters set fields of their own names.
    takes_query: bool,
    pub batch: Option<Batch>,
}

struct Field {
    path: Path,
    text: Text,
}

/// How one call asks for all elements.
pub struct Batch {
    key_field: Path,
    /// Of an element.
    pub key: Text,
    /// Names as JSON has them.
    list: Vec<String>,
    /// Of the list's elements.
    pub element: Shape,
    answers_key: Vec<String>,
}

/// A name and a value of a query.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);
pub type Parameters<'a> = [Pair<'a>];

impl Rpc {
    pub fn new(method: &MethodDescriptor, config: &PartConfig, scope: &Scope<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if method.is_client_streaming() || method.is_server_streaming() {
            errors.push(ConfigError::new("call", format!("{} is not unary", method.full_name())));
        }
        let schema = Schema::new(method.parent_pool());
        let message = |name: &str| {
            schema.message(name).ok_or_else(|| vec![ConfigError::new("call", format!("{name} is not known"))])
        };
        let (input, output) = (message(method.input().full_name())?, message(method.output().full_name())?);
        let mut made = Self {
            idempotent: is_idempotent(method),
            safe: is_safe(method),
            reads: is_bound_to_get(method),
            path: grpc_path(method),
            method: method.clone(),
            fixed: Vec::new(),
            early: Vec::new(),
            late: Vec::new(),
            takes_query: config.request.is_none(),
            batch: None,
            input,
            output,
        };
        match &config.request {
            Some(request) => made.explicit(request, scope, &mut errors),
            None => made.by_name(scope, &mut errors),
        }
        if let Some(batch) = &config.batch {
            made.take_batch(batch, &mut errors);
        }
        if errors.is_empty() { Ok(made) } else { Err(errors) }
    }

    /// Fields as `request:` lists them.
    fn explicit(&mut self, request: &BTreeMap<String, Value>, scope: &Scope<'_>, errors: &mut Vec<ConfigError>) {
        for (name, value) in request {
            let added = match self.input.path(name) {
                Some(path) => self.add(path, value, scope),
                None => Err(format!("{} has no field `{name}`", self.input.full_name())),
            };
            errors.extend(added.err().map(|message| ConfigError::new(format!("request.{name}"), message)));
        }
    }

    fn add(&mut self, path: Path, value: &Value, scope: &Scope<'_>) -> Result<(), String> {
        if let Some(text) = value.as_str().filter(|text| text.contains(['{', '}'])) {
            let text = Text::parse(text, scope)?;
            if let Shape::Message(message) = text.shape() {
                let fits =
                    matches!(path.leaf().kind(), Kind::Message(field) if field.full_name() == message.full_name());
                if !fits || path.leaf().is_list() {
                    return Err(format!("is no {}", message.full_name()));
                }
            }
            let fields = if text.is_of_request() { &mut self.early } else { &mut self.late };
            fields.push(Field { path, text });
            return Ok(());
        }
        if has_template(value) {
            return Err("variables can stand in a string of a field only, not deeper".to_owned());
        }
        if value.is_null() {
            return Err("must not be null".to_owned());
        }
        path.read(value.to_string().as_bytes(), &mut self.fixed).map_err(|fault| match fault {
            Fault::Syntax(reason) => reason,
            Fault::Violations(found) => {
                let found = found.into_iter().map(|one| format!("{} {}", one.field, one.reason).trim().to_owned());
                found.collect::<Vec<_>>().join(", ")
            }
        })
    }

    /// The route's variables as fields of the same names.
    fn by_name(&mut self, scope: &Scope<'_>, errors: &mut Vec<ConfigError>) {
        for name in scope.variables {
            // A variable is a template of itself.
            let text = Text::parse(&format!("{{{name}}}"), scope);
            if let (Some(path), Ok(text)) = (self.input.path(name), text) {
                self.early.push(Field { path, text });
            }
        }
        if self.early.is_empty() && !scope.variables.is_empty() {
            let message =
                format!("no variable of the route is a field of {}: say what they are", self.input.full_name());
            errors.push(ConfigError::new("request", message));
        }
    }

    fn take_batch(&mut self, config: &BatchConfig, errors: &mut Vec<ConfigError>) {
        let mut wrong = |path: &str, message: String| errors.push(ConfigError::new(path, message));
        let answers = Shape::Message(self.method.output()).list(&config.list);
        let (list, element) = answers.unwrap_or_else(|message| {
            wrong("batch.list", message);
            (Vec::new(), Shape::Unknown)
        });
        let answers_key = match element.one(&config.key) {
            Ok((names, Shape::Value | Shape::Unknown)) => names,
            Ok((_, Shape::Message(_))) => {
                wrong("batch.key", format!("`{}` is no single value", config.key));
                Vec::new()
            }
            Err(message) => {
                wrong("batch.key", message);
                Vec::new()
            }
        };
        let mut of_item: Vec<_> = self.late.extract_if(.., |field| field.text.names_item()).collect();
        let (Some(Field { path, text }), None) = (of_item.pop(), of_item.pop()) else {
            wrong("batch", "needs one field of `request`, and only one, that names `{item}`".to_owned());
            return;
        };
        if !path.leaf().is_list() || matches!(text.shape(), Shape::Message(_)) {
            wrong(
                &format!("request.{path}"),
                "must be a repeated field of single values: it gets those of all elements".to_owned(),
            );
        }
        self.batch = Some(Batch { key_field: path, key: text, list, element, answers_key });
    }

    pub fn output(&self) -> &Message {
        &self.output
    }

    /// All that other parts or elements say.
    pub fn late(&self) -> impl Iterator<Item = &Text> {
        self.late.iter().map(|field| &field.text).chain(self.batch.iter().map(|batch| &batch.key))
    }

    /// Whether a query parameter means something to it.
    pub fn takes(&self, parameter: &str) -> bool {
        let names = |text: &Text| {
            text.variables().any(|variable| matches!(variable, Variable::Query(name) if name == parameter))
        };
        self.early.iter().any(|field| names(&field.text))
            || self.late().any(names)
            || (self.takes_query && self.input.path(parameter).is_some())
    }

    /// The request, as far as the client says it.
    pub fn begin(&self, parameters: &Parameters<'_>, context: &RequestContext) -> Result<Vec<u8>, Vec<Violation>> {
        let mut message = Vec::with_capacity(self.fixed.len() + 64);
        message.extend_from_slice(&self.fixed);
        let mut violations = Vec::new();
        let values = Values { context, parameters, answers: &[], item: &[] };
        for Field { path, text } in &self.early {
            // A query parameter that isn't given leaves its field unset.
            let set = text.expand(Escape::None, &values).map_or(Ok(()), |value| path.append(&mut message, &value));
            if let Err(reason) = set {
                violations
                    .push(Violation { field: text.shown().map_or_else(|| path.to_string(), str::to_owned), reason });
            }
        }
        for (name, value) in parameters.iter().filter(|_| self.takes_query) {
            let Some(path) = self.input.path(name) else { continue };
            let set = if !path.leaf().is_list() && path.is_set(&message) {
                Err("is given twice".to_owned())
            } else {
                path.append(&mut message, value)
            };
            if let Err(reason) = set {
                violations.push(Violation { field: name.to_string(), reason });
            }
        }
        if violations.is_empty() { Ok(message) } else { Err(violations) }
    }

    /// The rest of the request.
    pub fn finish(&self, message: &mut Vec<u8>, values: &Values<'_>) -> Result<(), Failure> {
        for Field { path, text } in &self.late {
            let lacks = || Failure::no_input(text.lacks(values), format!("there is nothing for {path}"));
            let unfit = |reason: String| Failure::no_input(text.lacks(values), format!("{path} {reason}"));
            // A message is read as it stands there.
            let whole = text.sole().filter(|_| !matches!(text.shape(), Shape::Value));
            match whole.and_then(|variable| variable.json(values)).filter(|json| json.starts_with(b"{")) {
                Some(json) => path.read(json, message).map_err(|fault| unfit(format!("{fault:?}")))?,
                None => {
                    let value = text.expand(Escape::None, values).ok_or_else(lacks)?;
                    path.append(message, &value).map_err(unfit)?;
                }
            }
        }
        Ok(())
    }

    /// The answer as it came.
    pub async fn ask(
        &self,
        client: &Client,
        metadata: http::HeaderMap,
        message: Bytes,
        options: Options,
    ) -> Result<Bytes, Failure> {
        let safe = self.safe || self.reads && options.safe;
        let options = Options { idempotent: self.idempotent || safe, safe, ..options };
        let reply = client.unary(&self.path, metadata, message, options).await;
        reply.map(|reply| reply.message).map_err(|status| Failure::of_status(&status))
    }
}

impl Batch {
    /// Adds a key to a request.
    pub fn add(&self, key: &str, message: &mut Vec<u8>) -> Result<(), String> {
        self.key_field.append(message, key)
    }

    /// What a whole answer has for each key. The first of those with one key counts.
    pub fn answers(&self, part: &Part, keys: &[String], whole: &[u8]) -> Vec<Answer> {
        let places: HashMap<_, _> = keys.iter().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
        let mut answers: Vec<_> = keys.iter().map(|_| Answer::Missing).collect();
        json::each(whole, 0..whole.len(), &self.list, &mut |span| {
            let element = whole.get(span).unwrap_or_default();
            let key = json::find(element, 0..element.len(), &self.answers_key);
            let key = key.and_then(|span| json::text(element.get(span)?));
            let Some(at) = key.and_then(|key| places.get(&*key).copied()) else { return };
            if let (Answer::Missing, Some(taken)) = (&answers[at], part.taken(element)) {
                answers[at] = Answer::Json(Bytes::copy_from_slice(element.get(taken).unwrap_or_default()));
            }
        });
        answers
    }
}

/// Whether the method's own annotation says that it is a read.
fn is_bound_to_get(method: &MethodDescriptor) -> bool {
    let rule = HttpRule::of(method).ok().flatten();
    rule.is_some_and(|rule| matches!(rule.target(), Ok((Some(http::Method::GET), _))))
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(['{', '}']),
        Value::Array(values) => values.iter().any(has_template),
        Value::Object(members) => members.values().any(has_template),
        _ => false,
    }
}
