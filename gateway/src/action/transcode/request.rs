//! From an HTTP request to the encoded request message: path variables, body, query, `If-Match`, field mask.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header};
use prost_reflect::{Kind, MessageDescriptor};
use protojson::{Fault, Message, Path};

use super::{
    super::{ConfigError, query, variable},
    etag::{self, IfMatch},
    field,
    mask::Mask,
    raw,
};
use crate::{
    context::RequestContext,
    descriptors::{Binding, BodyRule},
    error::{Error, ErrorKind, Violation},
    route::Template,
};

/// The most parameters of a query.
const MAX_PARAMETERS: usize = 1000;

/// How the request message of one binding is made.
pub struct Plan {
    message: Message,
    variables: Vec<Variable>,
    body: Body,
    /// The field `etag`, which `If-Match` sets.
    etag: Option<Path>,
    /// What a PATCH changes, where nobody says so, and the field that says it.
    mask: Option<(Mask, Path)>,
}

/// A field that the path fills.
struct Variable {
    name: Arc<str>,
    path: Path,
    /// The body may say it as well.
    in_body: bool,
}

enum Body {
    None,
    All,
    Field(Path),
    /// Of any type, with the field that it is, if it isn't the whole message.
    Raw(raw::Place, Option<Path>),
}

/// A request, as far as messages are made of it.
pub struct Given<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub query: Option<&'a str>,
    pub context: &'a RequestContext,
}

