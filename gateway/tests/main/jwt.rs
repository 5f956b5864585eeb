//! Tokens of others: which are believed, which are not, and what becomes of that when their issuer is away.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use principal::{Issuer, Keys, Principal, Verifier};
use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    issuer::{Answer, ISSUER, Key, Server, claims, claims_with, key_set, seconds},
    running::{Answer as Answered, Running, echo},
};

const BOUND: Duration = Duration::from_secs(30);
const ROUTES: &str = "routes:\n- {match: {path: /mine}, authenticate: required, respond: {status: 200, body: mine}}\n\
                      - {match: {path: /open}, respond: {status: 200, body: anyone}}\n";

async fn ask(gateway: &Running, token: &str) -> Answered {
    let bearer = format!("Bearer {token}");
    gateway.send("GET", "/mine", &[("authorization", &bearer)], "").await
}

async fn accepted(gateway: &Running, token: &str) -> bool {
    let answer = ask(gateway, token).await;
    assert!([200, 401].contains(&answer.status.as_u16()), "{answer:?}");
    answer.status == 200
}

/// Refused with its reason, as RFC 6750 has it.
fn assert_refused(answer: &Answered, code: &str, what: &str) {
    assert_eq!(answer.status, 401, "{what}: {answer:?}");
    let problem = answer.problem();
    assert_eq!(problem["type"], "https://turnpike.dev/problems/unauthenticated", "{what}");
    let challenge = answer.header("www-authenticate");
    let expected = format!(
        "Bearer realm=\"turnpike\", error=\"{code}\", error_description=\"{}\"",
        problem["detail"].as_str().unwrap()
    );
    assert_eq!(challenge, expected, "{what}");
}

#[tokio::test]
async fn a_token_makes_its_caller_known_to_the_upstream_and_goes_no_further() {
    let keys = [Key::rsa("r"), Key::p256("e"), Key::p384("f"), Key::ed("d")];
    let issuer = Server::start(Answer::Keys(key_set(&keys.each_ref()))).await;
    let gateway = Running::start(&format!(
        "{}upstreams: {{echo: {{endpoints: ['{}']}}}}\n\
         routes: [{{match: {{path: /mine}}, authenticate: required, proxy: echo}}]\n",
        issuer.section(", subject_prefix: users/, claims: [tenant]"),
        echo().await,
    ))
    .await;
    let jwks = gateway.ops("/.well-known/jwks.json").await;
    let verifier = Verifier::new(vec![Issuer { name: "gateway".to_owned(), keys: Keys::Inline(jwks) }]);
    let claims = claims_with(json!({"tenant": "t", "email": "not@kept.example"}));
    let mut tokens: Vec<_> = keys.iter().map(|key| key.sign(&claims)).collect();
    for algorithm in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        tokens.push(keys[0].sign_as(&json!({"alg": algorithm, "kid": "r", "typ": "at+JWT"}), &claims));
    }
    for (token, scheme) in tokens.iter().zip(["Bearer", "bearer", "BEARER", "beaReR"].iter().cycle()) {
        let answer = gateway.send("GET", "/mine", &[("authorization", &format!("{scheme} {token}"))], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["headers"]["authorization"], Value::Null);
        let principal = verifier.verify(told["headers"]["turnpike-principal"].as_str().unwrap()).await.unwrap();
        let expected = Principal {
            subject: "users/1".into(),
            scopes: vec!["read".into(), "write".into()],
            claims: [("tenant".to_owned(), "t".to_owned())].into(),
        };
        assert_eq!(principal, expected);
    }
    assert_eq!(issuer.asked(), 1, "the keys are fetched once");
    gateway.stop().await;
}

/// A token with this header and payload, "signed" with a secret by HMAC-SHA256.
fn symmetric(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes())))
}

