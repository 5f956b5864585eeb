//! What the gateway offers, as one OpenAPI 3.1 document (<https://spec.openapis.org/oas/v3.1.1>): made from a snapshot, so
//! that it says what is so, and the same for the same snapshot.
//!
//! config.rs   what the configuration says of it     document.rs   all operations together
//! offer.rs    what an action says of itself: `transcoded`, `aggregated`, `signing_in`, `opaque`; `fragment` is what a
//!             service that is passed through says
//! operation.rs  what a route asks for beside: `security`, `limits`, `failure`
//! schema.rs   JSON Schemas of messages, with their `comments`; `example` makes examples of them
//!
//! It promises that every route that is not hidden is in it, and nothing else; it does not promise that what is passed
//! through is as its service says.

mod aggregated;
mod comments;
mod components;
pub mod config;
mod document;
mod example;
mod failure;
mod fragment;
mod limits;
mod node;
mod offer;
mod opaque;
mod operation;
mod path;
mod schema;
mod security;
mod signing_in;
mod transcoded;
mod well_known;

pub use aggregated::Part;
pub use config::{Describe, Section};
pub use document::{Fault, document};
pub use fragment::Fragment;
pub use node::Node;

use crate::{action::transcode::ResponseConfig, descriptors::Binding};

/// What a route is to whoever reads of it.
pub struct Described {
    pub subject: Subject,
    pub describe: Describe,
    /// Where that stands in the file.
    pub path: String,
    /// Routes stand in the order of the file.
    pub place: usize,
}

/// What a route does, as far as callers see it.
pub enum Subject {
    Transcoded {
        binding: Box<Binding>,
        response: Option<ResponseConfig>,
    },
    Aggregated(Vec<Part>),
    Proxied {
        upstreams: Vec<String>,
        inside: Inside,
    },
    Fixed {
        status: u16,
        media_type: Option<String>,
        body: String,
    },
    Redirected {
        status: u16,
        to: String,
    },
    Session,
    /// The document itself.
    Itself,
}

/// A path as the service sees it that a proxy passes requests to.
pub enum Inside {
    Same,
    /// The first of these in the place of the second.
    Prefix {
        inside: String,
        outside: String,
    },
    Another,
}

impl Described {
    pub fn new(path: &str, place: usize, describe: &Describe, subject: Subject) -> Self {
        Self { subject, describe: describe.clone(), path: path.to_owned(), place }
    }

    pub fn is_hidden(&self) -> bool {
        self.describe.hidden || matches!(self.subject, Subject::Itself)
    }
}
