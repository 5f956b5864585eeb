//! What is asked about names, whoever answers.

use std::{io, net::IpAddr, time::Duration};

use futures_util::future::BoxFuture;

/// Who knows where names are.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a host: its A and AAAA records.
    ///
    /// # Errors
    /// If they can't be found out now. That there are none is an answer.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Answer<IpAddr>>>;

    /// The targets of a service: its SRV records.
    ///
    /// # Errors
    /// If they can't be found out now. That there are none is an answer.
    fn targets<'a>(&'a self, service: &'a str) -> BoxFuture<'a, io::Result<Answer<Target>>>;
}

/// What a name is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    pub found: Vec<T>,
    /// How long it holds; taken for 1 s to 5 min.
    pub hold: Duration,
    /// Why there may be more than was found, if there may.
    pub incomplete: Option<String>,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// Those with the lowest are asked first.
    pub priority: u16,
    pub weight: u16,
}

impl<T> Answer<T> {
    pub fn new(found: Vec<T>, hold: Duration) -> Self {
        Self { found, hold, incomplete: None }
    }
}