impl Plan {
    pub fn new(binding: &Binding) -> Result<Self, Vec<ConfigError>> {
        let descriptor = binding.method.input();
        let missing = || vec![ConfigError::new("", format!("{} is not described", descriptor.full_name()))];
        let message = binding.schema.message(descriptor.full_name()).ok_or_else(missing)?;
        let mut errors = Vec::new();
        let mut fault = |reason: String| errors.push(ConfigError::new("", format!("{binding}: {reason}")));
        let body = body(&message, &descriptor, &binding.body).unwrap_or_else(|reason| {
            fault(format!("body: {reason}"));
            Body::None
        });
        let variables = variables(&message, &descriptor, binding, &body, &mut fault);
        if binding.method.is_client_streaming() && matches!(body, Body::None) && binding.body == BodyRule::None {
            fault("streams requests, so its rule needs a body".to_owned());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let is_patch = binding.http_method == Some(Method::PATCH);
        let mask = match &body {
            Body::Field(body) if is_patch => {
                message.path("update_mask").and_then(|path| Some((Mask::new(&path, body)?, path)))
            }
            _ => None,
        };
        let etag = message.path("etag").filter(|path| path.leaf().kind() == Kind::String && !path.leaf().is_list());
        Ok(Self { variables, body, etag, mask, message })
    }

    /// Whether the body is bytes of any type.
    pub fn takes_raw(&self) -> bool {
        matches!(self.body, Body::Raw(..))
    }

    /// The message of a request. All that is wrong with it is reported at once.
    pub fn message(&self, given: &Given<'_>, body: &[u8]) -> Result<Vec<u8>, Error> {
        let mut violations = Vec::new();
        let mut wire = Vec::with_capacity(body.len() + 64);
        self.read_body(given.headers, body, &mut wire, &mut violations)?;
        self.set_variables(given.context, !body.is_empty(), &mut wire, &mut violations);
        let has_mask = self.set_query(given.query.unwrap_or_default(), &mut wire, &mut violations)?;
        self.set_etag(given, &mut wire)?;
        // A body at fault might name the same fields without end.
        let is_masked = !has_mask && !body.is_empty() && violations.is_empty();
        if let Some((mask, _)) = self.mask.as_ref().filter(|_| is_masked) {
            self.set_mask(mask, body, &mut wire);
        }
        finish(wire, violations)
    }

    /// What path, query and header say of the first message of a stream.
    pub fn head(&self, given: &Given<'_>) -> Result<Vec<u8>, Error> {
        self.message(given, &[])
    }

    /// One message of a stream that the body is, appended to what is known of it.
    pub fn element(&self, json: &[u8], wire: &mut Vec<u8>) -> Result<(), Error> {
        let mut violations = Vec::new();
        let known = wire.len();
        self.read_json(json, wire, &mut violations)?;
        if known > 0 {
            // What the path says stands last, and so counts.
            wire.rotate_left(known);
        }
        finish((), violations)
    }

    /// One piece of a raw body as a message.
    pub fn piece(&self, content_type: Option<&HeaderValue>, data: &[u8], wire: &mut Vec<u8>) {
        if let Body::Raw(place, _) = &self.body {
            place.append(content_type, data, wire);
        }
    }

    fn read_body(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        wire: &mut Vec<u8>,
        violations: &mut Vec<Violation>,
    ) -> Result<(), Error> {
        match &self.body {
            _ if body.is_empty() => Ok(()),
            Body::None => Err(Error::new(ErrorKind::BadRequest, "this request takes no body")),
            Body::Raw(place, _) => {
                place.append(headers.get(header::CONTENT_TYPE), body, wire);
                Ok(())
            }
            Body::All | Body::Field(_) => self.read_json(body, wire, violations),
        }
    }

    fn read_json(&self, json: &[u8], wire: &mut Vec<u8>, violations: &mut Vec<Violation>) -> Result<(), Error> {
        let read = match &self.body {
            Body::Field(path) => path.read(json, wire),
            _ => self.message.read(json, wire),
        };
        match read {
            Ok(()) => Ok(()),
            Err(Fault::Violations(found)) => {
                violations.extend(found);
                Ok(())
            }
            Err(Fault::Syntax(reason)) => {
                Err(Error::new(ErrorKind::BadRequest, format!("the body is not valid JSON: {reason}")))
            }
        }
    }

    /// A variable of the path wins over the body, which may only repeat it.
    fn set_variables(
        &self,
        context: &RequestContext,
        has_body: bool,
        wire: &mut Vec<u8>,
        violations: &mut Vec<Violation>,
    ) {
        for Variable { name, path, in_body } in &self.variables {
            let value = variable(context, name).unwrap_or_default();
            let from_body = (has_body && *in_body && path.is_set(wire)).then(|| path.text(wire));
            let outcome = path.append(wire, value).and_then(|()| match from_body {
                Some(said) if said != path.text(wire) => Err("is another in the body than in the path".to_owned()),
                _ => Ok(()),
            });
            if let Err(reason) = outcome {
                violations.push(Violation { field: name.to_string(), reason });
            }
        }
    }

    /// Whether the mask was among the parameters.
    fn set_query(&self, query: &str, wire: &mut Vec<u8>, violations: &mut Vec<Violation>) -> Result<bool, Error> {
        if query.is_empty() {
            return Ok(false);
        }
        let mut given = Vec::new();
        for (at, pair) in query::pairs(query).enumerate() {
            if at == MAX_PARAMETERS {
                let detail = format!("there are more than {MAX_PARAMETERS} query parameters");
                return Err(Error::new(ErrorKind::BadRequest, detail));
            }
            let outcome = pair.and_then(|(name, value)| {
                let result = self.set_parameter(&name, &value, wire, &mut given);
                result.map_err(|reason| Violation { field: name.into_owned(), reason })
            });
            violations.extend(outcome.err());
        }
        Ok(self.mask.as_ref().is_some_and(|(_, mask)| given.contains(mask)))
    }

    /// `given`: the singular fields that were.
    fn set_parameter(&self, name: &str, value: &str, wire: &mut Vec<u8>, given: &mut Vec<Path>) -> Result<(), String> {
        let unknown = || "is not a known parameter".to_owned();
        let path = self.message.path(name).ok_or_else(unknown)?;
        if self.variables.iter().any(|variable| variable.path == path) {
            return Err("is given by the path".to_owned());
        }
        match &self.body {
            Body::All | Body::Raw(_, None) => return Err(unknown()),
            Body::Field(body) | Body::Raw(_, Some(body)) if path.starts_with(body) => {
                return Err("is given by the body".to_owned());
            }
            _ => {}
        }
        if !path.leaf().is_list() {
            // The two spellings of a field are one parameter.
            if given.contains(&path) {
                return Err("is given twice".to_owned());
            }
            given.push(path.clone());
        }
        path.append(wire, value)
    }

    fn set_etag(&self, given: &Given<'_>, wire: &mut Vec<u8>) -> Result<(), Error> {
        let Some(condition) = etag::if_match(given.headers)? else { return Ok(()) };
        let Some(path) = &self.etag else {
            // Going on would break the promise that nothing is overwritten; nothing is by what only reads.
            return match condition {
                IfMatch::Tag(_) if !given.method.is_safe() => {
                    Err(Error::new(ErrorKind::BadRequest, "this request can't be made conditional by `If-Match`"))
                }
                _ => Ok(()),
            };
        };
        let IfMatch::Tag(tag) = condition else { return Ok(()) };
        if path.text(wire).is_some_and(|said| !said.is_empty() && said != tag) {
            return Err(Error::new(ErrorKind::BadRequest, "`If-Match` and `etag` differ"));
        }
        path.append(wire, &tag).map_err(|reason| Error::new(ErrorKind::BadRequest, reason))
    }

    /// A PATCH without a mask changes what its body has, but for what the path has said already.
    fn set_mask(&self, mask: &Mask, json: &[u8], wire: &mut Vec<u8>) {
        let Body::Field(body) = &self.body else { return };
        let body = body.leaf().name();
        let is_in_path = |path: &str| {
            self.variables.iter().any(|variable| {
                let named = variable.path.to_string();
                named.strip_prefix(body).and_then(|rest| rest.strip_prefix('.')) == Some(path)
            })
        };
        let paths = mask.paths(json);
        mask.append(paths.iter().filter(|path| !is_in_path(path)), wire);
    }
}

fn body(message: &Message, descriptor: &MessageDescriptor, rule: &BodyRule) -> Result<Body, String> {
    let field = match rule {
        BodyRule::None => return Ok(Body::None),
        BodyRule::All => None,
        BodyRule::Field(name) => Some(field::top(message, descriptor, name)?),
    };
    Ok(match (raw::Place::of(descriptor, field.as_ref()), field) {
        (Some(place), field) => Body::Raw(place, field),
        (None, Some(field)) => Body::Field(field),
        (None, None) => Body::All,
    })
}

fn variables(
    message: &Message,
    descriptor: &MessageDescriptor,
    binding: &Binding,
    body: &Body,
    fault: &mut impl FnMut(String),
) -> Vec<Variable> {
    let template = match Template::parse(&binding.template) {
        Ok(template) => template,
        Err(reason) => {
            fault(reason);
            return Vec::new();
        }
    };
    let mut variables: Vec<Variable> = Vec::new();
    for variable in &template.variables {
        let name = &variable.name;
        let path = match field::variable(message, descriptor, name) {
            Ok(path) => path,
            Err(reason) => {
                fault(format!("{{{name}}}: {reason}"));
                continue;
            }
        };
        if let Some(other) = variables.iter().find(|other| other.path == path) {
            fault(format!("{{{name}}}: is the same field as {{{}}}", other.name));
            continue;
        }
        let in_body = match body {
            Body::All => true,
            Body::Field(body) | Body::Raw(_, Some(body)) => path.starts_with(body),
            Body::None | Body::Raw(_, None) => false,
        };
        if let Body::Field(body) = body
            && path == *body
        {
            fault(format!("{{{name}}}: is the body as well"));
        }
        variables.push(Variable { name: Arc::clone(name), path, in_body });
    }
    variables
}

fn finish<T>(made: T, violations: Vec<Violation>) -> Result<T, Error> {
    if violations.is_empty() {
        Ok(made)
    } else {
        Err(Error::new(ErrorKind::Invalid, "the request is not valid").violations(violations))
    }
}
