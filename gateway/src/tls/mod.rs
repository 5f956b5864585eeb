//! TLS towards clients, by rustls: which certificate a name gets, who a client shows to be, and what is kept of sessions.
//!
//! A listener with `tls:` has a [`Terminator`], made with each snapshot and taken over from the last one where its files
//! are as they were. Connections keep the one they began with. There is no early data (0-RTT): it can be replayed.

mod client;
mod described;
mod handshake;
mod resolver;
mod terminator;

pub use client::ClientCertificate;
pub use described::Described;
pub use handshake::{Handshakes, Secured, accept};
pub use terminator::Terminator;

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of a file's content: that it has changed can be told without keeping a private key.
type Digest = [u8; 32];

fn sha256(content: &[u8]) -> Digest {
    let mut own = Digest::default();
    own.copy_from_slice(digest(&SHA256, content).as_ref());
    own
}

/// A file that was read, as it was then.
type Seen = (PathBuf, Digest);
