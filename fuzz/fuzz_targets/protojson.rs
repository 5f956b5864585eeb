//! Any schema and any message, sound or damaged, made of the input's choices: what the tables take means the same on the
//! dynamic path, which takes it too.
#![no_main]

#[path = "../../protojson/tests/main/dice.rs"]
mod dice;
#[path = "../../protojson/tests/main/properties.rs"]
mod properties;
#[path = "../../protojson/tests/main/schemas.rs"]
mod schemas;
#[path = "../../protojson/tests/main/spelling.rs"]
mod spelling;

use libfuzzer_sys::fuzz_target;
use properties::Count;

const PROPERTIES: [fn(&[u8], &mut Count); 4] = [
    properties::is_read_alike,
    properties::is_read_alike_or_refused,
    properties::is_written_alike,
    properties::is_written_alike_or_refused,
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, choices)) = data.split_first() else { return };
    PROPERTIES[usize::from(*choice) % PROPERTIES.len()](choices, &mut Count::default());
});