fn attacks(rsa: &Key, ec: &Key) -> Vec<(String, String)> {
    let stranger = Key::rsa("r");
    let (good, set) = (claims(), key_set(&[rsa, ec]).to_string());
    let header = |changes: Value| {
        let mut header = json!({"alg": "RS256", "kid": "r"});
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };
    let signed = rsa.sign(&good);
    let (message, signature) = signed.rsplit_once('.').unwrap();
    let (head, payload) = message.split_once('.').unwrap();
    let mut attacks: Vec<(String, String)> = Vec::new();
    let mut attack = |name: &str, token: String| attacks.push((name.to_owned(), token));

    for none in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": none, "kid": "r"}).to_string());
        attack(&format!("alg {none}, no signature"), format!("{unsigned}.{payload}."));
        attack(&format!("alg {none}, a signature of another"), format!("{unsigned}.{payload}.{signature}"));
    }
    for algorithm in ["HS256", "HS384", "HS512"] {
        for (name, secret) in
            [("the public key", rsa.as_a_secret()), ("the key set", set.clone().into_bytes()), ("nothing", Vec::new())]
        {
            let confused = symmetric(&header(json!({"alg": algorithm})), &good, &secret);
            attack(&format!("{algorithm} with {name} as its secret"), confused);
        }
    }
    attack("symmetric, but says RS256", symmetric(&header(json!({})), &good, &rsa.as_a_secret()));
    for kid in ["../../../../dev/null", "r' OR '1'='1", "r\u{0}", "|sleep 5", "http://evil.example/jwks", "R", ""] {
        attack(&format!("kid {kid:?}"), rsa.sign_as(&header(json!({"kid": kid})), &good));
        attack(&format!("kid {kid:?}, of a stranger"), stranger.sign_as(&header(json!({"kid": kid})), &good));
    }
    attack("a kid without end", rsa.sign_as(&header(json!({"kid": "r".repeat(3000)})), &good));
    attack("a kid that is no text", rsa.sign_as(&header(json!({"kid": {"r": 1}})), &good));
    attack("a key in the header", stranger.sign_as(&header(json!({"jwk": stranger.public()})), &good));
    let elsewhere = json!({"jku": "https://evil.example/jwks", "x5u": "https://evil.example/x"});
    attack("the URL of a key in the header", stranger.sign_as(&header(elsewhere), &good));
    attack("a stranger's signature", stranger.sign(&good));
    attack("an extension that is critical", rsa.sign_as(&header(json!({"crit": ["exp"], "exp": 1})), &good));
    attack("a critical extension that is none", rsa.sign_as(&header(json!({"crit": []})), &good));
    attack("an unencoded payload", rsa.sign_as(&header(json!({"b64": false})), &good));
    attack("a token for logging out", rsa.sign_as(&header(json!({"typ": "logout+jwt"})), &good));
    attack("another key's algorithm", rsa.sign_as(&header(json!({"alg": "ES256"})), &good));
    attack("another key", rsa.sign_as(&header(json!({"kid": "e"})), &good));
    attack("an algorithm that is not allowed", rsa.sign_as(&header(json!({"alg": "RS512"})), &good));
    let zero = URL_SAFE_NO_PAD.encode([0; 64]);
    let of_ec = ec.sign(&good);
    attack("a signature of zeros", format!("{}.{zero}", of_ec.rsplit_once('.').unwrap().0));
    attack("no signature", format!("{message}."));
    attack("half a signature", format!("{message}.{}", &signature[..signature.len() / 2]));
    let other = URL_SAFE_NO_PAD.encode(claims_with(json!({"sub": "admin"})).to_string());
    attack("another payload", format!("{head}.{other}.{signature}"));
    attack("padding", format!("{head}.{payload}.{signature}=="));
    attack("a part too many", format!("{signed}.x"));
    attack("a part too few", message.to_owned());
    attack("five parts", format!("{head}.{payload}.{signature}.x.y"));
    attack("nothing but dots", "..".to_owned());
    attack("no token at all", "hello".to_owned());
    let now = seconds();
    for (name, changes) in [
        ("expired", json!({"exp": now - 31})),
        ("no end", json!({"exp": null})),
        ("an end that is text", json!({"exp": (now + 60).to_string()})),
        ("an end beyond all time", json!({"exp": 1e300})),
        ("good for ten years", json!({"exp": now + 10 * 365 * 86_400})),
        ("not good yet", json!({"nbf": now + 3600})),
        ("from the future", json!({"iat": now + 3600, "exp": now + 7200})),
        ("another audience", json!({"aud": "other"})),
        ("several other audiences", json!({"aud": ["other", "ap", "apis"]})),
        ("no audience", json!({"aud": null})),
        ("another issuer", json!({"iss": "https://evil.example"})),
        ("nearly our issuer", json!({"iss": format!("{ISSUER}/")})),
        ("no issuer", json!({"iss": null})),
        ("nobody's", json!({"sub": null})),
        ("a service's", json!({"sub": "/services/billing"})),
    ] {
        attack(name, rsa.sign(&claims_with(changes)));
    }
    attacks
}

