//! TLS on a listener: who is shown which certificate, who must show one, and what a reload changes.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    version::{TLS12, TLS13},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::running::{Running, echo, passing_on};

/// An authority of its own for each test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Leaf {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
    serial: SerialNumber,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |_| ())
    }

    fn leaf_with(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let serial = SerialNumber::from(u64::from(rand::random::<u32>()));
        params.serial_number = Some(serial.clone());
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone(), serial }
    }

    /// The revocation list that names these.
    fn revoking(&self, leaves: &[&Leaf]) -> String {
        let revoked = leaves.iter().map(|leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// What a client that trusts it begins with, and who it shows to be.
    pub fn client(&self, shown: Option<&Leaf>) -> ClientConfig {
        self.client_of(shown, &[&TLS13, &TLS12])
    }

    fn client_of(&self, shown: Option<&Leaf>, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match shown {
            None => config.with_no_client_auth(),
            Some(leaf) => {
                let key = PrivateKeyDer::try_from(KeyPair::from_pem(&leaf.key).unwrap().serialize_der()).unwrap();
                config.with_client_auth_cert(vec![leaf.der.clone()], key).unwrap()
            }
        }
    }
}

/// Writes a certificate and its key into a folder, under a name.
pub fn put(folder: &Path, name: &str, leaf: &Leaf) {
    std::fs::write(folder.join(format!("{name}.pem")), &leaf.certificate).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), &leaf.key).unwrap();
}

/// Opens a connection that asks for a name.
pub async fn dial(gateway: &Running, config: ClientConfig, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(gateway.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), socket).await
}

/// Sends a request over HTTP/1.1 and reads the whole answer.
async fn get(stream: &mut TlsStream<TcpStream>, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await?;
        answer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&answer);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
        });
        if whole {
            return Ok(text.into_owned());
        }
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Whether a client is served: with TLS 1.3 it only learns from the answer that it was not let in.
async fn served(gateway: &Running, config: ClientConfig) -> bool {
    match dial(gateway, config, "a.test").await {
        Ok(mut stream) => get(&mut stream, "/").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")),
        Err(_) => false,
    }
}

const OK: &str = "routes: [{match: {path: '/{rest=**}'}, respond: {status: 200, body: ok}}]\n";

/// A gateway whose one listener has this TLS section, from a file in the folder.
async fn start(folder: &TempDir, tls: &str, sections: &str) -> Running {
    write(folder, tls, sections);
    Running::watching(&folder.path().join("gateway.yaml")).await
}

fn write(folder: &TempDir, tls: &str, sections: &str) {
    let text = format!("listeners: [{{address: '127.0.0.1:0', tls: {{{tls}}}}}]\naccess_log: false\n{sections}");
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
}

/// A folder with one certificate for `a.test`, its authority, and the section that names it.
fn one() -> (TempDir, Authority, &'static str) {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("test"));
    put(folder.path(), "a", &authority.leaf(&["a.test"]));
    (folder, authority, "certificate: a.pem, key: a.key")
}

#[tokio::test]
async fn what_comes_by_tls_is_told_as_https_and_the_browser_stays_with_it() {
    let (folder, authority, tls) = one();
    let gateway = start(&folder, tls, &passing_on(echo().await)).await;
    for version in [&TLS12, &TLS13] {
        let mut stream = dial(&gateway, authority.client_of(None, &[version]), "a.test").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let answer = get(&mut stream, "/things").await.unwrap();
        assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{answer}");
        let told: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(told["headers"]["x-forwarded-proto"], "https");
    }
    gateway.stop().await;
    let plain = Running::start(OK).await;
    assert_eq!(plain.get("/").await.header("strict-transport-security"), "", "not for plain HTTP to say");
    plain.stop().await;
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let (folder, authority, tls) = one();
    let gateway = start(&folder, tls, OK).await;
    let mut config = authority.client(None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = dial(&gateway, config.clone(), "a.test").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://a.test/").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    assert!(response.headers().contains_key("strict-transport-security"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut stream = dial(&gateway, config.clone(), "a.test").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(get(&mut stream, "/").await.unwrap().ends_with("ok"));
    config.alpn_protocols = vec![b"spdy/3".to_vec()];
    assert!(dial(&gateway, config, "a.test").await.is_err(), "nothing in common");
    gateway.stop().await;
}

/// The name of the certificate a client is shown.
async fn shown(gateway: &Running, authority: &Authority, name: &str) -> Result<CertificateDer<'static>, String> {
    let stream = dial(gateway, authority.client(None), name).await.map_err(|error| error.to_string())?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
}

