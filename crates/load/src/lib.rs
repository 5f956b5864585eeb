//! How much a process has to bear, as the kernel and the clock tell it: memory against its limit, how late it comes to what it has
//! to do, file descriptors. What is done about it is for whoever asks.

mod delay;
pub mod descriptors;
pub mod memory;

pub use delay::Delays;