#[tokio::test]
async fn every_attack_is_a_401_that_says_why() {
    let (rsa, ec) = (Key::rsa("r"), Key::p256("e"));
    let issuer = Server::start(Answer::Keys(key_set(&[&rsa, &ec]))).await;
    let gateway = Running::start(&format!("{}{ROUTES}", issuer.section(", algorithms: [RS256, ES256]"))).await;
    let good = rsa.sign(&claims());
    assert!(accepted(&gateway, &good).await && accepted(&gateway, &ec.sign(&claims())).await);
    for (name, token) in attacks(&rsa, &ec) {
        assert_refused(&ask(&gateway, &token).await, "invalid_token", &name);
        let open = gateway.send("GET", "/open", &[("authorization", &format!("Bearer {token}"))], "").await;
        assert_eq!(open.status, 401, "{name}: refused even where none is needed");
    }
    assert!(
        issuer.asked() <= 2,
        "asked {} times: unknown keys ask for new ones at most once in a while",
        issuer.asked()
    );

    let bearer = format!("Bearer {good}");
    let own = ("authorization", bearer.as_str());
    for (name, headers) in [
        ("the token twice", vec![own, own]),
        ("a token and a key", vec![own, ("x-api-key", "tk_a_b")]),
        ("a token and a password", vec![own, ("authorization", "Basic YTpi")]),
        ("two keys", vec![("x-api-key", "tk_a_b"), ("x-api-key", "tk_a_b")]),
        ("two in one", vec![("authorization", &*Box::leak(format!("{bearer}, {bearer}").into_boxed_str()))]),
        ("nothing after Bearer", vec![("authorization", "Bearer")]),
        ("spaces after Bearer", vec![("authorization", "Bearer    ")]),
    ] {
        assert_refused(&gateway.send("GET", "/mine", &headers, "").await, "invalid_request", name);
    }
    let nothing = gateway.get("/mine").await;
    assert_eq!(
        (nothing.status.as_u16(), nothing.header("www-authenticate").as_str()),
        (401, "Bearer realm=\"turnpike\"")
    );
    assert!(accepted(&gateway, &good).await, "an honest caller meanwhile is let in");
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_and_a_token_are_told_apart_by_their_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let text = gateway::keys::new(&file, "operators/1", &[], None).unwrap();
    let key = Key::ed("d");
    let issuer = Server::start(Answer::Keys(key_set(&[&key]))).await;
    let section = issuer.section("").replace("{jwt:", &format!("{{api_keys: {{file: '{}'}}, jwt:", file.display()));
    let gateway = Running::start(&format!("{section}{ROUTES}")).await;
    assert!(accepted(&gateway, &text).await && accepted(&gateway, &key.sign(&claims())).await);
    assert_refused(&ask(&gateway, "tk_a_b").await, "invalid_token", "a key that is none");
    gateway.stop().await;
}

