//! A strict HTTP/1.1 codec (RFC 9112) for both sides of a proxy.
//!
//! What two implementations could read differently is an error here, never a guess: that is what request smuggling is
//! made of. The parsers are pure: bytes in, a value or an [`Error`] out, the same however the bytes were cut on their way.
//! A message's fields are slices of the buffer it was read into, so that a field costs no allocation. HTTP/2, TLS,
//! compression and CONNECT are not its business.

mod buffer;
pub mod chunked;
pub mod client;
mod date;
pub mod encode;
mod error;
pub mod field;
pub mod length;
pub mod request;
pub mod response;
mod scan;
pub mod server;
pub mod upgrade;

pub use error::Error;
pub use length::Length;
pub use scan::Scanner;
