//! The channels' sections. A channel without its section can't be used, but for the console.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::duration;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Channels {
    pub console: Console,
    pub sms: Option<Sms>,
    pub email: Option<Email>,
    pub webhook: Webhook,
}

/// A line of the notifier's log.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {}

/// Text messages over Twilio's HTTP API, or one that speaks it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sms {
    #[serde(default = "twilio")]
    pub base_url: String,
    /// Twilio's account SID: the user name of Basic authentication too.
    pub account: String,
    pub token: SecretString,
    /// The sender: a phone number (E.164), or what the account may send as.
    pub from: String,
    /// Allows `http:` to another machine.
    #[serde(default)]
    pub plain_http: bool,
    /// Of one attempt; 100 ms to 60 s.
    #[serde(default = "timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// Attempts at once; 1 to 100.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
}

/// E-mail over SMTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    pub host: String,
    /// None: 25 without TLS, 587 with STARTTLS, 465 with TLS.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: Tls,
    /// With `password`, or not at all.
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub password: Option<SecretString>,
    /// `Shop <shop@example.com>`.
    pub from: String,
    #[serde(default = "timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    #[serde(default = "concurrency")]
    pub concurrency: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    None,
    /// Begins in the clear and must change to TLS before anything is said.
    Starttls,
    #[default]
    Tls,
}

/// JSON by POST.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// Allows `http:` to another machine.
    pub plain_http: bool,
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    pub concurrency: usize,
}

impl Default for Webhook {
    fn default() -> Self {
        Self { plain_http: false, timeout: timeout(), concurrency: concurrency() }
    }
}

impl Email {
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Tls::None => 25,
            Tls::Starttls => 587,
            Tls::Tls => 465,
        })
    }
}

fn twilio() -> String {
    "https://api.twilio.com".to_owned()
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn concurrency() -> usize {
    8
}
