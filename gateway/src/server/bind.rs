//! Binding an address once for each core.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicUsize},
};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel holds until a core accepts them.
const BACKLOG: i32 = 1024;
/// Bytes that the kernel holds of an answer beyond what is on its way. Without a bound it takes megabytes at once and nothing
/// more until a third of them has been read: a client that reads steadily, but not fast, would seem to stand still.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 << 10;

/// A listener of the configuration, bound: a socket for each core, all on one port.
pub struct Bound {
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
    /// Connections that are open on it.
    pub open: Arc<AtomicUsize>,
}

/// Binds an address. Port 0 takes a free one, the same for every core.
///
/// # Errors
/// If the port is taken. SO_REUSEPORT would share it with another gateway in silence, so it is asked for without first.
pub fn bind(address: SocketAddr, cores: usize) -> anyhow::Result<Bound> {
    if address.port() != 0 {
        TcpListener::bind(address).with_context(|| format!("{address} can't be had: is another process on it?"))?;
    }
    let mut address = address;
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = shared_socket(address).with_context(|| format!("{address} can't be listened on"))?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(Bound { address, sockets, open: Arc::default() })
}

fn shared_socket(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit it.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_even_if_it_could_be_shared() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        assert!(first.sockets.iter().all(|socket| socket.local_addr().unwrap() == first.address));
        let error = bind(first.address, 1).err().unwrap().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(first);
    }
}
