//! Endpoints by the registry in Redis: the instances that announce themselves. When one is taken for gone is told by the
//! crate `registry`.

use std::sync::Arc;

use parking_lot::Mutex;
use registry::{Follower, Instance, Standing};

use super::{Found, Origin, State};
use crate::upstream;

/// A service of the registry.
pub(crate) struct Registered {
    /// As it stands in the configuration.
    pub text: String,
    follower: Follower,
    pub(super) state: Mutex<State>,
}

impl Registered {
    pub fn new(upstream: &str, text: &str, follower: Follower) -> Self {
        Self { text: text.to_owned(), follower, state: State::new(upstream, text) }
    }

    pub async fn follow(&self, upstream: &upstream::Shared) {
        self.follower
            .run(|standing| {
                self.take(standing);
                upstream.renew();
            })
            .await;
    }

    fn take(&self, standing: Standing) {
        let mut state = self.state.lock();
        state.found = standing.instances.into_iter().map(|instance| self.endpoint(instance)).collect();
        state.at = standing.read_at;
        state.fails(standing.error);
    }

    fn endpoint(&self, instance: Instance) -> Found {
        let source = Some(Arc::from(self.text.as_str()));
        let origin = Origin { source, priority: 0, weight: instance.weight.max(1), metadata: instance.metadata };
        Found { address: instance.address, host: None, origin }
    }
}
