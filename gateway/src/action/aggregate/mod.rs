//! Several calls, one JSON answer that says honestly which of them failed.
//!
//! config.rs  as it is written                  text.rs      `{parts.a.b}` in texts, checked when they load
//! part.rs    one part                          rpc.rs       asked by gRPC
//! each.rs    asked for each of a list          exchange.rs  asked by HTTP (body.rs: what is posted)
//! run.rs     who is asked when                 answer.rs    putting it together, `_meta` (json.rs: looking into JSON)
//! kept.rs    answers that are kept for a while
//!
//! The answer nests by part, in the order of the configuration, whatever comes first: `{"product": {…}, "reviews": […],
//! "_meta": {"parts": {…}}}`. A required part that fails is the answer's failure; another leaves its fallback, or null,
//! and a word in `_meta.parts`, where every part stands. A partial answer is a 200 that nobody may store. A part that needs
//! another's answer is asked after it. What a gRPC call answers goes from the wire into the answer at once, unless another
//! part needs it.

mod answer;
mod body;
mod config;
mod each;
mod exchange;
mod failure;
mod json;
mod kept;
mod order;
mod part;
mod rpc;
mod run;
mod text;

pub use config::{BatchConfig, CacheConfig, Config, PartConfig};

use std::sync::atomic::AtomicUsize;

use answer::Frame;
use http::{Request, Response};
use part::{Part, Target};
use rpc::Parameters;
use run::Running;
use text::Scope;
use upstream::{Body, Options};

use super::{ConfigError, metadata::Forward, query, transcode::FORWARD_HEADERS};
use crate::{
    context::RequestContext,
    descriptors::Directory,
    error::{Error, ErrorKind, Violation},
    worker::{UpstreamId, Worker},
};

/// The most parts of an answer.
const MAX_PARTS: usize = 16;
/// What the answer says of itself.
const META: &str = "_meta";
/// The most bytes that the parts may have together, as they come and as they go.
const ROOM: usize = 16 << 20;

pub struct Aggregate {
    parts: Vec<Part>,
    /// None before one that it needs.
    order: Vec<usize>,
    frame: Frame,
    forward: Forward,
}

/// A part, for operators.
pub struct Described<'a> {
    pub name: &'a str,
    /// `shop.product.v1.ProductService/GetProduct`, `GET /reviews?of={id}`
    pub asks: String,
    pub upstream: UpstreamId,
    /// Those that are asked before.
    pub after: Vec<&'a str>,
    /// `required, 300ms`
    pub how: String,
}

impl Aggregate {
    /// `variables` are those of the route's path template, `rests` those of them that may be several segments. Error paths start with the part's index: `[1].call`.
    ///
    /// # Errors
    /// Too many parts, a part named twice, a method, upstream, field, part or variable that isn't there, streaming, members
    /// of one name, parts that wait for each other.
    pub fn new(
        config: &[PartConfig],
        variables: &[&str],
        rests: &[&str],
        directory: &Directory,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if config.is_empty() || config.len() > MAX_PARTS {
            errors.push(ConfigError::new("", format!("must have 1 to {MAX_PARTS} parts")));
            return Err(errors);
        }
        let within = |index: usize| {
            move |error: ConfigError| {
                let separator = if error.path.is_empty() { "" } else { "." };
                ConfigError { path: format!("[{index}]{separator}{}", error.path), ..error }
            }
        };
        for (index, part) in config.iter().enumerate() {
            let mut wrong = |message: String| errors.push(ConfigError::new(format!("[{index}].part"), message));
            if part.part.is_empty() || part.part == META {
                wrong(format!("must be a name other than {META}"));
            }
            if config[..index].iter().any(|earlier| earlier.part == part.part) {
                wrong(format!("there is a part `{}` already", part.part));
            }
        }
        let targets: Vec<_> = config.iter().map(|part| Target::new(part, directory)).collect();
        // Of one whose method isn't known anything may be named, so that no fault is told twice.
        let shape = |(part, target): (&PartConfig, &Result<Target, _>)| match (&part.for_each, target) {
            (None, Ok(target)) => Some(target.shape()),
            (None, Err(_)) => Some(text::Shape::Unknown),
            (Some(_), _) => None,
        };
        let known: Vec<_> = config.iter().zip(&targets).map(|both| (both.0.part.as_str(), shape(both))).collect();
        let mut parts = Vec::new();
        for (index, (part, target)) in config.iter().zip(targets).enumerate() {
            let mut scope = Scope { variables, rests, parts: &known, item: None };
            match target.map_err(|error| vec![error]).and_then(|target| Part::new(part, target, &mut scope)) {
                Ok(part) => parts.push(part),
                Err(found) => errors.extend(found.into_iter().map(within(index))),
            }
        }
        let forward = Forward::new(&FORWARD_HEADERS).map_err(|found| errors.extend(found)).ok();
        let (Some(forward), true) = (forward, errors.is_empty()) else { return Err(errors) };
        let order = order::of(&mut parts).map_err(|error| vec![error])?;
        let taken = order::collisions(&parts);
        if taken.is_empty() { Ok(Self { frame: Frame::new(&parts), parts, order, forward }) } else { Err(taken) }
    }

    /// Whom its parts ask, in their order.
    pub fn upstreams(&self) -> impl Iterator<Item = UpstreamId> {
        self.parts.iter().map(|part| part.upstream)
    }

    /// Its parts, in the order in which they are asked.
    pub fn describe(&self) -> Vec<Described<'_>> {
        self.order.iter().map(|&at| order::describe(&self.parts, at)).collect()
    }

    pub async fn call(
        &self,
        worker: &Worker,
        request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let (head, _) = request.into_parts();
        // What of it may be asked twice, each part says for itself.
        let safe = head.method.is_safe();
        let options = Options { deadline: Some(context.deadline), idempotent: safe, safe, ..Options::default() };
        let mut violations = Vec::new();
        let parameters = self.parameters(head.uri.query().unwrap_or_default(), &mut violations);
        let drafts = self.drafts(&parameters, context, violations)?;
        let room = AtomicUsize::new(ROOM);
        let (headers, forward) = (&head.headers, &self.forward);
        let running = Running { worker, headers, context, forward, options, room: &room };
        let outcomes = run::run(&self.parts, &self.order, drafts, &parameters, running).await?;
        self.frame.answer(&self.parts, outcomes, context)
    }

    /// The parameters of the query; one that no part knows is a violation.
    fn parameters<'a>(&self, query: &'a str, violations: &mut Vec<Violation>) -> Vec<rpc::Pair<'a>> {
        let mut parameters = Vec::new();
        for pair in query::pairs(query) {
            match pair {
                Ok((name, value)) if self.parts.iter().any(|part| part.takes(&name)) => parameters.push((name, value)),
                Ok((name, _)) => violations
                    .push(Violation { field: name.into_owned(), reason: "is not a known parameter".to_owned() }),
                Err(violation) => violations.push(violation),
            }
        }
        parameters
    }

    /// What the request says of each part: the beginning of its message.
    fn drafts(
        &self,
        parameters: &Parameters<'_>,
        context: &RequestContext,
        mut violations: Vec<Violation>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut drafts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part.begin(parameters, context) {
                Ok(draft) => drafts.push(draft),
                Err(found) => violations.extend(found),
            }
        }
        // One bad variable is bad for every part that takes it.
        violations.dedup();
        if violations.is_empty() {
            Ok(drafts)
        } else {
            Err(Error::new(ErrorKind::Invalid, "the request is not valid").violations(violations))
        }
    }
}
