//! A port for a server that a test starts and that can't be told to take any.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
    sync::Mutex,
};

/// Below what Linux hands out by itself, so that no connection of another test takes it meanwhile.
const RANGE: std::ops::Range<u16> = 10_000..32_000;
const BLOCK: u16 = 50;

/// Ports that are this process's: tests that run at the same time have others.
struct Block {
    /// Holds the first port of the block, which marks it as taken.
    _guard: TcpListener,
    next: u16,
    end: u16,
}

static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that is free now, and that no other test is given while this process lives.
///
/// # Panics
/// If none is found.
pub fn free_port() -> u16 {
    let mut blocks = BLOCKS.lock().expect("no test panics in here");
    for _ in 0..1_000 {
        match blocks.last_mut() {
            Some(block) if block.next < block.end => {
                block.next += 1;
                let port = block.next - 1;
                if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                    return port;
                }
            }
            _ => blocks.extend(claim()),
        }
    }
    panic!("no free port of 127.0.0.1 in {RANGE:?}");
}

fn claim() -> Option<Block> {
    let blocks = u64::from((RANGE.end - RANGE.start) / BLOCK);
    let random = RandomState::new().build_hasher().finish() % blocks;
    let first = RANGE.start + u16::try_from(random).ok()? * BLOCK;
    let guard = TcpListener::bind(("127.0.0.1", first)).ok()?;
    Some(Block { _guard: guard, next: first + 1, end: first + BLOCK })
}