#[tokio::test]
async fn each_name_is_shown_its_own_certificate() {
    let (folder, authority, _) = one();
    let (b, wild) = (authority.leaf(&["b.test", "c.test"]), authority.leaf(&["*.w.test"]));
    put(folder.path(), "b", &b);
    put(folder.path(), "wild", &wild);
    let more = "more: [{certificate: b.pem, key: b.key}, {certificate: wild.pem, key: wild.key}]";
    let gateway = start(&folder, &format!("certificate: a.pem, key: a.key, {more}"), OK).await;
    assert_eq!(shown(&gateway, &authority, "b.test").await.unwrap(), b.der);
    assert_eq!(shown(&gateway, &authority, "c.test").await.unwrap(), b.der);
    assert_eq!(shown(&gateway, &authority, "x.w.test").await.unwrap(), wild.der);
    assert!(shown(&gateway, &authority, "a.test").await.is_ok());
    let other = shown(&gateway, &authority, "y.x.w.test").await.unwrap_err();
    assert!(other.contains("not valid for name"), "the default one, which is for another: {other}");
    let page = gateway.ops("/certificates").await;
    let names: Vec<_> =
        page["certificates"].as_array().unwrap().iter().map(|one| &one["certificate"]["names"]).collect();
    assert_eq!(
        names,
        [&serde_json::json!(["a.test"]), &serde_json::json!(["b.test", "c.test"]), &serde_json::json!(["*.w.test"])]
    );
    gateway.stop().await;
}

/// The first bytes of a TLS client that speaks nothing newer than this version.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let suites = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x14];
    // supported_groups: x25519; signature_algorithms: ecdsa_secp256r1_sha256; extended_master_secret.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3, 0, 23, 0, 0];
    let length = u8::try_from(extensions.len()).unwrap();
    let body = [&version[..], &[7; 32], &[0], &[0, 6], &suites, &[1, 0], &[0, length], &extensions].concat();
    let length = u8::try_from(body.len()).unwrap();
    let handshake = [&[1, 0, 0, length], &body[..]].concat();
    [&[22, 3, 1, 0, length + 4], &handshake[..]].concat()
}

#[tokio::test]
async fn versions_that_are_broken_are_refused() {
    let (folder, _, tls) = one();
    let gateway = start(&folder, tls, OK).await;
    let answer = async |version| {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(&hello(version)).await.unwrap();
        let mut answer = [0; 7];
        socket.read_exact(&mut answer).await.unwrap();
        answer
    };
    for version in [[3, 0], [3, 1], [3, 2]] {
        // An alert, fatal: protocol_version.
        assert_eq!(answer(version).await, [21, 3, 3, 0, 2, 2, 70], "{version:?}");
    }
    // A record of the handshake: its hello.
    let [22, 3, 3, _, _, 2, _] = answer([3, 3]).await else { panic!("TLS 1.2 is spoken") };
    gateway.stop().await;
}

