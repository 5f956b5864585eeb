//! Who may connect: nobody from an address that is denied, and of each address only so many at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::{limit::network, snapshot::Edge};

/// Connections of one client address: IPv6 by the network, which one client has all of.
const NETWORK: u8 = 64;
/// What an address may have unless the configuration says so; but one's own machine may have as many as it likes.
const DEFAULT: usize = 100;

/// The connections of each address. There are never more addresses than connections, which have a bound.
#[derive(Default)]
pub struct Admission(Mutex<HashMap<u128, usize>>);

/// A connection that counts, for as long as this lives.
pub struct Seat {
    admission: Weak<Admission>,
    address: u128,
}

impl Admission {
    /// A seat, or none where the address doesn't count.
    ///
    /// # Errors
    /// Why it may not connect, as the metric calls it.
    pub fn admit(self: &Arc<Self>, client: IpAddr, edge: &Edge) -> Result<Option<Seat>, &'static str> {
        // Who is merely not allowed gets an answer: the lists are asked again for each request.
        if edge.addresses.as_ref().is_some_and(|lists| lists.deny.contains(client)) {
            return Err("denied");
        }
        let most = match edge.limits.connections_per_address {
            Some(most) => most,
            None if client.to_canonical().is_loopback() => 0,
            None => DEFAULT,
        };
        // A proxy speaks for many.
        if most == 0 || edge.proxies.networks.contains(client) {
            return Ok(None);
        }
        let address = network(client, NETWORK);
        let mut open = self.0.lock();
        let count = open.entry(address).or_insert(0);
        if *count >= most {
            return Err("address");
        }
        *count += 1;
        Ok(Some(Seat { admission: Arc::downgrade(self), address }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(admission) = self.admission.upgrade() else { return };
        let mut open = admission.0.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}
