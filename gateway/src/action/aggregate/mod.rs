//! Several gRPC calls in parallel, one JSON answer that says honestly which of them failed.
//!
//! The answer nests by part, in the order of the configuration: `{"product": {…}, "reviews": […], "_meta": {"parts":
//! {…}}}`. A required part that fails is the answer's failure; another leaves its fallback, or null, and a word in
//! `_meta.parts`, where every part stands. A partial answer is a 200 that nobody may store.

mod answer;
mod part;

use std::{collections::BTreeMap, time::Duration};

use answer::{Outcome, answer};
use futures_util::future::try_join_all;
use http::{Request, Response};
use part::Part;
use schemars::JsonSchema;
use serde::Deserialize;
use upstream::{Body, Options};

use super::{ConfigError, duration, metadata::Forward, query, transcode::FORWARD_HEADERS};
use crate::{
    context::RequestContext,
    descriptors::Directory,
    error::{Error, ErrorKind, Violation},
    worker::{UpstreamId, Worker},
};

/// `aggregate: [ { part, call, … }, … ]`, 1 to 16 parts.
pub type Config = Vec<PartConfig>;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Part")]
pub struct PartConfig {
    /// The part's member in the answer; `_meta` is taken.
    pub part: String,
    /// `package.Service/Method`, unary.
    pub call: String,
    /// Where it is called; default: the upstream of the route that serves the service (`grpc: package.Service`).
    #[serde(default)]
    pub upstream: Option<String>,
    /// Request fields by name: `"{id}"` is a variable of the route, `"{query.page}"` a query parameter, anything else
    /// the field's value in JSON. Default: the variables and query parameters whose names are fields.
    #[serde(default)]
    pub request: Option<BTreeMap<String, serde_json::Value>>,
    /// Its failure is the answer's failure. Default false: the part is its fallback, or null.
    #[serde(default)]
    pub required: bool,
    /// Only this field of the response.
    #[serde(default)]
    pub pick: Option<String>,
    /// Default 2 s; never beyond the request's deadline.
    #[serde(default, deserialize_with = "duration::option")]
    pub timeout: Option<Duration>,
    /// What stands in for the part when it fails.
    #[serde(default)]
    pub fallback: Option<serde_json::Value>,
}

/// The most parts of an answer, all of them in flight at once.
const MAX_PARTS: usize = 16;
/// What the answer says of itself.
const META: &str = "_meta";

pub struct Aggregate {
    parts: Vec<Part>,
    forward: Forward,
}

impl Aggregate {
    /// `variables` are those of the route's path template. Error paths start with the part's index: `[1].call`.
    ///
    /// # Errors
    /// Too many parts, a part named twice, a method, upstream, field or variable that isn't there, streaming.
    pub fn new(config: &[PartConfig], variables: &[&str], directory: &Directory) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if config.is_empty() || config.len() > MAX_PARTS {
            errors.push(ConfigError::new("", format!("must have 1 to {MAX_PARTS} parts")));
        }
        let mut parts = Vec::new();
        for (index, part) in config.iter().enumerate() {
            let name = || format!("[{index}].part");
            if part.part.is_empty() || part.part == META {
                errors.push(ConfigError::new(name(), format!("must be a name other than {META}")));
            }
            if config[..index].iter().any(|earlier| earlier.part == part.part) {
                errors.push(ConfigError::new(name(), format!("there is a part `{}` already", part.part)));
            }
            match Part::new(part, variables, directory) {
                Ok(part) => parts.push(part),
                Err(found) => errors.extend(
                    found.into_iter().map(|error| ConfigError { path: format!("[{index}].{}", error.path), ..error }),
                ),
            }
        }
        let forward = Forward::new(&FORWARD_HEADERS).map_err(|found| errors.extend(found)).ok();
        match forward {
            Some(forward) if errors.is_empty() => Ok(Self { parts, forward }),
            _ => Err(errors),
        }
    }

    /// Whom its parts ask, in their order.
    pub fn upstreams(&self) -> impl Iterator<Item = UpstreamId> {
        self.parts.iter().map(|part| part.upstream)
    }

    pub async fn call(
        &self,
        worker: &Worker,
        request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let (head, _) = request.into_parts();
        let options = Options { deadline: Some(context.deadline), idempotent: head.method.is_safe(), ..Options::default() };
        let requests = self.requests(head.uri.query().unwrap_or_default(), context)?;
        let calls = self.parts.iter().zip(requests).map(|(part, message)| {
            let metadata = self.forward.metadata(&head.headers, context);
            async move {
                match part.call(worker, metadata, message, options).await {
                    // Nothing else is worth waiting for.
                    Err(error) if part.required => Err(error.error),
                    Err(error) => Ok(Outcome::Failed(error)),
                    Ok(json) => Ok(Outcome::Answered(json)),
                }
            }
        });
        let outcomes = try_join_all(calls).await?;
        answer(&self.parts, &outcomes)
    }

    /// The encoded request of each part.
    fn requests(&self, query: &str, context: &RequestContext) -> Result<Vec<bytes::Bytes>, Error> {
        let mut violations = Vec::new();
        let mut parameters = Vec::new();
        for pair in query::pairs(query) {
            match pair {
                Ok((name, value)) if self.parts.iter().any(|part| part.takes(&name)) => parameters.push((name, value)),
                Ok((name, _)) => violations
                    .push(Violation { field: name.into_owned(), reason: "is not a known parameter".to_owned() }),
                Err(violation) => violations.push(violation),
            }
        }
        let mut requests = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part.request(&parameters, context) {
                Ok(request) => requests.push(request),
                Err(found) => violations.extend(found),
            }
        }
        // One bad variable is bad for every part that takes it.
        violations.dedup();
        if violations.is_empty() {
            Ok(requests)
        } else {
            Err(Error::new(ErrorKind::Invalid, "the request is not valid").violations(violations))
        }
    }
}