#[tokio::test]
async fn the_oldest_version_can_be_1_3() {
    let (folder, authority, tls) = one();
    let gateway = start(&folder, &format!("{tls}, min_version: 1.3"), OK).await;
    assert!(served(&gateway, authority.client_of(None, &[&TLS13])).await);
    assert!(!served(&gateway, authority.client_of(None, &[&TLS12])).await);
    gateway.stop().await;
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let (folder, authority, tls) = one();
    let gateway = start(&folder, tls, OK).await;
    let answer = gateway.raw(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("this port speaks TLS"), "{answer}");
    assert_eq!(gateway.raw(b"\x00\x01\x02").await, "", "noise gets no answer");
    assert!(served(&gateway, authority.client(None)).await);
    gateway.stop().await;
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_dropped() {
    let (folder, authority, tls) = one();
    let gateway = start(&folder, tls, OK).await;
    let begun = std::time::Instant::now();
    let mut held = Vec::new();
    for bytes in [&b""[..], &b"\x16"[..], &hello([3, 3])[..20]] {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        held.push(socket);
    }
    assert!(served(&gateway, authority.client(None)).await, "others are served meanwhile");
    for mut socket in held {
        let ended = tokio::time::timeout(Duration::from_secs(30), socket.read(&mut [0; 64])).await;
        assert!(ended.is_ok(), "still open after {:?}", begun.elapsed());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_is_resumed_and_a_clients_rules_hold_again_when_they_change() {
    let (folder, authority, tls) = one();
    std::fs::write(folder.path().join("ca.pem"), authority.0.pem()).unwrap();
    let client = authority.leaf_with(&[], |params| params.distinguished_name.push(DnType::CommonName, "c"));
    let tls = format!("{tls}, client: {{ca: ca.pem, crl: crl.pem}}");
    std::fs::write(folder.path().join("crl.pem"), authority.revoking(&[])).unwrap();
    let gateway = start(&folder, &tls, OK).await;
    for version in [&TLS12, &TLS13] {
        let config = authority.client_of(Some(&client), &[version]);
        let kind = async || {
            let mut stream = dial(&gateway, config.clone(), "a.test").await.ok()?;
            get(&mut stream, "/").await.ok()?;
            stream.get_ref().1.handshake_kind()
        };
        assert_eq!(kind().await, Some(rustls::HandshakeKind::Full));
        assert_eq!(kind().await, Some(rustls::HandshakeKind::Resumed), "{version:?}");
        std::fs::write(folder.path().join("crl.pem"), authority.revoking(&[&client])).unwrap();
        testkit::eventually("it is revoked", Duration::from_secs(20), || async {
            kind().await.is_none().then_some(())
        })
        .await;
        std::fs::write(folder.path().join("crl.pem"), authority.revoking(&[])).unwrap();
        testkit::eventually("it is good again", Duration::from_secs(20), || async { kind().await }).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_must_show_a_good_certificate_where_one_is_required() {
    let (folder, authority, tls) = one();
    let clients = Authority::new("clients");
    std::fs::write(folder.path().join("ca.pem"), clients.0.pem()).unwrap();
    let good = clients.leaf_with(&[], |params| {
        params.subject_alt_names = vec![SanType::URI("spiffe://test/worker".try_into().unwrap())];
    });
    let expired = clients.leaf_with(&["x.test"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let (early, strange) = (
        clients.leaf_with(&["x.test"], |params| params.not_before = date_time_ymd(2090, 1, 1)),
        Authority::new("others").leaf(&["x.test"]),
    );
    for mode in ["required", "optional"] {
        let gateway = start(&folder, &format!("{tls}, client: {{ca: ca.pem, mode: {mode}}}"), OK).await;
        for version in [&TLS12, &TLS13] {
            let asks = async |shown: Option<&Leaf>| served(&gateway, authority.client_of(shown, &[version])).await;
            assert!(asks(Some(&good)).await, "{mode}");
            assert_eq!(asks(None).await, mode == "optional");
            for bad in [&expired, &early, &strange] {
                assert!(!asks(Some(bad)).await, "{mode}: a bad one is never as good as none");
            }
        }
        assert_eq!(gateway.ops("/certificates").await["certificates"][0]["clients"], mode);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_the_old_ones_live_on() {
    let (folder, authority, tls) = one();
    let gateway = start(&folder, tls, OK).await;
    let mut live = dial(&gateway, authority.client(None), "a.test").await.unwrap();
    assert!(get(&mut live, "/").await.unwrap().ends_with("ok"));
    let before = shown(&gateway, &authority, "a.test").await.unwrap();
    let renewed = authority.leaf(&["a.test"]);
    put(folder.path(), "a", &renewed);
    testkit::eventually("the new one is shown", Duration::from_secs(20), || async {
        (shown(&gateway, &authority, "a.test").await.unwrap() == renewed.der).then_some(())
    })
    .await;
    assert_ne!(before, renewed.der);
    assert!(get(&mut live, "/").await.unwrap().ends_with("ok"), "what was open stays open");

    // A key that doesn't belong to it changes nothing, and is told.
    std::fs::write(folder.path().join("a.key"), authority.leaf(&["a.test"]).key).unwrap();
    let config = testkit::eventually("the bad key is told", Duration::from_secs(20), || async {
        let config = gateway.ops("/config").await;
        (config["last_reload"]["ok"] == false).then_some(config)
    })
    .await;
    assert!(config.to_string().contains("listeners[0].tls.key: is not the key of the certificate"), "{config}");
    assert_eq!(shown(&gateway, &authority, "a.test").await.unwrap(), renewed.der);
    std::fs::remove_file(folder.path().join("a.pem")).unwrap();
    assert_eq!(shown(&gateway, &authority, "a.test").await.unwrap(), renewed.der, "nor does one that has gone");
    assert!(get(&mut live, "/").await.unwrap().ends_with("ok"));
    gateway.stop().await;
}

#[test]
fn what_is_wrong_with_certificates_is_found_before_they_are_used() {
    let (folder, authority, tls) = one();
    let check = |tls: &str| {
        let text = format!("listeners: [{{address: '127.0.0.1:1', tls: {{{tls}}}}}]\n");
        let checked = gateway::check(&text, &gateway::Properties::new(), Some(folder.path()), &Default::default());
        checked.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(check(tls), Ok(vec![]));
    let missing = check("certificate: no.pem, key: a.key").unwrap_err();
    assert!(
        missing[0].starts_with("listeners[0].tls.certificate: ") && missing[0].contains("No such file"),
        "{missing:?}"
    );
    put(folder.path(), "b", &authority.leaf(&["a.test", "b.test"]));
    let mismatched = check("certificate: a.pem, key: b.key").unwrap_err();
    assert_eq!(mismatched, ["listeners[0].tls.key: is not the key of the certificate"]);
    let swapped = check("certificate: a.key, key: a.pem").unwrap_err();
    assert_eq!(
        swapped,
        [
            "listeners[0].tls.certificate: holds no certificate in PEM",
            "listeners[0].tls.key: holds no private key that can be read; it must not be encrypted"
        ]
    );
    let list = check(&format!("{tls}, more: [{{certificate: b.pem, key: a.key}}], alpn: []")).unwrap_err();
    assert_eq!(
        list,
        [
            "listeners[0].tls.more[0].key: is not the key of the certificate",
            "listeners[0].tls.alpn: there must be at least one"
        ]
    );
    let authorities = check(&format!("{tls}, client: {{ca: a.key, crl: b.pem}}")).unwrap_err();
    assert_eq!(
        authorities,
        [
            "listeners[0].tls.client.ca: holds no certificate in PEM",
            "listeners[0].tls.client.crl: holds no revocation list in PEM"
        ]
    );
    let overlapping = check(&format!("{tls}, more: [{{certificate: b.pem, key: b.key}}]")).unwrap();
    assert_eq!(
        overlapping,
        ["listeners[0].tls.more[0].certificate: `a.test` is served with the certificate before it"]
    );
    put(
        folder.path(),
        "old",
        &authority.leaf_with(&["old.test"], |params| params.not_after = date_time_ymd(2020, 1, 1)),
    );
    let expired = check("certificate: old.pem, key: old.key").unwrap();
    assert_eq!(expired.len(), 1);
    assert!(expired[0].starts_with("listeners[0].tls.certificate: expired at 2020-01-01"), "{expired:?}");
}
