//! Where the figures come from. Tests put in their own.

use std::{fmt, sync::Arc, time::Duration};

use load::memory;

/// How much memory the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Auto,
    Bytes(u64),
    Off,
}

/// What is used of what there is, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub used: u64,
    pub limit: u64,
    /// Who says so.
    pub limit_from: &'static str,
}

impl Memory {
    pub fn share(&self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }
}

/// The system's own figures, unless others are given.
#[derive(Clone, Default)]
pub struct Gauges {
    memory: Option<Arc<dyn Fn() -> (u64, u64) + Send + Sync>>,
    pub(super) delay: Option<Arc<dyn Fn(usize) -> Duration + Send + Sync>>,
}

impl Gauges {
    /// Bytes used, and bytes there are.
    #[must_use]
    pub fn of_memory(self, gauge: impl Fn() -> (u64, u64) + Send + Sync + 'static) -> Self {
        Self { memory: Some(Arc::new(gauge)), ..self }
    }

    /// How late a core is, by its number.
    #[must_use]
    pub fn of_delay(self, gauge: impl Fn(usize) -> Duration + Send + Sync + 'static) -> Self {
        Self { delay: Some(Arc::new(gauge)), ..self }
    }

    /// None where memory is not watched.
    pub(super) fn memory(&self, limit: Limit) -> Option<Memory> {
        if let Some(gauge) = &self.memory {
            let (used, limit) = gauge();
            return Some(Memory { used, limit, limit_from: "gauge" });
        }
        let (limit, limit_from) = match limit {
            Limit::Off => return None,
            Limit::Bytes(bytes) => (bytes, "configuration"),
            Limit::Auto => (memory::limit()?, "cgroup"),
        };
        Some(Memory { used: memory::used()?, limit, limit_from })
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").field("memory", &self.memory.is_some()).field("delay", &self.delay.is_some()).finish()
    }
}
