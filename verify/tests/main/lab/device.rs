//! A device: publishes to an MQTT broker.

use rumqttc::{AsyncClient, MqttOptions, PublishOptions, QoS};
use testkit::Mosquitto;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct Device {
    client: AsyncClient,
    _stop: DropGuard,
}

impl Device {
    pub(crate) fn connect(broker: &Mosquitto, id: &str) -> Self {
        let mut options = MqttOptions::new(id, ("127.0.0.1", broker.port()));
        options.set_keep_alive(5);
        let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                if events.poll().await.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }));
        Self { client, _stop: stop.drop_guard() }
    }

    /// Publishes, and waits until the broker has it.
    pub(crate) async fn publish(&self, topic: &str, payload: String) {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let notice = self.client.publish_tracked(topic, payload, options).await.unwrap();
        notice.wait_async().await.unwrap();
    }
}
