//! A port for a server that a test starts and that can't be told to take any.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
};

/// Below what Linux hands out by itself, so that no connection of another test takes it meanwhile.
const RANGE: std::ops::Range<u64> = 10_000..32_000;

/// A port of 127.0.0.1 that is free now.
///
/// # Panics
/// If none is found.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let random = RandomState::new().build_hasher().finish();
        let port = u16::try_from(RANGE.start + random % (RANGE.end - RANGE.start)).expect("below 65,536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port of 127.0.0.1 in {RANGE:?}");
}
