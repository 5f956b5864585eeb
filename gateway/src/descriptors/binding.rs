//! One way to reach a method over HTTP, as a rule has it. Whether its fields are there is checked by who uses it.

use std::fmt;

use http::Method;
use prost_reflect::{MethodDescriptor, ServiceDescriptor};
use protojson::Schema;

use super::{Descriptors, rule::HttpRule};
use crate::route::Template;

/// A rule or one of its `additional_bindings`, with the method it is for.
#[derive(Clone)]
pub struct Binding {
    pub method: MethodDescriptor,
    /// Of the method's messages.
    pub schema: Schema,
    /// None: any.
    pub http_method: Option<Method>,
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

// The derived one would print the method's messages, which never ends where one may hold itself.
impl fmt::Debug for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// `library.v1.Library.GetBook, GET /books/{id}`
impl fmt::Display for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let http_method = self.http_method.as_ref().map_or("*", Method::as_str);
        write!(formatter, "{}, {http_method} {}", self.method.full_name(), self.template)
    }
}

/// The bindings of an annotated service (`package.Service`), in the order of the file. Methods without an annotation have
/// none.
///
/// # Errors
/// A sentence for each: there is no such service, or an annotation makes no sense.
pub fn bindings(descriptors: &Descriptors, service: &str) -> Result<Vec<Binding>, Vec<String>> {
    by_rules(descriptors, service, &[])
}

/// The same where rules take the place of annotations, each for the method it selects.
///
/// # Errors
/// As [`bindings`]; a rule that selects nothing, or what another one does.
pub fn by_rules(descriptors: &Descriptors, service: &str, rules: &[HttpRule]) -> Result<Vec<Binding>, Vec<String>> {
    let service = descriptors.service(service).map_err(|message| vec![message])?;
    let mut errors = strays(&service, rules);
    let mut bindings = Vec::new();
    for method in service.methods() {
        let given = rules.iter().find(|rule| rule.selector == method.full_name()).cloned();
        let rule = given.map_or_else(|| HttpRule::of(&method), |rule| Ok(Some(rule)));
        let made = rule.and_then(|rule| rule.map_or(Ok(Vec::new()), |rule| of_rule(descriptors, &method, &rule)));
        match made {
            Ok(made) => bindings.extend(made),
            Err(message) => errors.push(format!("{}: {message}", method.full_name())),
        }
    }
    if errors.is_empty() { Ok(bindings) } else { Err(errors) }
}

fn strays(service: &ServiceDescriptor, rules: &[HttpRule]) -> Vec<String> {
    let mut errors = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let selector = &rule.selector;
        if !service.methods().any(|method| method.full_name() == selector) {
            errors.push(format!("the selector `{selector}` names no method of {}", service.full_name()));
        } else if rules[..at].iter().any(|other| other.selector == *selector) {
            errors.push(format!("two rules are for `{selector}`: `additional_bindings` has room for more paths"));
        }
    }
    errors
}

fn of_rule(descriptors: &Descriptors, method: &MethodDescriptor, rule: &HttpRule) -> Result<Vec<Binding>, String> {
    let mut bindings = vec![binding(descriptors, method, rule)?];
    for (at, additional) in rule.additional_bindings.iter().enumerate() {
        let made = if !additional.additional_bindings.is_empty() {
            Err("can't have `additional_bindings` of its own".to_owned())
        } else if !additional.selector.is_empty() {
            Err("can't have a `selector` of its own".to_owned())
        } else {
            binding(descriptors, method, additional)
        };
        bindings.push(made.map_err(|message| format!("additional_bindings[{at}]: {message}"))?);
    }
    Ok(bindings)
}

fn binding(descriptors: &Descriptors, method: &MethodDescriptor, rule: &HttpRule) -> Result<Binding, String> {
    let (http_method, template) = rule.target()?;
    Template::parse(template).map_err(|message| format!("`{template}`: {message}"))?;
    let body = match rule.body.as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::All,
        field => BodyRule::Field(field.to_owned()),
    };
    if let Some(http_method @ (Method::GET | Method::HEAD)) = &http_method
        && body != BodyRule::None
    {
        return Err(format!("{http_method} can't have a body"));
    }
    Ok(Binding {
        method: method.clone(),
        schema: descriptors.schema.clone(),
        http_method,
        template: template.to_owned(),
        body,
        response_body: Some(rule.response_body.clone()).filter(|field| !field.is_empty()),
    })
}
