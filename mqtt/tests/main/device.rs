//! A device: publishes, and hears what it subscribed to.

use std::sync::Arc;

use parking_lot::Mutex;
use rumqttc::{
    AsyncClient, Event, Incoming, MqttOptions, Publish, PublishOptions, QoS, mqttbytes::v5::PublishProperties,
};
use testkit::{Mosquitto, eventually};
use tokio::task::JoinHandle;

use crate::SOON;

pub(crate) struct Device {
    client: AsyncClient,
    heard: Arc<Mutex<Vec<Publish>>>,
    connection: JoinHandle<()>,
}

impl Device {
    pub(crate) async fn connect(broker: &Mosquitto, id: &str) -> Self {
        let mut options = MqttOptions::new(id, ("127.0.0.1", broker.port()));
        options.set_keep_alive(5);
        let (client, mut events) = AsyncClient::builder(options).capacity(1024).build();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let connection = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::Publish(message))) => hears.lock().push(message),
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        });
        Self { client, heard, connection }
    }

    /// Publishes, and waits until the broker has it.
    pub(crate) async fn publish(&self, topic: &str, payload: &str) {
        self.publish_with(topic, payload, PublishProperties::default()).await;
    }

    pub(crate) async fn publish_with(&self, topic: &str, payload: &str, properties: PublishProperties) {
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        let notice = self.client.publish_tracked(topic, payload.to_owned(), options).await.unwrap();
        notice.wait_async().await.unwrap();
    }

    pub(crate) async fn subscribe(&self, topic: &str) {
        let notice = self.client.subscribe_tracked(topic, QoS::AtLeastOnce).await.unwrap();
        notice.wait_async().await.unwrap();
    }

    pub(crate) async fn hears(&self, count: usize) -> Vec<Publish> {
        eventually(&format!("{count} messages are heard"), SOON, async || {
            let heard = self.heard.lock();
            (heard.len() >= count).then(|| heard.clone())
        })
        .await
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
