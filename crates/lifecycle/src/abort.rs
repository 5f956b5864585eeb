//! Named places at which a test has the process die, as if by kill -9, to prove that nothing is lost there.

use std::sync::LazyLock;

static ABORT_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("TURNPIKE_ABORT_AT").ok());

/// Aborts the process if the environment's `TURNPIKE_ABORT_AT` names this point. Costs a comparison otherwise.
pub fn abort_point(name: &str) {
    if ABORT_AT.as_deref() == Some(name) {
        eprintln!("aborting at {name}, as TURNPIKE_ABORT_AT asks");
        std::process::abort();
    }
}
