//! From an HTTP request to the request message: path variables, body, query, `If-Match`, field mask.

use std::borrow::Cow;

use http::{HeaderMap, Method};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use protojson::{
    Fault,
    dynamic::{FieldPath, read},
};

use super::{
    super::{ConfigError, query, variable},
    etag::{self, IfMatch},
    mask,
};
use crate::{
    context::RequestContext,
    descriptors::{self, Binding, BodyRule},
    error::{Error, ErrorKind, Violation},
};

/// How the request message of one binding is made.
pub struct Plan {
    message: MessageDescriptor,
    /// Variables of the path template by name.
    variables: Vec<(String, FieldPath)>,
    body: Body,
    /// The field `etag`, which `If-Match` sets.
    etag: Option<FieldPath>,
    /// The field that says what a PATCH changes.
    mask: Option<FieldPath>,
    is_safe: bool,
}

enum Body {
    None,
    All,
    Field(FieldPath),
}

impl Plan {
    pub fn new(binding: &Binding) -> Result<Self, Vec<ConfigError>> {
        let message = binding.method.input();
        let mut errors = Vec::new();
        let mut variables = Vec::new();
        for name in descriptors::variables(&binding.template) {
            match FieldPath::resolve(&message, name) {
                Some(path) if !path.leaf().is_list() && !path.leaf().is_map() => {
                    variables.push((name.to_owned(), path));
                }
                _ => errors.push(ConfigError::new(
                    "",
                    format!("`{{{name}}}` of {} names no single field of {}", binding.template, message.full_name()),
                )),
            }
        }
        let body = match &binding.body {
            BodyRule::None => Body::None,
            BodyRule::All => Body::All,
            BodyRule::Field(name) => match FieldPath::resolve(&message, name).filter(|_| !name.contains('.')) {
                Some(path) => Body::Field(path),
                None => {
                    errors.push(ConfigError::new(
                        "",
                        format!("{} has no field `{name}` for a body", message.full_name()),
                    ));
                    Body::None
                }
            },
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let is_patch = binding.http_method == Method::PATCH && matches!(body, Body::Field(_));
        Ok(Self {
            variables,
            body,
            etag: FieldPath::resolve(&message, "etag").filter(|path| path.leaf().kind() == Kind::String),
            mask: FieldPath::resolve(&message, "update_mask").filter(|path| is_patch && is_mask(path.leaf())),
            is_safe: binding.http_method.is_safe(),
            message,
        })
    }

    /// The message of a request. All that is wrong with it is reported at once.
    pub fn message(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        body: &[u8],
        context: &RequestContext,
    ) -> Result<DynamicMessage, Error> {
        let mut violations = Vec::new();
        let mut message = self.read_body(body, &mut violations)?;
        for (name, path) in &self.variables {
            let value = variable(context, name).unwrap_or_default();
            if let Err(reason) = set_variable(&mut message, path, value) {
                violations.push(Violation { field: name.clone(), reason });
            }
        }
        self.set_query(&mut message, query.unwrap_or_default(), &mut violations);
        self.set_etag(&mut message, headers)?;
        if let Some(mask) = self.mask.as_ref().filter(|mask| !mask.is_set(&message)) {
            self.set_mask(&mut message, mask, body);
        }
        if violations.is_empty() {
            Ok(message)
        } else {
            Err(Error::new(ErrorKind::Invalid, "the request is not valid").violations(violations))
        }
    }

    fn read_body(&self, body: &[u8], violations: &mut Vec<Violation>) -> Result<DynamicMessage, Error> {
        let mut message = DynamicMessage::new(self.message.clone());
        if body.is_empty() {
            return Ok(message);
        }
        let read = match &self.body {
            Body::None => return Err(Error::new(ErrorKind::BadRequest, "this request takes no body")),
            Body::All => read::message(&self.message, body).map(|read| message = read),
            Body::Field(path) => read::field(path.leaf(), body).map(|value| {
                if let Some(Err(reason)) = value.map(|value| path.set(&mut message, value)) {
                    violations.push(Violation { field: path.leaf().json_name().to_owned(), reason });
                }
            }),
        };
        match read {
            Ok(()) => {}
            Err(Fault::Violations(found)) => violations.extend(found),
            Err(Fault::Syntax(reason)) => {
                return Err(Error::new(ErrorKind::BadRequest, format!("the body is not valid JSON: {reason}")));
            }
        }
        Ok(message)
    }

    fn set_query(&self, message: &mut DynamicMessage, query: &str, violations: &mut Vec<Violation>) {
        let mut given = Vec::new();
        for pair in query::pairs(query) {
            let outcome = pair.and_then(|(name, value)| {
                let result = self.set_parameter(message, &name, &value, &mut given);
                result.map_err(|reason| Violation { field: name.into_owned(), reason })
            });
            violations.extend(outcome.err());
        }
    }

    fn set_parameter(
        &self,
        message: &mut DynamicMessage,
        name: &str,
        value: &str,
        given: &mut Vec<String>,
    ) -> Result<(), String> {
        let unknown = || "is not a known parameter".to_owned();
        let path = FieldPath::resolve(&self.message, name).ok_or_else(unknown)?;
        if self.variables.iter().any(|(_, variable)| *variable == path) {
            return Err("is given by the path".to_owned());
        }
        match &self.body {
            Body::All => return Err(unknown()),
            Body::Field(body) if path.starts_with(body) => return Err("is given by the body".to_owned()),
            _ => {}
        }
        if !path.leaf().is_list() {
            // The two spellings of a field are one parameter.
            let canonical = path.to_string();
            if given.contains(&canonical) {
                return Err("is given twice".to_owned());
            }
            given.push(canonical);
        }
        path.set_text(message, value)
    }

    fn set_etag(&self, message: &mut DynamicMessage, headers: &HeaderMap) -> Result<(), Error> {
        let Some(condition) = etag::if_match(headers)? else { return Ok(()) };
        let Some(path) = &self.etag else {
            // Going on would break the promise that nothing is overwritten; nothing is by what only reads.
            return match condition {
                IfMatch::Tag(_) if !self.is_safe => {
                    Err(Error::new(ErrorKind::BadRequest, "this request can't be made conditional by `If-Match`"))
                }
                _ => Ok(()),
            };
        };
        let IfMatch::Tag(tag) = condition else { return Ok(()) };
        let given = path.get(message).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        if !given.is_empty() && given != tag {
            return Err(Error::new(ErrorKind::BadRequest, "`If-Match` and `etag` differ"));
        }
        path.set(message, Value::String(tag)).map_err(|reason| Error::new(ErrorKind::BadRequest, reason))
    }

    /// A PATCH without a mask changes what its body has, but for what the path has said already.
    fn set_mask(&self, message: &mut DynamicMessage, mask: &FieldPath, json: &[u8]) {
        let (Body::Field(body), Kind::Message(descriptor)) = (&self.body, mask.leaf().kind()) else { return };
        let named_by_path = |name: &str| {
            self.variables.iter().any(|(_, path)| path.to_string() == format!("{}.{name}", body.leaf().name()))
        };
        let paths = mask::paths(body.leaf(), json).into_iter().filter(|path| !named_by_path(path)).map(Value::String);
        let mut value = DynamicMessage::new(descriptor);
        // That the fields are of these kinds was checked when the plan was made.
        let _ = value.try_set_field_by_name("paths", Value::List(paths.collect()));
        let _ = mask.set(message, Value::Message(value));
    }
}

/// A variable of the path wins over the body, which may only repeat it.
fn set_variable(message: &mut DynamicMessage, path: &FieldPath, text: &str) -> Result<(), String> {
    let from_body = path.get(message).filter(|_| path.is_set(message)).map(Cow::into_owned);
    path.set_text(message, text)?;
    match from_body {
        Some(value) if path.get(message).as_deref() != Some(&value) => {
            Err("is another in the body than in the path".to_owned())
        }
        _ => Ok(()),
    }
}

fn is_mask(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask")
}
