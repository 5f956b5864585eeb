//! Logging in: the gateway's side of it.

use proto::turnpike::auth::v1::AuthenticateRequest;
use stage::on_both;
use tonic::Code;

use crate::{log_in, shop::Shop, sign_up};

on_both!(
    the_right_password_gives_the_identity,
    every_wrong_pair_is_refused_alike,
    a_storm_of_log_ins_with_an_unknown_email_is_refused_beyond_the_queue,
);

async fn the_right_password_gives_the_identity(shop: Shop) {
    let ada = sign_up(&shop, "ada@example.org", "correct horse", "Ada").await.unwrap();
    let identity = log_in(&shop, " ADA@example.org", "correct horse").await.unwrap();
    assert_eq!(identity.subject, format!("customers/{}", ada.id));
    assert_eq!(identity.scopes, ["shop"]);
    assert_eq!((identity.claims["email"].as_str(), identity.claims["name"].as_str()), ("ada@example.org", "Ada"));
    assert_eq!(identity.claims.len(), 2);
}

async fn every_wrong_pair_is_refused_alike(shop: Shop) {
    sign_up(&shop, "ada@example.org", "correct horse", "Ada").await.unwrap();
    let endless = "x".repeat(1_000_000);
    for (email, password) in [
        ("ada@example.org", "battery staple"),
        ("ada@example.org", ""),
        ("ada@example.org", endless.as_str()),
        ("eve@example.org", "correct horse"),
        ("eve@example.org", "nobody's password"),
        ("no e-mail\0", "correct horse"),
        ("", ""),
    ] {
        let refused = log_in(&shop, email, password).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{email:?}");
        assert_eq!(refused.message(), "unknown e-mail or wrong password", "{email:?}");
        assert!(refused.details().is_empty());
    }
}

/// An e-mail that nobody has waits in the same queue: its password is checked against a decoy, so that the time tells
/// nothing.
async fn a_storm_of_log_ins_with_an_unknown_email_is_refused_beyond_the_queue(shop: Shop) {
    // One connection, so that the storm arrives at once.
    let door = shop.door();
    let storm = (0..150).map(|_| {
        let mut door = door.clone();
        let request =
            AuthenticateRequest { email: "eve@example.org".to_owned(), password: "battery staple".to_owned() };
        tokio::spawn(async move { door.authenticate(request).await })
    });
    let (mut answered, mut refused) = (0, 0);
    for attempt in storm.collect::<Vec<_>>() {
        match attempt.await.unwrap().unwrap_err().code() {
            Code::Unauthenticated => answered += 1,
            Code::ResourceExhausted => refused += 1,
            code => unreachable!("{code}"),
        }
    }
    assert!(answered >= 66 && refused > 0, "answered {answered}, refused {refused}");
    assert_eq!(log_in(&shop, "eve@example.org", "battery staple").await.unwrap_err().code(), Code::Unauthenticated);
}
