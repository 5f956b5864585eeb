//! Services within TLS: whose word is taken, and what an operator reads where it isn't.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use testkit::{Fault, FaultProxy, Way};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use upstream::{Body, Config, Health, Identity, Options, Protocol, Tls, Upstream};

use crate::service::{SAFE, Service, UNSAFE, config, get, grpc, hello, post, text, until};

const HTTP1: &[&str] = &["http/1.1"];
const HTTP2: &[&str] = &["h2"];

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into()
    }

    fn sign(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem().into(), key: key.serialize_pem().into() }
    }

    /// A service with a certificate for this name; `asks`: of whose clients it takes calls.
    fn server(&self, name: &str, alpn: &[&str], asks: Option<&Self>) -> ServerConfig {
        serving(&self.sign(name, |_| {}), alpn, asks)
    }

    /// What believes this authority.
    fn believed(&self) -> Tls {
        Tls { authorities: Some(self.pem()), ..Tls::default() }
    }
}

fn serving(identity: &Identity, alpn: &[&str], asks: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = CertificateDer::pem_slice_iter(&identity.certificate).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&identity.key).unwrap();
    let mut server = builder.with_single_cert(chain, key).unwrap();
    server.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    server
}

fn upstream(protocol: Protocol, service: &Service, tls: Tls) -> Upstream {
    let endpoint = format!("localhost:{}", service.address.port());
    Upstream::new(Config { endpoints: vec![endpoint], tls: Some(tls), ..config(protocol, &[]) }).unwrap()
}

/// What becomes of a request that may not be sent in clear text.
async fn refusal(protocol: Protocol, service: &Service, tls: Tls) -> String {
    let upstream = upstream(protocol, service, tls);
    let error = upstream.client().send(post("/", "order"), UNSAFE).await.unwrap_err();
    assert_eq!(service.requests(), 0);
    let detail = error.detail.replace(&format!("localhost:{}", service.address.port()), "it");
    assert!(upstream.endpoints()[0].reason.starts_with("no TLS with") || detail.starts_with("the connection"));
    detail
}

async fn told(request: Request<Incoming>) -> Response<Body> {
    Response::new(Body::from(request.uri().to_string()))
}

#[tokio::test]
async fn http1_and_http2_and_grpc_are_called_within_tls() {
    let authority = Authority::new("authority");
    let http1 = Service::secured(authority.server("localhost", HTTP1, None), told).await;
    let client = upstream(Protocol::Http1, &http1, authority.believed()).client();
    for _ in 0..3 {
        assert_eq!(text(client.send(get("/a"), SAFE).await.unwrap()).await, "/a");
    }
    assert_eq!(http1.connections(), 1);

    let http2 = Service::secured(authority.server("localhost", HTTP2, None), told).await;
    let client = upstream(Protocol::Http2, &http2, authority.believed()).client();
    assert_eq!(text(client.send(get("/a"), SAFE).await.unwrap()).await, "https://shop.example/a");

    let answer = |_| async { grpc(&[b"answer"], &[("grpc-status", "0")]) };
    let service = Service::secured(authority.server("localhost", HTTP2, None), answer).await;
    let client = upstream(Protocol::Grpc, &service, authority.believed()).client();
    let reply = client.unary("/a.B/C", HeaderMap::new(), Default::default(), UNSAFE).await.unwrap();
    assert_eq!(&reply.message[..], b"answer");
}

