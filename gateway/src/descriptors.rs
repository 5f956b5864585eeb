//! What upstreams offer, as their descriptors say it: methods, and the HTTP bindings of `google.api.http` annotations.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::worker::UpstreamId;

/// One way to reach a method over HTTP: an annotation or one of its `additional_bindings`.
#[derive(Clone, Debug)]
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

/// Reads an encoded `FileDescriptorSet`.
///
/// # Errors
/// If it doesn't decode or isn't complete.
pub fn decode(_encoded: &[u8]) -> Result<DescriptorPool, String> {
    todo!()
}

/// The bindings of an annotated service (`package.Service`), in the order of the file.
///
/// # Errors
/// If there is no such service, or an annotation makes no sense.
pub fn bindings(_pool: &DescriptorPool, _service: &str) -> Result<Vec<Binding>, Vec<String>> {
    todo!()
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

/// Which upstreams there are and what they serve: what actions may name when they are compiled.
#[derive(Default)]
pub struct Directory {
    upstreams: HashMap<String, (UpstreamId, Option<DescriptorPool>)>,
    services: HashMap<String, String>,
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
    pub fn method(&self, _call: &str, _upstream: Option<&str>) -> Result<(UpstreamId, MethodDescriptor), String> {
        todo!()
    }
}
