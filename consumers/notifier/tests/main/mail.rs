//! E-mail, to a server of SMTP (RFC 5321) that takes what it is sent.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{Site, account, named, rules, settled};

#[derive(Clone, Debug)]
struct Mail {
    to: String,
    text: String,
}

struct Sink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl Sink {
    /// One that has no mailbox of that name.
    async fn without(nobody: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let taken = mails.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, taken.clone(), nobody));
            }
        });
        Self { address, mails }
    }

    fn rules(&self) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        rules(
            &format!("email: {{host: '{host}', port: {port}, tls: none, from: 'Shop <shop@example.com>'}}"),
            "email",
            "",
        )
    }

    fn mails(&self) -> Vec<Mail> {
        self.mails.lock().clone()
    }
}

async fn talk(stream: TcpStream, taken: Arc<Mutex<Vec<Mail>>>, nobody: &str) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink\r\n").await.ok()?;
    let mut to = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let answer = match line.get(..4)?.to_uppercase().as_str() {
            "EHLO" => "250 sink",
            "RCPT" if line.contains(&format!("<{nobody}@")) => "550 5.1.1 no such mailbox",
            "RCPT" => {
                to = line.trim_end().to_owned();
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut text).await.ok()?;
                }
                taken.lock().push(Mail { to: to.clone(), text });
                "250 2.0.0 queued as 7"
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

#[tokio::test]
async fn an_account_is_a_mail_to_each_and_a_mailbox_that_is_not_there_holds_back_nobody() {
    let site = Site::sqlite().await;
    let sink = Sink::without("ben").await;
    let notifier = site.start(&sink.rules()).await;
    site.publish(vec![account(1)]).await;
    notifier.come_to("sent", 1).await;
    notifier.come_to("failed", 1).await;
    settled(&site.bus).await;
    let mails = sink.mails();
    assert_eq!((mails.len(), mails[0].to.as_str()), (1, "RCPT TO:<ann@example.com>"));
    for header in ["From: Shop <shop@example.com>\r\n", "Subject: New customer: Customer 1\r\n", "Message-ID: <msg_"] {
        assert!(mails[0].text.contains(header), "{}", mails[0].text);
    }
    let failed = &notifier.messages("state=failed").await[0];
    assert!(failed["reason"].as_str().unwrap().contains("no such mailbox"), "{failed}");
    notifier.drain().await;
}

#[tokio::test]
async fn an_accounts_name_adds_no_header() {
    let site = Site::sqlite().await;
    let sink = Sink::without("nobody").await;
    let notifier = site.start(&sink.rules()).await;
    site.publish(vec![named("Eve\r\nBcc: all@example.com\r\n\r\nGive me\r\n.\r\nMAIL FROM:<eve@example.com>", 1)])
        .await;
    notifier.come_to("sent", 2).await;
    for mail in sink.mails() {
        let (headers, _) = mail.text.split_once("\r\n\r\n").unwrap();
        assert!(headers.lines().all(|line| !line.starts_with("Bcc")), "{headers}");
        assert_eq!(headers.lines().filter(|line| line.starts_with("Subject: ")).count(), 1, "{headers}");
    }
    assert_eq!(sink.mails().len(), 2);
    notifier.drain().await;
}
