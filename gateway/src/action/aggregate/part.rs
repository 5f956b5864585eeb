//! One call of an aggregate: its request from the route's variables and the query, its deadline, what of its answer is
//! taken.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use protojson::{
    Fault,
    dynamic::{FieldPath, read, write_field, write_message},
};
use upstream::Options;

use super::{
    super::{
        ConfigError, status,
        template::{Escape, Template},
        variable,
    },
    PartConfig,
};
use crate::{
    context::RequestContext,
    descriptors::Directory,
    error::{Error, ErrorKind, Violation},
    worker::{UpstreamId, Worker},
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// What a template calls a query parameter: `{query.page}`.
const QUERY: &str = "query.";

/// A compiled part.
pub struct Part {
    pub name: String,
    pub required: bool,
    /// Encoded as JSON.
    pub fallback: Option<String>,
    pub(super) upstream: UpstreamId,
    path: String,
    input: MessageDescriptor,
    output: MessageDescriptor,
    fields: Vec<(FieldPath, Source)>,
    /// Query parameters set fields of their own names.
    takes_query: bool,
    pick: Option<FieldPath>,
    timeout: Duration,
    idempotent: bool,
}

/// Where a field's value comes from.
enum Source {
    Text(Template),
    Literal(Value),
}

/// Why a part has no answer: for `_meta`, and for the client where the part is required.
pub struct Failure {
    /// The lower-case name of a gRPC code.
    pub reason: &'static str,
    pub error: Error,
}

impl Part {
    pub fn new(config: &PartConfig, variables: &[&str], directory: &Directory) -> Result<Self, Vec<ConfigError>> {
        let method = directory.method(&config.call, config.upstream.as_deref());
        let (upstream, method) = method.map_err(|message| vec![ConfigError::new("call", message)])?;
        let mut errors = Vec::new();
        if method.is_client_streaming() || method.is_server_streaming() {
            errors.push(ConfigError::new("call", format!("{} is not unary", method.full_name())));
        }
        let fields = match &config.request {
            Some(request) => explicit(request, variables, &method, &mut errors),
            None => by_name(variables, &method, &mut errors),
        };
        let output = method.output();
        let pick = config.pick.as_ref().and_then(|name| {
            let path = FieldPath::resolve(&output, name);
            if path.is_none() {
                errors.push(ConfigError::new("pick", format!("{} has no field `{name}`", output.full_name())));
            }
            path
        });
        if config.timeout.is_some_and(|timeout| timeout.is_zero()) {
            errors.push(ConfigError::new("timeout", "must be above 0"));
        }
        if config.required && config.fallback.is_some() {
            errors.push(ConfigError::new("fallback", "a required part has none"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            name: config.part.clone(),
            required: config.required,
            fallback: config.fallback.as_ref().map(ToString::to_string),
            upstream,
            path: super::super::grpc_path(&method),
            input: method.input(),
            output,
            fields,
            takes_query: config.request.is_none(),
            pick,
            timeout: config.timeout.unwrap_or(TIMEOUT),
            idempotent: super::super::is_idempotent(&method),
        })
    }

    /// Whether a query parameter means something to this part.
    pub fn takes(&self, parameter: &str) -> bool {
        self.fields.iter().any(|(_, source)| match source {
            Source::Text(template) => template.variables().any(|name| name.strip_prefix(QUERY) == Some(parameter)),
            Source::Literal(_) => false,
        }) || (self.takes_query && FieldPath::resolve(&self.input, parameter).is_some())
    }

    /// The encoded request message.
    pub fn request(
        &self,
        parameters: &[(Cow<'_, str>, Cow<'_, str>)],
        context: &RequestContext,
    ) -> Result<Bytes, Vec<Violation>> {
        let mut message = DynamicMessage::new(self.input.clone());
        let mut violations = Vec::new();
        let parameter =
            |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref());
        for (path, source) in &self.fields {
            let set = match source {
                Source::Literal(value) => path.set(&mut message, value.clone()),
                Source::Text(template) => {
                    let text = template.expand(Escape::None, |name| match name.strip_prefix(QUERY) {
                        Some(name) => parameter(name).map(Cow::Borrowed),
                        None => variable(context, name).map(Cow::Borrowed),
                    });
                    // A query parameter that isn't given leaves its field unset.
                    text.map_or(Ok(()), |text| path.set_text(&mut message, &text))
                }
            };
            if let Err(reason) = set {
                violations.push(Violation { field: source.shown(path), reason });
            }
        }
        for (name, value) in parameters.iter().filter(|_| self.takes_query) {
            let Some(path) = FieldPath::resolve(&self.input, name) else { continue };
            let set = if !path.leaf().is_list() && path.is_set(&message) {
                Err("is given twice".to_owned())
            } else {
                path.set_text(&mut message, value)
            };
            if let Err(reason) = set {
                violations.push(Violation { field: name.to_string(), reason });
            }
        }
        if violations.is_empty() { Ok(message.encode_to_vec().into()) } else { Err(violations) }
    }

    /// The part of the answer, as JSON. `options` are those of the whole request.
    pub async fn call(
        &self,
        worker: &Worker,
        metadata: HeaderMap,
        message: Bytes,
        options: Options,
    ) -> Result<Vec<u8>, Failure> {
        let own = Instant::now() + self.timeout;
        let deadline = options.deadline.map_or(own, |deadline| deadline.min(own));
        let options = Options {
            deadline: Some(deadline),
            idempotent: options.idempotent || self.idempotent,
            ..Options::default()
        };
        let reply = worker.client(self.upstream).unary(&self.path, metadata, message, options).await;
        let reply =
            reply.map_err(|failed| Failure { reason: status::name(failed.code), error: status::error(&failed) })?;
        self.json(reply.message).map_err(|cause| Failure {
            reason: "internal",
            error: Error::new(ErrorKind::BadGateway, "the service gave no valid answer").cause(cause),
        })
    }

    fn json(&self, message: Bytes) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let message = DynamicMessage::decode(self.output.clone(), message)?;
        let mut json = Vec::with_capacity(512);
        match &self.pick {
            Some(field) => write_field(&message, field, &mut json)?,
            None => write_message(&message, &mut json)?,
        }
        Ok(json)
    }
}

