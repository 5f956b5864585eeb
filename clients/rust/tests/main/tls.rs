//! Within TLS: whose word is taken, and what happens where it isn't.

use std::{net::SocketAddr, sync::Arc};

use client::{Client, Follow, Outgoing, State};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::lab::{Lab, SOON, ids};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What a server of this name shows.
    fn shows(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// What ends TLS in front of the lab's nodes.
struct Terminator {
    url: String,
    shown: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Terminator {
    async fn start(service: SocketAddr, shown: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://localhost:{}", listener.local_addr().unwrap().port());
        let shown = Arc::new(Mutex::new(shown));
        let now = shown.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(now.lock().clone());
                tokio::spawn(async move {
                    let mut inside = acceptor.accept(stream).await.ok()?;
                    let mut service = TcpStream::connect(service).await.ok()?;
                    tokio::io::copy_bidirectional(&mut inside, &mut service).await.ok()
                });
            }
        });
        Self { url, shown }
    }
}

#[tokio::test]
async fn with_an_authority_of_its_own_it_follows_and_publishes_across_a_dead_node() {
    let (lab, authority) = (Lab::start().await, Authority::new());
    let terminator = Terminator::start(lab.proxy.address(), authority.shows("localhost")).await;
    let options = lab.options().authorities(authority.0.pem());
    let client = timeout(SOON, Client::connect(&terminator.url, options)).await.expect("a connection").unwrap();
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    lab.publish("DB/CREATE", 0..5).await;
    assert_eq!(ids(&mut notes, 5).await, [0, 1, 2, 3, 4]);
    lab.kill().await;
    let receipt = client.publish(Outgoing::new("DB", "CREATE").id("5").key("k")).await.unwrap();
    assert_eq!(receipt.confirm, "stored");
    assert_eq!(ids(&mut notes, 1).await, [5]);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_refused_at_once() {
    let (lab, authority) = (Lab::start().await, Authority::new());
    let other = Authority::new();
    for (shown, options, why) in [
        (authority.shows("localhost"), lab.options(), "the system's"),
        (authority.shows("localhost"), lab.options().authorities(other.0.pem()), "another's"),
        (authority.shows("elsewhere"), lab.options().authorities(authority.0.pem()), "another name"),
    ] {
        let terminator = Terminator::start(lab.proxy.address(), shown).await;
        let refused = timeout(SOON, Client::connect(&terminator.url, options)).await.expect("an answer");
        let error = refused.err().unwrap();
        assert_eq!(error.code(), "tls", "{why}: {error}");
        assert!(error.detail().contains("is not believed"), "{why}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_good_and_is_renewed_too_late_is_waited_for() {
    let (lab, authority) = (Lab::start().await, Authority::new());
    let terminator = Terminator::start(lab.proxy.address(), authority.shows("localhost")).await;
    let options = lab.options().authorities(authority.0.pem());
    let client = timeout(SOON, Client::connect(&terminator.url, options)).await.expect("a connection").unwrap();
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    *terminator.shown.lock() = Authority::new().shows("localhost");
    lab.proxy.cut();
    let mut state = client.state();
    let doubted = |state: &State| matches!(state, State::Reconnecting(why) if why.contains("is not believed"));
    timeout(SOON, state.wait_for(doubted)).await.expect("it doubts").unwrap();
    *terminator.shown.lock() = authority.shows("localhost");
    lab.publish("DB/CREATE", 0..3).await;
    assert_eq!(ids(&mut notes, 3).await, [0, 1, 2]);
}
