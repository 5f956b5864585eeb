//! The properties, tried with random schemas. An ordinary run tries a good thousand of each, always the same; with a budget it goes
//! on: `TURNPIKE_FUZZ=600s cargo test -p protojson --test main differential -- --nocapture --test-threads 1`.

use std::time::{Duration, Instant};

use super::{
    fields,
    properties::{self, Count},
};

const CASES: u64 = 1_200;

/// The share of what was tried that the tables must have done themselves, so that what is compared is not nothing.
fn run(name: &str, share: f64, property: fn(&[u8], &mut Count)) {
    let budget = std::env::var("TURNPIKE_FUZZ")
        .ok()
        .map(|text| Duration::from_secs(text.trim_end_matches('s').parse().unwrap()));
    // With a budget another beginning each time.
    let start = budget.map_or(0, |_| u64::from(std::process::id()) << 32);
    let begun = Instant::now();
    let mut count = Count::default();
    for case in 0.. {
        match budget {
            None if case == CASES => break,
            Some(budget) if begun.elapsed() >= budget => break,
            _ => {}
        }
        let seed = start + case;
        let outcome = std::panic::catch_unwind(|| {
            let mut one = Count::default();
            property(&bytes(seed, 3000), &mut one);
            one
        });
        let one = outcome.unwrap_or_else(|_| panic!("{name} fails for seed {seed}"));
        count.tried += one.tried;
        count.by_tables += one.by_tables;
        count.refused += one.refused;
    }
    println!("{name}: {count:?} in {:?}", begun.elapsed());
    assert!(count.by_tables as f64 >= share * (count.tried - count.refused) as f64, "{name}: {count:?}");
}

/// As many bytes as one likes, the same for the same seed.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    bytes
}

#[test]
fn what_encoders_write_is_shown_alike() {
    run("written", 0.99, properties::is_written_alike);
}

#[test]
fn damaged_bytes_are_shown_alike_or_refused() {
    run("written, damaged", 0.1, properties::is_written_alike_or_refused);
}

#[test]
fn a_message_is_read_alike_in_all_its_spellings() {
    run("read", 0.99, properties::is_read_alike);
}

#[test]
fn damaged_texts_are_read_alike_or_refused() {
    run("read, damaged", 0.5, properties::is_read_alike_or_refused);
}

#[test]
fn a_field_is_found_set_and_shown_alike() {
    run("fields", 0.0, fields::is_addressed_alike);
}
