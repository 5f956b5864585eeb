//! `google.api.HttpRule`: how a method is reached over HTTP
//! (<https://github.com/googleapis/googleapis/blob/master/google/api/http.proto>).
//!
//! An annotation is read by its field numbers, which never change: whatever copy of `http.proto` a service was compiled
//! with, or none that it tells of, its annotations are understood.

use http::Method;
use prost::{Message, Oneof};
use prost_reflect::MethodDescriptor;
use schemars::JsonSchema;
use serde::Deserialize;

/// The rule of an annotation.
#[derive(Clone, PartialEq, Message)]
pub struct HttpRule {
    #[prost(string, tag = "1")]
    pub selector: String,
    #[prost(oneof = "Pattern", tags = "2, 3, 4, 5, 6, 8")]
    pub pattern: Option<Pattern>,
    #[prost(string, tag = "7")]
    pub body: String,
    #[prost(string, tag = "12")]
    pub response_body: String,
    #[prost(message, repeated, tag = "11")]
    pub additional_bindings: Vec<HttpRule>,
}

/// A method of HTTP with its path template.
#[derive(Clone, PartialEq, Oneof)]
pub enum Pattern {
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(string, tag = "3")]
    Put(String),
    #[prost(string, tag = "4")]
    Post(String),
    #[prost(string, tag = "5")]
    Delete(String),
    #[prost(string, tag = "6")]
    Patch(String),
    #[prost(message, tag = "8")]
    Custom(CustomPattern),
}

#[derive(Clone, PartialEq, Message)]
pub struct CustomPattern {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub path: String,
}

/// What of a method's options matters here.
#[derive(Clone, PartialEq, Message)]
struct Options {
    /// The extension `google.api.http`.
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

impl HttpRule {
    /// The annotation of a method, if it has one.
    ///
    /// # Errors
    /// If it is there but no rule.
    pub fn of(method: &MethodDescriptor) -> Result<Option<Self>, String> {
        let options = method.options().encode_to_vec();
        let options = Options::decode(&*options).map_err(|error| format!("the annotation can't be read: {error}"))?;
        Ok(options.http)
    }

    /// The method of HTTP, None for any, and the path template.
    ///
    /// # Errors
    /// A sentence: there is none, or the method is none.
    pub fn target(&self) -> Result<(Option<Method>, &str), String> {
        let (method, path) = match self.pattern.as_ref().ok_or("the rule has no path")? {
            Pattern::Get(path) => (Method::GET, path),
            Pattern::Put(path) => (Method::PUT, path),
            Pattern::Post(path) => (Method::POST, path),
            Pattern::Delete(path) => (Method::DELETE, path),
            Pattern::Patch(path) => (Method::PATCH, path),
            Pattern::Custom(CustomPattern { kind, path }) if kind == "*" => return Ok((None, path)),
            Pattern::Custom(CustomPattern { kind, path }) => {
                let method = Method::from_bytes(kind.as_bytes()).ok().filter(|_| *kind == kind.to_ascii_uppercase());
                (method.ok_or_else(|| format!("`{kind}` is not a method of HTTP such as HEAD"))?, path)
            }
        };
        Ok((Some(method), path))
    }
}

/// A rule as a service configuration writes it: `{ selector: library.v1.Library.GetBook, get: "/books/{id}" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "HttpRule")]
pub struct Written {
    /// The method it is for: `package.Service.Method`. Not of an additional binding.
    pub selector: Option<String>,
    pub get: Option<String>,
    pub put: Option<String>,
    pub post: Option<String>,
    pub delete: Option<String>,
    pub patch: Option<String>,
    /// Another method of HTTP, or `*` for any.
    pub custom: Option<WrittenCustom>,
    /// The field that the body is, or `*` for all that the path doesn't say; default: there is no body.
    pub body: Option<String>,
    /// The only field of the response that is written; default all of it.
    #[serde(alias = "responseBody")]
    pub response_body: Option<String>,
    /// Other ways to the same method.
    #[serde(alias = "additionalBindings")]
    pub additional_bindings: Vec<Written>,
}

/// `{ kind: HEAD, path: "/books/{id}" }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CustomHttpPattern")]
pub struct WrittenCustom {
    pub kind: String,
    pub path: String,
}

/// A service configuration (`google.api.Service`); what else stands in it is for others.
#[derive(Debug, Deserialize)]
pub struct ServiceConfig {
    #[serde(default)]
    pub http: Http,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub rules: Vec<Written>,
    /// Nothing hangs on it: paths are decoded as far as it says in any case, but for slashes.
    #[serde(alias = "fullyDecodeReservedExpansion")]
    pub fully_decode_reserved_expansion: bool,
}

impl Written {
    /// # Errors
    /// A sentence: there is more than one path.
    pub fn rule(&self) -> Result<HttpRule, String> {
        let patterns = [
            self.get.clone().map(Pattern::Get),
            self.put.clone().map(Pattern::Put),
            self.post.clone().map(Pattern::Post),
            self.delete.clone().map(Pattern::Delete),
            self.patch.clone().map(Pattern::Patch),
            self.custom.clone().map(|WrittenCustom { kind, path }| Pattern::Custom(CustomPattern { kind, path })),
        ];
        let mut patterns = patterns.into_iter().flatten();
        let pattern = patterns.next();
        if patterns.next().is_some() {
            return Err("the rule has more than one path: `additional_bindings` takes the others".to_owned());
        }
        let additional = self
            .additional_bindings
            .iter()
            .enumerate()
            .map(|(at, other)| other.rule().map_err(|message| format!("additional_bindings[{at}]: {message}")));
        Ok(HttpRule {
            selector: self.selector.clone().unwrap_or_default(),
            pattern,
            body: self.body.clone().unwrap_or_default(),
            response_body: self.response_body.clone().unwrap_or_default(),
            additional_bindings: additional.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Written {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn a_written_rule_is_the_same_as_an_annotation() {
        let text = "{selector: a.B.C, custom: {kind: '*', path: /c}, body: '*', responseBody: d, \
                    additional_bindings: [{put: '/c/{d}'}]}";
        let rule = read(text).rule().unwrap();
        assert_eq!(rule.target(), Ok((None, "/c")));
        assert_eq!((rule.body.as_str(), rule.response_body.as_str()), ("*", "d"));
        assert_eq!(rule.additional_bindings[0].target(), Ok((Some(Method::PUT), "/c/{d}")));
        let encoded = Options { http: Some(rule.clone()) }.encode_to_vec();
        assert_eq!(Options::decode(&*encoded).unwrap().http, Some(rule));
    }

    #[test]
    fn a_rule_has_one_path_with_one_method() {
        assert!(read("{get: /a, put: /a}").rule().unwrap_err().contains("more than one path"));
        assert!(read("{additional_bindings: [{get: /a, put: /a}]}").rule().unwrap_err().starts_with("additional"));
        assert!(read("{}").rule().unwrap().target().unwrap_err().contains("no path"));
        for kind in ["get", "", "A B"] {
            let text = format!("{{custom: {{kind: '{kind}', path: /a}}}}");
            assert!(read(&text).rule().unwrap().target().is_err(), "{kind}");
        }
    }

    #[test]
    fn a_service_configuration_may_say_more() {
        let text = "type: google.api.Service\nname: library.example\nhttp:\n  fully_decode_reserved_expansion: true\n  \
                    rules:\n  - {selector: a.B.C, get: /c}\n";
        let config: ServiceConfig = serde_saphyr::from_str(text).unwrap();
        assert_eq!(config.http.rules[0].get.as_deref(), Some("/c"));
    }
}
