//! Who a client is, by address: networks (`networks`), who may call (`lists`), and what proxies that are trusted say of
//! those they speak for (`proxies`).

mod forwarded;
mod lists;
mod networks;
mod proxies;

pub use lists::Lists;
pub use networks::Networks;
pub use proxies::{Proxies, Said};
