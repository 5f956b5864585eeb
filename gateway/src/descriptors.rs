//! What upstreams offer, as their descriptors say it: methods, and the HTTP bindings of `google.api.http` annotations.
//!
//! The annotations are read dynamically, by field name, so descriptors compiled against any copy of Google's public
//! `http.proto` will do.

use std::{collections::HashMap, fmt};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

use crate::worker::UpstreamId;

/// One way to reach a method over HTTP: an annotation or one of its `additional_bindings`.
#[derive(Clone)]
pub struct Binding {
    pub method: MethodDescriptor,
    pub http_method: http::Method,
    /// The path template as written: `/products/{product.id}`, `/files/{name=**}`, `/jobs/{id}:cancel`.
    pub template: String,
    pub body: BodyRule,
    /// The only field of the response that is written, if not all of it.
    pub response_body: Option<String>,
}

/// What of the request message the HTTP body holds. What it doesn't hold comes from the path and the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyRule {
    None,
    /// `body: "*"`: everything that the path doesn't say; there is no query then.
    All,
    /// `body: "field"`.
    Field(String),
}

/// Which upstreams there are and what they serve: what actions may name when they are compiled.
#[derive(Default)]
pub struct Directory {
    upstreams: HashMap<String, (UpstreamId, Option<DescriptorPool>)>,
    services: HashMap<String, String>,
}

// The derived one would print the method's messages, which never ends where one may hold itself.
impl fmt::Debug for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} → {}", self.http_method, self.template, self.method.full_name())
    }
}

/// Reads an encoded `FileDescriptorSet`.
///
/// # Errors
/// If it doesn't decode, or a file it imports is not in it.
pub fn decode(encoded: &[u8]) -> Result<DescriptorPool, String> {
    DescriptorPool::decode(encoded).map_err(|error| format!("not a complete descriptor set: {error}"))
}

/// The bindings of an annotated service (`package.Service`), in the order of the file. Methods without an annotation have
/// none.
///
/// # Errors
/// A sentence for each: there is no such service, or an annotation makes no sense.
pub fn bindings(pool: &DescriptorPool, service: &str) -> Result<Vec<Binding>, Vec<String>> {
    let Some(service) = pool.get_service_by_name(service) else {
        return Err(vec![format!("the descriptors have no service `{service}`")]);
    };
    let Some(extension) = pool.get_extension_by_name("google.api.http") else { return Ok(Vec::new()) };
    let (mut bindings, mut errors) = (Vec::new(), Vec::new());
    for method in service.methods() {
        let options = method.options();
        if !options.has_extension(&extension) {
            continue;
        }
        let rule = options.get_extension(&extension);
        let Some(rule) = rule.as_message() else { continue };
        let additional = rule.get_field_by_name("additional_bindings");
        let additional = additional.iter().filter_map(|list| list.as_list()).flatten().filter_map(Value::as_message);
        for rule in std::iter::once(rule).chain(additional) {
            match binding(&method, rule) {
                Ok(binding) => bindings.push(binding),
                Err(message) => errors.push(format!("{}: {message}", method.full_name())),
            }
        }
    }
    if errors.is_empty() { Ok(bindings) } else { Err(errors) }
}

fn binding(method: &MethodDescriptor, rule: &DynamicMessage) -> Result<Binding, String> {
    let (http_method, template) = pattern(rule)?;
    let body = match text(rule, "body").as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::All,
        field => BodyRule::Field(field.to_owned()),
    };
    if body != BodyRule::None && matches!(http_method, http::Method::GET | http::Method::HEAD) {
        return Err(format!("{http_method} can't have a body"));
    }
    if !template.starts_with('/') {
        return Err(format!("the path `{template}` doesn't start with a slash"));
    }
    let response_body = Some(text(rule, "response_body")).filter(|field| !field.is_empty());
    Ok(Binding { method: method.clone(), http_method, template, body, response_body })
}

fn pattern(rule: &DynamicMessage) -> Result<(http::Method, String), String> {
    for method in [http::Method::GET, http::Method::PUT, http::Method::POST, http::Method::DELETE, http::Method::PATCH]
    {
        let member = method.as_str().to_ascii_lowercase();
        if rule.has_field_by_name(&member) {
            return Ok((method, text(rule, &member)));
        }
    }
    let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
    let custom = custom.as_ref().and_then(|custom| custom.as_message()).ok_or("the annotation has no path")?;
    let kind = text(custom, "kind");
    let method = http::Method::from_bytes(kind.as_bytes()).map_err(|_| format!("`{kind}` is not an HTTP method"))?;
    Ok((method, text(custom, "path")))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Names of variables in a path template, in order: `/a/{b.c}/{d=**}` has `b.c` and `d`.
pub fn variables(template: &str) -> Vec<&str> {
    template
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(inside, _)| inside.split_once('=').map_or(inside, |(name, _)| name))
        .collect()
}

impl Directory {
    pub fn add_upstream(&mut self, name: &str, id: UpstreamId, descriptors: Option<DescriptorPool>) {
        self.upstreams.insert(name.to_owned(), (id, descriptors));
    }

    /// Says that an upstream serves `package.Service` (a route `grpc:` does).
    pub fn add_service(&mut self, service: &str, upstream: &str) {
        self.services.insert(service.to_owned(), upstream.to_owned());
    }

    pub fn upstream(&self, name: &str) -> Option<UpstreamId> {
        self.upstreams.get(name).map(|(id, _)| *id)
    }

    /// The method `package.Service/Method` and where it is called: at `upstream`, or at the one that serves it.
    ///
    /// # Errors
    /// A sentence that says what isn't there.
    pub fn method(&self, call: &str, upstream: Option<&str>) -> Result<(UpstreamId, MethodDescriptor), String> {
        let (service, method) =
            call.split_once('/').ok_or_else(|| format!("`{call}` is not of the form package.Service/Method"))?;
        let upstream = upstream
            .or_else(|| self.services.get(service).map(String::as_str))
            .ok_or_else(|| format!("no route serves `{service}`: name the upstream"))?;
        let (id, pool) = self.upstreams.get(upstream).ok_or_else(|| format!("there is no upstream `{upstream}`"))?;
        let pool = pool.as_ref().ok_or_else(|| format!("upstream `{upstream}` has no descriptors"))?;
        let service = pool
            .get_service_by_name(service)
            .ok_or_else(|| format!("the descriptors of `{upstream}` have no service `{service}`"))?;
        let found = service.methods().find(|candidate| candidate.name() == method);
        found.map(|found| (*id, found)).ok_or_else(|| format!("`{}` has no method `{method}`", service.full_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_in_order() {
        assert_eq!(variables("/a/{b.c}/{d=**}"), ["b.c", "d"]);
        assert_eq!(variables("/{name=shelves/*/books/*}:move"), ["name"]);
        assert!(variables("/a/b").is_empty());
    }
}
