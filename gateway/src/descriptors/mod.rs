//! What upstreams offer, as their descriptors say it.
//!
//! rule.rs     `google.api.HttpRule`, from an annotation or from the configuration
//! binding.rs  one way to reach a method over HTTP, made of a rule
//!
//! reflection.rs  asks a running service        live.rs  what services have said
//! sound.rs    what must hold of a set before anything is made of it

mod binding;
mod live;
pub(crate) mod reflection;
pub mod rule;
mod sound;

pub use binding::{Binding, BodyRule, bindings, by_rules};
pub(crate) use live::{Live, Stale, keep};

use std::{collections::HashMap, fmt, ops::Deref};

use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use protojson::Schema;

use crate::worker::UpstreamId;

/// A set of descriptors, and what their messages are as JSON. Cheap to clone.
#[derive(Clone)]
pub struct Descriptors {
    pool: DescriptorPool,
    pub schema: Schema,
}

/// Which upstreams there are and what they serve: what actions may name when they are compiled.
#[derive(Default)]
pub struct Directory {
    upstreams: HashMap<String, (UpstreamId, Option<Descriptors>)>,
    services: HashMap<String, String>,
}

/// Reads an encoded `FileDescriptorSet`.
///
/// # Errors
/// If it doesn't decode, a file it imports is not in it, or it is not sound.
pub fn decode(encoded: &[u8]) -> Result<Descriptors, String> {
    sound::imports(encoded)?;
    let pool = DescriptorPool::decode(encoded).map_err(|error| format!("not a complete descriptor set: {error}"))?;
    sound::messages(&pool)?;
    Ok(Descriptors { schema: Schema::new(&pool), pool })
}

impl Deref for Descriptors {
    type Target = DescriptorPool;

    fn deref(&self) -> &DescriptorPool {
        &self.pool
    }
}

// The derived one would print every message, which never ends where one may hold itself.
impl fmt::Debug for Descriptors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} files", self.pool.files().len())
    }
}

impl Descriptors {
    /// A service by its full name.
    ///
    /// # Errors
    /// A sentence that says that it isn't there.
    pub fn service(&self, name: &str) -> Result<ServiceDescriptor, String> {
        self.pool.get_service_by_name(name).ok_or_else(|| format!("the descriptors have no service `{name}`"))
    }
}

impl Directory {
    pub fn add_upstream(&mut self, name: &str, id: UpstreamId, descriptors: Option<Descriptors>) {
        self.upstreams.insert(name.to_owned(), (id, descriptors));
    }

    /// Says that an upstream serves `package.Service` (a route `grpc:` does).
    pub fn add_service(&mut self, service: &str, upstream: &str) {
        self.services.insert(service.to_owned(), upstream.to_owned());
    }

    pub fn upstream(&self, name: &str) -> Option<UpstreamId> {
        self.upstreams.get(name).map(|(id, _)| *id)
    }

    /// The descriptors of an upstream, if it has any.
    pub fn descriptors(&self, name: &str) -> Option<&Descriptors> {
        self.upstreams.get(name)?.1.as_ref()
    }

    /// The upstream that is called: the one that is named, or the one that serves the service of `package.Service/Method`.
    ///
    /// # Errors
    /// A sentence that says that there is none.
    pub fn called<'a>(&'a self, call: &str, upstream: Option<&'a str>) -> Result<&'a str, String> {
        let (service, _) =
            call.split_once('/').ok_or_else(|| format!("`{call}` is not of the form package.Service/Method"))?;
        upstream
            .or_else(|| self.services.get(service).map(String::as_str))
            .ok_or_else(|| format!("no route serves `{service}`: name the upstream"))
    }

    /// The method `package.Service/Method` and where it is called: at `upstream`, or at the one that serves it.
    ///
    /// # Errors
    /// A sentence that says what isn't there.
    pub fn method(&self, call: &str, upstream: Option<&str>) -> Result<(UpstreamId, MethodDescriptor), String> {
        let upstream = self.called(call, upstream)?;
        let (id, descriptors) =
            self.upstreams.get(upstream).ok_or_else(|| format!("there is no upstream `{upstream}`"))?;
        let descriptors = descriptors.as_ref().ok_or_else(|| format!("upstream `{upstream}` has no descriptors"))?;
        let (service, method) = call.split_once('/').unwrap_or((call, ""));
        let service = descriptors
            .get_service_by_name(service)
            .ok_or_else(|| format!("the descriptors of `{upstream}` have no service `{service}`"))?;
        let found = service.methods().find(|candidate| candidate.name() == method);
        found.map(|found| (*id, found)).ok_or_else(|| format!("`{}` has no method `{method}`", service.full_name()))
    }
}
