//! E-mail over SMTP (RFC 5321). The Message-ID is the same in every attempt, by which many mailboxes recognise a repeated
//! message. A connection is made for each message.

use anyhow::Context as _;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message as Mail, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        Error,
        authentication::Credentials,
        client::{Tls as Wire, TlsParameters},
    },
};
use secrecy::ExposeSecret as _;
use tracing::Span;

use crate::{
    channel::{Letter, Outcome},
    rules::{Email, Tls},
};

pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    host: String,
    port: u16,
}

impl Mailer {
    pub fn new(settings: &Email) -> anyhow::Result<Self> {
        let secured = || TlsParameters::new(settings.host.clone()).context("channels.email: TLS");
        let tls = match settings.tls {
            Tls::None => Wire::None,
            Tls::Starttls => Wire::Required(secured()?),
            Tls::Tls => Wire::Wrapper(secured()?),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port())
            .tls(tls)
            .timeout(Some(settings.timeout));
        if let (Some(user), Some(password)) = (&settings.user, &settings.password) {
            transport = transport.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        let from = settings.from.parse().context("channels.email.from")?;
        Ok(Self { transport: transport.build(), from, host: settings.host.clone(), port: settings.port() })
    }

    pub async fn send(&self, to: &Mailbox, letter: &Letter) -> Outcome {
        let span = Span::current();
        span.record("server.address", &self.host);
        span.record("server.port", self.port);
        let mail = Mail::builder()
            .from(self.from.clone())
            .to(to.clone())
            .subject(letter.message.subject.as_deref().unwrap_or_default())
            .message_id(Some(format!("<{}@{}>", letter.id, self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.message.text.clone());
        let mail = match mail {
            Ok(mail) => mail,
            Err(error) => return Outcome::Refused { reason: error.to_string() },
        };
        match self.transport.send(mail).await {
            Ok(response) => Outcome::Sent { reference: response.message().next().map(str::to_owned) },
            Err(error) if is_lasting(&error) => Outcome::Refused { reason: error.to_string() },
            Err(error) => Outcome::Retry { reason: error.to_string(), after: None },
        }
    }
}

/// Replies of 5xx, but for those that mean our login: the operator mends it, and the message goes out.
fn is_lasting(error: &Error) -> bool {
    let code = error.status().map(|code| code.to_string());
    error.is_permanent() && !code.is_some_and(|code| ["530", "534", "535", "538"].contains(&code.as_str()))
}