#[tokio::test]
async fn checks_go_within_tls_too() {
    let authority = Authority::new("authority");
    let service = Service::secured(authority.server("localhost", HTTP1, None), hello).await;
    let mut config = Config { tls: Some(authority.believed()), ..config(Protocol::Http1, &[]) };
    config.endpoints = vec![format!("localhost:{}", service.address.port())];
    config.health = Some(Health { path: Some("/livez".to_owned()), ..Health::default() });
    let upstream = Upstream::new(config).unwrap();
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    let watched = upstream.clone();
    tokio::spawn(async move { watched.watch(stop).await });
    until("it is found well", || upstream.endpoints()[0].reason == "answers its health path").await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_believed() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    let service = Service::secured(unknown.server("localhost", HTTP1, None), hello).await;
    let expected = "no TLS with it: its certificate is signed by no authority that is believed here";
    assert_eq!(refusal(Protocol::Http1, &service, known.believed()).await, expected);
    assert_eq!(refusal(Protocol::Http1, &service, Tls::default()).await, expected, "nor by the system's");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_that_name_is_expected() {
    let authority = Authority::new("authority");
    let service = Service::secured(authority.server("other.test", HTTP2, None), told).await;
    assert_eq!(
        refusal(Protocol::Http2, &service, authority.believed()).await,
        "no TLS with it: its certificate is for DnsName(\"other.test\"), not for localhost",
    );
    let expecting = Tls { server_name: Some("other.test".to_owned()), ..authority.believed() };
    let client = upstream(Protocol::Http2, &service, expecting).client();
    client.send(get("/"), SAFE).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_over_or_has_not_begun_is_refused() {
    let authority = Authority::new("authority");
    let over = authority.sign("localhost", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let service = Service::secured(serving(&over, HTTP1, None), hello).await;
    let refused = refusal(Protocol::Http1, &service, authority.believed()).await;
    assert_eq!(refused, "no TLS with it: its certificate has expired");
    let early = authority.sign("localhost", |params| params.not_before = date_time_ymd(2090, 1, 1));
    let service = Service::secured(serving(&early, HTTP1, None), hello).await;
    let refused = refusal(Protocol::Http1, &service, authority.believed()).await;
    assert_eq!(refused, "no TLS with it: its certificate is not valid yet");
}

#[tokio::test]
async fn who_speaks_another_protocol_is_told_apart() {
    let authority = Authority::new("authority");
    let plain = Service::http1(hello).await;
    let refused = refusal(Protocol::Http1, &plain, authority.believed()).await;
    assert_eq!(refused, "no TLS with it: it doesn't speak TLS");
    let http1 = Service::secured(authority.server("localhost", HTTP1, None), hello).await;
    let refused = refusal(Protocol::Http2, &http1, authority.believed()).await;
    assert_eq!(refused, "no TLS with it: it speaks another protocol (ALPN)");
    let silent = Service::secured(authority.server("localhost", &[], None), hello).await;
    let refused = refusal(Protocol::Grpc, &silent, authority.believed()).await;
    assert_eq!(refused, "no TLS with it: it doesn't choose HTTP/2 (ALPN `h2`)");
}

#[tokio::test]
async fn a_service_that_never_shakes_hands_is_waited_for_as_long_as_for_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let soon = Duration::from_millis(150);
    let config = Config {
        tls: Some(Authority::new("authority").believed()),
        connect_timeout: soon,
        ..config(Protocol::Http1, &[listener.local_addr().unwrap()])
    };
    let error = Upstream::new(config).unwrap().client().send(get("/"), SAFE).await.unwrap_err();
    assert!(error.detail.starts_with("can't connect to") && error.detail.ends_with("within 150ms"), "{error}");
}

#[tokio::test]
async fn a_service_that_asks_who_calls_is_told() {
    let authority = Authority::new("authority");
    let own = authority.sign("gateway.test", |_| {});
    for (protocol, alpn) in [(Protocol::Http1, HTTP1), (Protocol::Http2, HTTP2)] {
        let service = Service::secured(authority.server("localhost", alpn, Some(&authority)), hello).await;
        let nameless = upstream(protocol, &service, authority.believed()).client();
        let error = nameless.send(get("/"), SAFE).await.unwrap_err();
        assert!(error.detail.contains("CertificateRequired"), "{error}");
        assert_eq!(service.requests(), 0);

        let stranger = Authority::new("another").sign("gateway.test", |_| {});
        let strange = Tls { identity: Some(stranger), ..authority.believed() };
        let error = upstream(protocol, &service, strange).client().send(get("/"), SAFE).await.unwrap_err();
        assert!(error.detail.contains("UnknownCA"), "{error}");

        let named = Tls { identity: Some(own.clone()), ..authority.believed() };
        let client = upstream(protocol, &service, named).client();
        assert_eq!(text(client.send(get("/"), SAFE).await.unwrap()).await, "hello");
    }
}

#[tokio::test]
async fn what_is_large_arrives_whole_both_ways() {
    use http_body_util::BodyExt as _;
    let authority = Authority::new("authority");
    let back = |request: Request<Incoming>| async {
        Response::new(Body::from(request.into_body().collect().await.unwrap().to_bytes()))
    };
    for (protocol, alpn) in [(Protocol::Http1, HTTP1), (Protocol::Http2, HTTP2)] {
        let service = Service::secured(authority.server("localhost", alpn, None), back).await;
        let client = upstream(protocol, &service, authority.believed()).client();
        let sent: String = (0..200_000).map(|number| format!("{number},")).collect();
        for _ in 0..2 {
            let response = client.send(post("/", sent.clone()), UNSAFE).await.unwrap();
            assert!(text(response).await == sent);
        }
        assert_eq!(service.connections(), 1);
    }
}

/// Sockets of this machine that are connected to the port, and of which the other side has closed none.
fn connected_to(port: u16) -> usize {
    let remote = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let is_connected = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|address| address.ends_with(&remote)) && fields.next() == Some("01")
    };
    tables.iter().flat_map(|table| table.lines()).filter(is_connected).count()
}

