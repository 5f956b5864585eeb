use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Whether a role should get traffic. Clones speak of the same role; it starts not ready, with the reason `starting`.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(BTreeMap::from([("role", "starting".to_owned())]))))
    }
}

impl Readiness {
    /// Removes the reason `part` had not to be ready. A role calls `ready("role")` once it serves.
    pub fn ready(&self, part: &'static str) {
        self.0.lock().remove(part);
    }

    /// Says why `part` is not ready.
    pub fn not_ready(&self, part: &'static str, reason: impl Into<String>) {
        self.0.lock().insert(part, reason.into());
    }

    pub fn is_ready(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// What is not ready, and why.
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.0.lock().clone()
    }
}
