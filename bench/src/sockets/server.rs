//! The processes that sockets lead to: a broker as it is shipped, and a loop that only writes.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use lifecycle::{Role as _, Shutdown, raise_open_files};
use principal::{Issuer, Keys, RootSecret, Signer};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

use super::SECRET;

/// Who signs the principals of this bench.
pub(super) const ISSUER: &str = "gateway";
/// What a connection to the bare loop says first: that it waits to be told, or that it is time to tell.
pub(super) const WAITS: u8 = b'w';
pub(super) const TELLS: u8 = b't';

#[derive(clap::Args)]
pub struct Broker {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    redis: String,
}

#[derive(clap::Args)]
pub struct Bare {
    #[arg(long)]
    port: u16,
    /// Of the text in the frame that everybody gets.
    #[arg(long)]
    bytes: usize,
}

/// A node of two that share a Redis.
pub fn broker(arguments: &Broker) -> anyhow::Result<()> {
    raise_open_files()?;
    let secret = std::env::var(SECRET).context("the secret is missing")?;
    let root = RootSecret::decode(&secret)?;
    let signer = Signer::new(ISSUER, &root);
    let issuer = Issuer { name: ISSUER.to_owned(), keys: Keys::Inline(signer.jwks()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let config = broker::Config {
            listen: address(arguments.port),
            bus: bus::redis::open(&arguments.redis).await?,
            issuers: vec![issuer],
            root: Some(root),
            database: None,
            settings: broker::Settings::default(),
        };
        Box::new(broker::build(config).await?).run(Shutdown::new()).await
    })
}

/// Writes one frame to every socket that waits, as often as it is told to.
pub fn bare(arguments: &Bare) -> anyhow::Result<()> {
    raise_open_files()?;
    let frame = frame(&vec![b'x'; arguments.bytes]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address(arguments.port)).await?;
        let mut waiting: Vec<TcpStream> = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await?;
            match socket.read_u8().await {
                Ok(WAITS) => {
                    socket.set_nodelay(true)?;
                    waiting.push(socket);
                }
                Ok(TELLS) => {
                    for socket in &waiting {
                        anyhow::ensure!(socket.try_write(&frame)? == frame.len(), "a socket took half a frame");
                    }
                }
                // Somebody who only looks whether it listens.
                _ => {}
            }
        }
    })
}

/// A text frame of a server (RFC 6455, section 5.2).
fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(short @ 0..=125) => frame.push(short as u8),
        Ok(long) => {
            frame.push(126);
            frame.extend(long.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend(text);
    frame
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
