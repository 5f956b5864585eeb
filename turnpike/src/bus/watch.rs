//! Where an event stands, again and again: as a gateway's stream tells it, or by looking at Redis.

use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::{
    args,
    client::Client,
    gateway::{Gateway, Streamed},
    named::path,
    stream::Stream,
};

/// Between two looks at what nobody tells of, at most.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two looks, and between a stream's end and the next one's beginning, at least.
const PAUSE: Duration = Duration::from_millis(200);

pub struct Watch<'a> {
    client: &'a Client,
    event: &'a args::Event,
    stream: Option<Stream>,
    /// What is to be waited before it is asked again.
    pause: Option<Duration>,
}

impl<'a> Watch<'a> {
    pub fn new(client: &'a Client, event: &'a args::Event) -> Self {
        Self { client, event, stream: None, pause: None }
    }

    /// The first time at once, then when it may have changed.
    pub async fn next(&mut self) -> anyhow::Result<Value> {
        match self.client {
            Client::Gateway(gateway) => self.told(gateway).await,
            Client::Redis(_) => {
                let patience = self.pause.map(|_| AGAIN);
                self.wait().await;
                let status = self.client.status(self.event, patience).await?;
                // The bus doesn't wait for one that waits for its time; what a group has given up on comes back at once.
                self.pause = Some(if status["delivery"] == "scheduled" { AGAIN } else { PAUSE });
                Ok(status)
            }
        }
    }

    async fn told(&mut self, gateway: &Gateway) -> anyhow::Result<Value> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.wait().await;
                match gateway.stream(&path(self.event, "/status", true)).await? {
                    Streamed::Open(stream) => self.stream = Some(stream),
                    // One that waits for its time is nobody's yet.
                    Streamed::Answered(status) => {
                        self.pause = Some(AGAIN);
                        return Ok(status);
                    }
                }
                continue;
            };
            match stream.next().await {
                Ok(Some(told)) if told.name == "status" => return Ok(told.data),
                Ok(Some(told)) if told.name == "gone" => {
                    bail!("{}", told.data["detail"].as_str().unwrap_or("the event is gone"));
                }
                Ok(Some(_)) => {}
                // Streams end after some minutes, and with their broker.
                Ok(None) | Err(_) => (self.stream, self.pause) = (None, Some(PAUSE)),
            }
        }
    }

    async fn wait(&mut self) {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
    }
}
