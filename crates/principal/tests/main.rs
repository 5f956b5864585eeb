//! Tokens between signer and verifier.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use principal::{Issuer, Keys, Principal, RootSecret, Signer, TokenError, Verifier};
use time::{Duration, OffsetDateTime};

fn alice() -> Principal {
    Principal {
        subject: "customers/alice".to_owned(),
        scopes: vec!["catalog:write".to_owned()],
        claims: BTreeMap::from([("email".to_owned(), "alice@example.com".to_owned())]),
    }
}

fn believing(signer: &Signer) -> Verifier {
    Verifier::new(vec![Issuer { name: signer.issuer().to_owned(), keys: Keys::Inline(signer.jwks()) }])
}

async fn refusal(verifier: &Verifier, token: &str) -> String {
    match verifier.verify(token).await {
        Err(TokenError::Invalid(reason)) => reason,
        other => format!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_principal_arrives_as_it_was_signed() {
    let gateway = Signer::new("gateway", &RootSecret::generate());
    let verifier = believing(&gateway);
    let token = gateway.sign(&alice());
    for _cached in [false, true] {
        assert_eq!(verifier.verify(&token).await.unwrap(), alice());
    }
}

#[tokio::test]
async fn two_signers_of_one_root_secret_and_name_are_one_issuer() {
    let root = RootSecret::generate();
    let verifier = believing(&Signer::new("gateway", &root));
    assert!(verifier.verify(&Signer::new("gateway", &root).sign(&alice())).await.is_ok());
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let gateway = Signer::new("gateway", &RootSecret::generate());
    let verifier = believing(&gateway);
    let token = gateway.sign(&alice());
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..].try_into().unwrap();
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let mallory = URL_SAFE_NO_PAD.encode(text.replace("alice", "mallory"));
    assert_eq!(refusal(&verifier, &format!("{header}.{mallory}.{signature}")).await, "its signature is wrong");
    assert_eq!(refusal(&verifier, &format!("{header}.{claims}.")).await, "its signature is wrong");
    assert_eq!(refusal(&verifier, &format!("{header}.{claims}")).await, "not an EdDSA token");
    assert_eq!(refusal(&verifier, "").await, "not an EdDSA token");
    assert_eq!(refusal(&verifier, &"a".repeat(1 << 20)).await, "not an EdDSA token");
}

#[tokio::test]
async fn another_algorithm_is_refused_whatever_the_signature() {
    let gateway = Signer::new("gateway", &RootSecret::generate());
    let verifier = believing(&gateway);
    let token = gateway.sign(&alice());
    let (header, rest) = token.split_once('.').unwrap();
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    for other in
        [header.replace("EdDSA", "none"), header.replace("EdDSA", "HS256"), header.replace('}', r#","crit":["b64"]}"#)]
    {
        let other = URL_SAFE_NO_PAD.encode(other);
        assert_eq!(refusal(&verifier, &format!("{other}.{rest}")).await, "not an EdDSA token");
    }
}

#[tokio::test]
async fn a_key_of_another_root_is_unknown() {
    let verifier = believing(&Signer::new("gateway", &RootSecret::generate()));
    let stranger = Signer::new("gateway", &RootSecret::generate());
    assert_eq!(refusal(&verifier, &stranger.sign(&alice())).await, "signed by an unknown key");
    let unknown = Signer::new("elsewhere", &RootSecret::generate());
    assert_eq!(refusal(&verifier, &unknown.sign(&alice())).await, "of an unknown issuer");
}

#[tokio::test]
async fn an_issuer_speaks_only_for_whom_it_may() {
    let root = RootSecret::generate();
    let (gateway, order) = (Signer::new("gateway", &root), Signer::new("/services/order", &root));
    let service = |name: &str| Principal { subject: format!("/services/{name}"), ..Principal::default() };

    let of_gateway = believing(&gateway);
    assert!(of_gateway.verify(&gateway.sign(&service("order"))).await.is_err());
    assert!(of_gateway.verify(&gateway.sign(&Principal::default())).await.is_err());

    let of_order = believing(&order);
    assert_eq!(of_order.verify(&order.sign_own()).await.unwrap(), service("order"));
    assert!(of_order.verify(&order.sign(&service("invoice"))).await.is_err());
    assert!(of_order.verify(&order.sign(&alice())).await.is_err());
}

#[tokio::test]
async fn a_token_ends_after_a_minute_and_five_seconds_of_leeway() {
    let root = RootSecret::generate();
    let token_of = |clock| Signer::with_clock("gateway", &root, clock).sign(&alice());
    let verifier = believing(&Signer::new("gateway", &root));
    assert!(verifier.verify(&token_of(|| OffsetDateTime::now_utc() - Duration::seconds(63))).await.is_ok());
    let late = token_of(|| OffsetDateTime::now_utc() - Duration::seconds(66));
    assert_eq!(refusal(&verifier, &late).await, "expired");
    assert!(verifier.verify(&token_of(|| OffsetDateTime::now_utc() + Duration::seconds(3))).await.is_ok());
    let early = token_of(|| OffsetDateTime::now_utc() + Duration::seconds(10));
    assert_eq!(refusal(&verifier, &early).await, "from the future");
}
