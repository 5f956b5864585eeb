//! What one core has for itself: its clients of every upstream, with their own connections.

use upstream::Client;

/// An upstream by its place in the configuration snapshot; cheaper than its name on every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamId(pub usize);

/// One core's share of a configuration snapshot.
#[derive(Clone)]
pub struct Worker {
    pub clients: Vec<Client>,
}

impl Worker {
    /// The client of an upstream of the same snapshot.
    pub fn client(&self, id: UpstreamId) -> &Client {
        &self.clients[id.0]
    }
}
