//! Endpoints whose certificates are signed by an authority of somebody's own.

use std::{fs, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use testkit::Certificates;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use webhooks::{Class, Error, NewEndpoint, Options};

use crate::{
    lab::{Lab, new},
    receiver::Receiver,
};

/// A server that shows this certificate and answers 204, at its address.
async fn server(certificates: &Certificates) -> String {
    let (certificate, key) = certificates.server();
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(acceptor.clone(), stream));
        }
    });
    format!("https://localhost:{port}/hook")
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) {
    // Whoever doesn't believe it goes.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut read = Vec::new();
    // A request ends with the event's last brace.
    while !read.ends_with(b"}") {
        match stream.read_buf(&mut read).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn an_authority_is_believed_where_the_settings_name_it() {
    let certificates = Certificates::make();
    let url = server(&certificates).await;
    let pem = fs::read(certificates.authority()).unwrap();
    let receiver = Receiver::that_takes_all().await;
    for (authorities, class) in [(None, Class::Unreachable), (Some(pem), Class::Delivered)] {
        let lab = Lab::at(OffsetDateTime::now_utc(), |options| Options { authorities, ..options }).await;
        let private = NewEndpoint { url: url.clone(), ..new(&receiver, "ORDERS/*") };
        let (endpoint, _) = lab.webhooks.create(private).await.unwrap();
        lab.publish("ORDERS", &[("a", "k")]).await;
        let attempt = lab.tried(&endpoint.id, 1).await.remove(0);
        assert_eq!(attempt.class, class, "{attempt:?}");
        if class == Class::Unreachable {
            assert!(attempt.error.unwrap().contains("certificate"), "it says why");
        }
    }
}

#[tokio::test]
async fn what_is_no_certificate_is_refused_at_the_start() {
    let lab = Lab::start().await;
    for wrong in ["", "none", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let refused = lab.open(Options { authorities: Some(wrong.into()), ..Options::default() }).err().unwrap();
        assert!(matches!(&refused, Error::Invalid(reason) if reason.starts_with("authorities: ")), "{refused}");
    }
}