#[tokio::test]
async fn a_rotated_key_is_found_at_once_and_one_that_is_gone_is_believed_no_longer() {
    let (old, new) = (Key::ed("old"), Key::ed("new"));
    let issuer = Server::start(Answer::Keys(key_set(&[&old]))).await;
    let gateway = Running::start(&format!("{}{ROUTES}", issuer.section(""))).await;
    let (first, second) = (old.sign(&claims()), new.sign(&claims()));
    assert!(accepted(&gateway, &first).await);
    issuer.says(Answer::Keys(key_set(&[&new])));
    // Many at once: they wait for one fetch.
    let many = futures_util::future::join_all((0..20).map(|_| accepted(&gateway, &second))).await;
    assert_eq!((many, issuer.asked()), (vec![true; 20], 2));
    assert!(!accepted(&gateway, &first).await, "at hand or not, its key is gone");
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_keys_have_the_issuer_asked_once_in_a_while() {
    let key = Key::ed("d");
    let issuer = Server::start(Answer::Keys(key_set(&[&key]))).await;
    let gateway = Running::start(&format!("{}{ROUTES}", issuer.section(", unknown_key_cooldown: 2s"))).await;
    let stranger = |id: usize| Key::ed(&format!("stranger {id}")).sign(&claims());
    let start = Instant::now();
    for id in 0..50 {
        assert!(!accepted(&gateway, &stranger(id)).await);
    }
    let most = 2 + start.elapsed().as_secs() as usize / 2;
    assert!((2..=most).contains(&issuer.asked()), "{} of {most}", issuer.asked());
    // The cooldown over, a new one is worth asking for; one that was asked for before is not.
    let before = issuer.asked();
    let fresh = std::cell::Cell::new(100);
    eventually("the cooldown is over", BOUND, async || {
        assert!(!accepted(&gateway, &stranger(0)).await);
        assert_eq!(issuer.asked(), before, "it is known to be unknown");
        assert!(!accepted(&gateway, &stranger(fresh.replace(fresh.get() + 1))).await);
        (issuer.asked() == before + 1).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_starts_while_the_issuer_is_away_and_finds_it_later() {
    let key = Key::ed("d");
    let issuer = Server::start(Answer::Status(500)).await;
    let gateway = Running::start(&format!("{}{ROUTES}", issuer.section(""))).await;
    let token = key.sign(&claims());
    let refused = ask(&gateway, &token).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").as_str()), (503, "5"), "{refused:?}");
    assert_eq!(refused.problem()["type"], "https://turnpike.dev/problems/unavailable");
    assert_eq!(gateway.get("/open").await.status, 200, "who needs no token is served");
    let shown = &gateway.ops("/jwks").await["issuers"][0];
    assert!(shown["error"].as_str().unwrap().contains("500"), "{shown}");
    issuer.says(Answer::Keys(key_set(&[&key])));
    eventually("the keys are found", BOUND, async || (ask(&gateway, &token).await.status == 200).then_some(())).await;
    let shown = &gateway.ops("/jwks").await["issuers"][0];
    assert_eq!(
        (&shown["issuer"], &shown["error"], &shown["keys"][0]["kid"]),
        (&ISSUER.into(), &Value::Null, &"d".into())
    );
    assert_eq!(shown["keys"][0]["algorithms"], json!(["EdDSA"]));
    gateway.stop().await;
}

#[tokio::test]
async fn keys_outlive_an_issuer_that_fails_but_not_for_ever() {
    let key = Key::ed("d");
    let issuer = Server::start(Answer::Keys(key_set(&[&key]))).await;
    let gateway = Running::start(&format!("{}{ROUTES}", issuer.section(", refresh: 1s, stale: 12s"))).await;
    let token = || key.sign(&claims_with(json!({"jti": rand::random::<u64>().to_string()})));
    assert!(accepted(&gateway, &token()).await);
    for bad in [
        Answer::Status(503),
        Answer::Text("<html>sorry</html>".to_owned()),
        Answer::Text("{\"keys\": []}".to_owned()),
        Answer::Text(format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(1 << 20))),
    ] {
        issuer.says(bad);
        let before = issuer.asked();
        eventually("it is asked again", BOUND, async || (issuer.asked() > before + 1).then_some(())).await;
        // Whether the set is still good is a matter of time alone.
        issuer.says(Answer::Keys(key_set(&[&key])));
        eventually("it is well again", BOUND, async || {
            gateway.ops("/jwks").await["issuers"][0]["error"].is_null().then_some(())
        })
        .await;
        assert!(accepted(&gateway, &token()).await);
    }
    issuer.says(Answer::Never);
    assert!(accepted(&gateway, &token()).await, "a slow issuer holds nobody up");
    eventually("what is too old is good no longer", BOUND, async || {
        (ask(&gateway, &token()).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/open").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn keys_may_come_from_a_file_which_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (file, keys) = (folder.path().join("gateway.yaml"), folder.path().join("keys.json"));
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    std::fs::write(&keys, key_set(&[&old]).to_string()).unwrap();
    let section =
        format!("authentication: {{jwt: {{issuer: '{ISSUER}', audience: [api, x], jwks_file: keys.json}}}}\n");
    std::fs::write(&file, format!("{}{section}{ROUTES}", crate::running::LISTENER)).unwrap();
    let gateway = Running::watching(&file).await;
    assert!(accepted(&gateway, &old.sign(&claims())).await && !accepted(&gateway, &new.sign(&claims())).await);
    std::fs::write(&keys, key_set(&[&new]).to_string()).unwrap();
    eventually("the new key counts", BOUND, async || accepted(&gateway, &new.sign(&claims())).await.then_some(()))
        .await;
    assert!(!accepted(&gateway, &old.sign(&claims())).await);
    // A file that makes no sense changes nothing.
    std::fs::write(&keys, "{}").unwrap();
    eventually("the reload fails", BOUND, async || {
        (gateway.ops("/config").await["last_reload"]["ok"] == false).then_some(())
    })
    .await;
    assert!(accepted(&gateway, &new.sign(&claims())).await);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_known_of_an_issuer_outlives_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    let key = Key::ed("d");
    let issuer = Server::start(Answer::Keys(key_set(&[&key]))).await;
    let write = |more: &str| {
        std::fs::write(&file, format!("{}{}{ROUTES}", crate::running::LISTENER, issuer.section(more))).unwrap();
    };
    write("");
    let gateway = Running::watching(&file).await;
    let token = key.sign(&claims());
    assert!(accepted(&gateway, &token).await);
    issuer.says(Answer::Status(500));
    write(", required_claims: [iat]");
    let generation = async |wanted: u64| {
        eventually("the change is in force", BOUND, async || {
            (gateway.ops("/config").await["generation"] == wanted).then_some(())
        })
        .await;
    };
    generation(2).await;
    assert!(accepted(&gateway, &token).await, "by the keys that were known");
    write(", required_claims: [tenant]");
    generation(3).await;
    assert!(!accepted(&gateway, &token).await, "what was verified by other rules counts no longer");
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_at_hand_ends_when_it_says() {
    let key = Key::ed("d");
    let issuer = Server::start(Answer::Keys(key_set(&[&key]))).await;
    let gateway = Running::start(&format!("{}{ROUTES}", issuer.section(", leeway: 0s"))).await;
    let token = key.sign(&claims_with(json!({"exp": seconds() + 8})));
    assert!(accepted(&gateway, &token).await && accepted(&gateway, &token).await);
    assert_eq!(gateway.ops("/jwks").await["tokens_at_hand"], 1);
    eventually("it is over", BOUND, async || (!accepted(&gateway, &token).await).then_some(())).await;
    gateway.stop().await;
}
