//! What one core has for itself: its clients of every upstream, with their own connections.

use std::sync::Arc;

use http::HeaderMap;
use upstream::Client;

use crate::{action::split::Sticky, cache::Store, context::RequestContext};

/// An upstream by its place in the configuration snapshot; cheaper than its name on every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamId(pub usize);

/// One core's share of a configuration snapshot.
#[derive(Clone, Default)]
pub struct Worker {
    pub clients: Vec<Client>,
    /// What each upstream knows a request by, where its endpoint is chosen by that.
    pub keys: Arc<[Option<Sticky>]>,
    /// What is kept of answers, where an action keeps any: no core's own, but shared by all.
    pub cache: Option<Arc<Store>>,
}

impl Worker {
    /// The client of an upstream of the same snapshot.
    pub fn client(&self, id: UpstreamId) -> &Client {
        &self.clients[id.0]
    }

    /// What the endpoint of a request is chosen by, for [`upstream::Options::hash`]; None where that is not by the caller.
    pub fn key(&self, id: UpstreamId, headers: &HeaderMap, context: &RequestContext) -> Option<u64> {
        self.keys.get(id.0)?.as_ref()?.of(headers, context)
    }
}