#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_costs_not_even_a_post() {
    let authority = Authority::new("authority");
    let closing = |_| async { Response::builder().header("x", "1").body(Body::from("hello")).unwrap() };
    let mut service = Service::secured(authority.server("localhost", HTTP1, None), closing).await;
    let endpoint = format!("localhost:{}", service.address.port());
    let config = Config { endpoints: vec![endpoint], tls: Some(authority.believed()), ..config(Protocol::Http1, &[]) };
    let client = Upstream::new(config).unwrap().client();
    assert_eq!(text(client.send(post("/", ""), UNSAFE).await.unwrap()).await, "hello");
    service.kill().await;
    until("the connection has ended", || connected_to(service.address.port()) == 0).await;
    // Nobody is there any more: what was sent on the old connection would have broken, not been unreachable.
    let error = client.send(post("/", ""), UNSAFE).await.unwrap_err();
    assert_eq!(error.kind, upstream::ErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn no_corrupt_answer_passes_within_tls() {
    use http_body_util::BodyExt as _;
    let authority = Authority::new("authority");
    let back = |request: Request<Incoming>| async {
        match request.into_body().collect().await {
            Ok(body) => Response::new(Body::from(body.to_bytes())),
            Err(_) => Response::builder().status(400).body(Body::empty()).unwrap(),
        }
    };
    for (protocol, alpn) in [(Protocol::Http1, HTTP1), (Protocol::Http2, HTTP2)] {
        let service = Service::secured(authority.server("localhost", alpn, None), back).await;
        let proxy = FaultProxy::start(service.address, 5).await;
        let tls = Tls { server_name: Some("localhost".to_owned()), ..authority.believed() };
        let config = Config { tls: Some(tls), breaker: None, ..config(protocol, &[proxy.address()]) };
        let client = Upstream::new(config).unwrap().client();
        let (mut passed, mut broken) = (0, 0);
        for way in [Way::Back, Way::Out] {
            proxy.set_both(Fault::None);
            proxy.set(way, Fault::Corrupt { every: 20_000 });
            for number in 0..60 {
                let sent = format!("{number}").repeat(500);
                let options = Options::within(Duration::from_secs(5));
                let Ok(response) = client.send(post("/", sent.clone()), options).await else {
                    broken += 1;
                    continue;
                };
                match tokio::time::timeout(Duration::from_secs(5), response.into_body().collect()).await.unwrap() {
                    Ok(body) => {
                        assert!(body.to_bytes() == sent, "{protocol:?}");
                        passed += 1;
                    }
                    Err(_) => broken += 1,
                }
            }
        }
        assert!(passed > 0 && broken > 0, "{protocol:?}: {passed} passed, {broken} broke");
    }
}
