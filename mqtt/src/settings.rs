//! The settings: where the MQTT broker is, and what is mapped to what.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// Public fields, so that it reads as the file it comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `mqtt://host:port`, or `mqtts://` for TLS. The broker must speak MQTT 5.
    pub url: String,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// A file with the certificates that are trusted (PEM), for TLS; those of the system unless given.
    pub ca: Option<PathBuf>,
    /// What the dispatchers call themselves to the broker; 1 to 48 of `A-Z a-z 0-9 _ -`.
    pub client_id: String,
    pub order: Order,
    /// Tells this dispatcher from the others where the order is `shared`: the same after a restart.
    pub instance: Option<String>,
    pub inbound: Vec<Inbound>,
    pub outbound: Vec<Outbound>,
    /// Where messages go that can't become the event they are mapped to: QUEUE/EVENT.
    pub rejected: String,
}

/// Who takes messages where there are several dispatchers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// One of them at a time, in the order the broker has; the others stand by.
    #[default]
    Strict,
    /// All of them, each a part (shared subscriptions): more at once, in no order.
    Shared,
}

/// Messages that become events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// Which topics: `shop/+/orders`, `sensors/#`.
    pub topic: String,
    /// QUEUE/EVENT; the event may hold `{1}`, what stands where the first wildcard is, in capitals.
    pub to: String,
    /// `{topic}`, or what stands where the wildcards are: `stores/{1}`.
    #[serde(default)]
    pub subject: Option<String>,
    /// What orders; the subject unless given.
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub data: Form,
    /// 0 or 1: what the broker is asked to send them with.
    #[serde(default = "at_least_once")]
    pub qos: u8,
    #[serde(default)]
    pub same: Same,
    /// Whether the retained messages that there are when it first subscribes become events, too.
    #[serde(default)]
    pub retained: bool,
}

/// What a message's payload is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// JSON where it is that, else bytes.
    #[default]
    Auto,
    /// JSON; anything else is rejected.
    Json,
    /// Bytes, as they are.
    Binary,
}

/// Which messages are the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Same {
    /// Those with one `event-id` (a user property); without it, those that the broker sent again.
    #[default]
    Redelivered,
    /// Those of one topic and content as well, within the queue's dedupe window.
    Equal,
}

/// Events that become messages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Names the group that takes them: `mqtt.NAME`.
    pub name: String,
    /// Which: `ORDERS/*`, with conditions if need be.
    pub events: String,
    /// With `{queue}`, `{event}`, `{subject}`, `{key}`, `{id}`.
    pub topic: String,
    #[serde(default = "at_least_once")]
    pub qos: u8,
    #[serde(default)]
    pub retain: bool,
    /// Whether the message is the event as a CloudEvent instead of its data.
    #[serde(default)]
    pub envelope: bool,
}

fn at_least_once() -> u8 {
    1
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".to_owned(),
            username: None,
            password: None,
            ca: None,
            client_id: "turnpike".to_owned(),
            order: Order::Strict,
            instance: None,
            inbound: Vec::new(),
            outbound: Vec::new(),
            rejected: "MQTT/REJECTED".to_owned(),
        }
    }
}
