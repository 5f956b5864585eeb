//! Nothing is sent into a network that the public can't reach, by whatever name.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use time::OffsetDateTime;
use webhooks::{Class, Error, Names, NewEndpoint, Options};

use crate::{
    lab::{Lab, new, seconds},
    receiver::Receiver,
};

/// Names that resolve as a test says.
#[derive(Default)]
struct Zone(Mutex<HashMap<String, Vec<IpAddr>>>);

impl Zone {
    fn say(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

#[async_trait]
impl Names for Zone {
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let found = self.0.lock().unwrap().get(host).cloned();
        let found = found.ok_or_else(|| io::Error::other("no such name"))?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }
}

async fn strict(zone: &Arc<Zone>) -> Lab {
    let names: Arc<dyn Names> = zone.clone();
    Lab::at(OffsetDateTime::now_utc(), |options| Options {
        allow_private_networks: false,
        names: Some(names),
        ..options
    })
    .await
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_whenever_it_does() {
    let zone = Arc::new(Zone::default());
    let lab = strict(&zone).await;
    let receiver = Receiver::that_takes_all().await;
    let port = receiver.address.port();
    // The second is a trap: one address for whoever checks, another for whoever connects.
    zone.say("inside.example", &["10.0.0.1"]);
    zone.say("both.example", &["1.1.1.1", "127.0.0.1"]);
    zone.say("mapped.example", &["::ffff:127.0.0.1"]);
    zone.say("metadata.example", &["169.254.169.254"]);
    for name in ["inside", "both", "mapped", "metadata"] {
        let url = format!("https://{name}.example:{port}/hook");
        let (endpoint, _) = lab.webhooks.create(NewEndpoint { url, ..new(&receiver, "ORDERS/*") }).await.unwrap();
        lab.publish("ORDERS", &[(name, "k")]).await;
        let attempt = lab.tried(&endpoint.id, 1).await.remove(0);
        assert_eq!((attempt.class, attempt.status), (Class::Refused, None), "{name}");
        lab.webhooks.remove(&endpoint.id).await.unwrap();
    }
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn an_address_that_leads_inside_can_not_be_registered() {
    let lab = strict(&Arc::default()).await;
    let receiver = Receiver::that_takes_all().await;
    for url in
        [receiver.url(), "https://127.0.0.1/".to_owned(), "https://[::1]/".to_owned(), "http://example.com/".to_owned()]
    {
        let refused = lab.webhooks.create(NewEndpoint { url, ..new(&receiver, "ORDERS/*") }).await.unwrap_err();
        assert!(matches!(&refused, Error::Invalid(reason) if reason.starts_with("url: ")), "{refused}");
    }
}

#[tokio::test]
async fn what_was_checked_is_what_is_connected_to() {
    let zone = Arc::new(Zone::default());
    let names: Arc<dyn Names> = zone.clone();
    let lab = Lab::at(OffsetDateTime::now_utc(), |options| Options { names: Some(names), ..options }).await;
    let receiver = Receiver::that_takes_all().await;
    zone.say("receiver.example", &["127.0.0.1"]);
    let url = format!("http://receiver.example:{}/hook", receiver.address.port());
    let (endpoint, _) = lab.webhooks.create(NewEndpoint { url, ..new(&receiver, "ORDERS/*") }).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.requests()[0].header("host"), format!("receiver.example:{}", receiver.address.port()));
    lab.let_pass(seconds(1));
}
