//! Fan-out.

use bus::Bus;

#[derive(Clone)]
pub(crate) struct Hub {
    bus: Bus,
}

impl Hub {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus }
    }
}