impl Source {
    /// What a client knows the field by.
    fn shown(&self, path: &FieldPath) -> String {
        match self {
            Self::Text(template) => {
                template.sole_variable().map(|name| name.strip_prefix(QUERY).unwrap_or(name).to_owned())
            }
            Self::Literal(_) => None,
        }
        .unwrap_or_else(|| path.to_string())
    }
}

/// Fields as `request:` lists them.
fn explicit(
    request: &std::collections::BTreeMap<String, serde_json::Value>,
    variables: &[&str],
    method: &MethodDescriptor,
    errors: &mut Vec<ConfigError>,
) -> Vec<(FieldPath, Source)> {
    let input = method.input();
    let mut fields = Vec::new();
    for (name, value) in request {
        let mut wrong = |message: String| errors.push(ConfigError::new(format!("request.{name}"), message));
        let Some(path) = FieldPath::resolve(&input, name) else {
            wrong(format!("{} has no field `{name}`", input.full_name()));
            continue;
        };
        match source(value, variables, &path) {
            Ok(source) => fields.push((path, source)),
            Err(message) => wrong(message),
        }
    }
    fields
}

fn source(value: &serde_json::Value, variables: &[&str], path: &FieldPath) -> Result<Source, String> {
    if let Some(text) = value.as_str().filter(|text| text.contains(['{', '}'])) {
        let template = Template::parse(text)?;
        let unknown = template.variables().find(|name| !name.starts_with(QUERY) && !variables.contains(name));
        return match unknown {
            Some(unknown) => Err(format!("the route has no variable `{unknown}`")),
            None => Ok(Source::Text(template)),
        };
    }
    if has_template(value) {
        return Err("variables can stand in a string of a field only, not deeper".to_owned());
    }
    match read::field(path.leaf(), value.to_string().as_bytes()) {
        Ok(value) => value.map(Source::Literal).ok_or_else(|| "must not be null".to_owned()),
        Err(Fault::Syntax(reason)) => Err(reason),
        Err(Fault::Violations(found)) => Err(found
            .into_iter()
            .map(|one| format!("{} {}", one.field, one.reason).trim().to_owned())
            .collect::<Vec<_>>()
            .join(", ")),
    }
}

fn has_template(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains(['{', '}']),
        serde_json::Value::Array(values) => values.iter().any(has_template),
        serde_json::Value::Object(members) => members.values().any(has_template),
        _ => false,
    }
}

/// The route's variables as fields of the same names.
fn by_name(variables: &[&str], method: &MethodDescriptor, errors: &mut Vec<ConfigError>) -> Vec<(FieldPath, Source)> {
    let input = method.input();
    let mut fields = Vec::new();
    for name in variables {
        // A variable is a template of itself.
        if let (Some(path), Ok(template)) = (FieldPath::resolve(&input, name), Template::parse(&format!("{{{name}}}")))
        {
            fields.push((path, Source::Text(template)));
        }
    }
    if fields.is_empty() && !variables.is_empty() {
        let message = format!("no variable of the route is a field of {}: say what they are", input.full_name());
        errors.push(ConfigError::new("request", message));
    }
    fields
}
