//! The envelope against its golden files, its limits, and its own output; names and filters.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod filter;
mod golden;
mod limit;
mod name;
mod round_trip;

use events::{Envelope, Name};

fn envelope() -> Envelope {
    Envelope::new("/services/product", Name::new("DB").unwrap(), Name::new("CREATE").unwrap())
}
