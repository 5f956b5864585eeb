//! A stand-in for the SMS provider: takes what Twilio's HTTP API takes, and keeps it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A text that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub to: String,
    pub body: String,
}

/// The provider, on a port of 127.0.0.1.
#[derive(Clone)]
pub struct Sms {
    address: SocketAddr,
    texts: Arc<Mutex<Vec<Text>>>,
}

impl Sms {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sms = Self { address: listener.local_addr().unwrap(), texts: Arc::default() };
        let texts = sms.texts.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let texts = texts.clone();
                let service = service_fn(move |request| take(request, texts.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        sms
    }

    /// What the channel's `base_url` is set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every text, in the order they came.
    pub fn texts(&self) -> Vec<Text> {
        self.texts.lock().unwrap().clone()
    }
}

async fn take(request: Request<Incoming>, texts: Arc<Mutex<Vec<Text>>>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let form = request.into_body().collect().await?.to_bytes();
    let field = |name: &str| {
        let value = form.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(format!("{name}=").as_bytes()));
        decode(value.unwrap_or_else(|| panic!("no {name} in {}", String::from_utf8_lossy(&form))))
    };
    texts.lock().unwrap().push(Text { to: field("To"), body: field("Body") });
    let answer = Response::builder().status(201).header("content-type", "application/json");
    Ok(answer.body(Full::from(r#"{"sid":"SM00000000000000000000000000000000","status":"queued"}"#)).unwrap())
}

/// A value of `application/x-www-form-urlencoded`.
fn decode(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [*rest.next().unwrap(), *rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
