//! Two gateways with one Redis between them.

use std::time::{Duration, Instant};

use testkit::{Aof, Redis, RedisOptions, eventually};

use crate::{
    idempotency::{BOUND, Till, before, pay},
    library::Library,
    running::{Answer, Connection, Running},
    session::{GOOD, authenticator},
};

/// Patient, so that a slow machine isn't taken for a slow Redis.
fn sharing(redis: &Redis) -> String {
    sharing_at(&redis.url())
}

pub fn sharing_at(url: &str) -> String {
    format!("shared: {{redis: '{url}', timeout: 10s, limit_timeout: 10s}}\n")
}

pub async fn pair(sections: &str) -> [Running; 2] {
    let gateways = [Running::start(sections).await, Running::start(sections).await];
    both_on_the_roll(&gateways).await;
    gateways
}

async fn both_on_the_roll(gateways: &[Running; 2]) {
    for gateway in gateways {
        standing(gateway, "both are on the roll", |redis| redis["gateways"] == 2).await;
    }
}

pub async fn standing(gateway: &Running, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
    eventually(what, BOUND, async || wanted(&gateway.ops("/shared").await["redis"]).then_some(())).await;
}

pub async fn stop(gateways: [Running; 2]) {
    for gateway in gateways {
        gateway.stop().await;
    }
}

async fn volatile() -> Redis {
    Redis::start(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await
}

const CERTAIN: &str = "routes:\n- {match: {path: /open}, respond: {status: 200, body: anyone}}\n\
                       - {match: {path: /mine}, authenticate: required, respond: {status: 200, body: mine}}\n";

fn with_sessions(customers: &Library, redis: &Redis) -> String {
    with_sessions_at(customers, &redis.url())
}

pub fn with_sessions_at(customers: &Library, url: &str) -> String {
    format!(
        "{}upstreams: {{customers: {{endpoints: ['{}'], protocol: grpc}}}}\n\
         authentication: {{session: {{upstream: customers}}}}\n{CERTAIN}",
        sharing_at(url),
        customers.address,
    )
}

/// Logs in and returns the cookie.
pub async fn log_in(gateway: &Running) -> String {
    let answer = gateway.send("POST", "/session", &[("content-type", "application/json")], GOOD).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

pub async fn mine(gateway: &Running, cookie: &str) -> Answer {
    gateway.send("GET", "/mine", &[("cookie", cookie)], "").await
}

#[tokio::test]
async fn a_session_is_known_to_both_and_ends_on_both() {
    let (redis, customers) = (testkit::redis().await, authenticator().await);
    let gateways = pair(&with_sessions(&customers, &redis)).await;
    let [one, two] = &gateways;
    let cookie = log_in(one).await;
    for gateway in [one, two, one, two] {
        assert_eq!(mine(gateway, &cookie).await.body, "mine");
    }
    let who = two.send("GET", "/session", &[("cookie", &cookie)], "").await;
    assert!(who.body.contains("customers/1"), "{who:?}");

    assert_eq!(two.send("DELETE", "/session", &[("cookie", &cookie)], "").await.status, 204);
    for gateway in [one, two] {
        assert_eq!(mine(gateway, &cookie).await.status, 401);
    }
    stop(gateways).await;
}

#[tokio::test]
async fn what_redis_holds_of_a_session_opens_nothing_and_ends_by_itself() {
    let (redis, customers) = (testkit::redis().await, authenticator().await);
    let gateway = Running::start(&with_sessions(&customers, &redis)).await;
    let cookie = log_in(&gateway).await;
    let secret = cookie.split_once('=').unwrap().1;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert!(keys.iter().all(|key| key.starts_with("tp:gw:") && !key.contains(secret)), "{keys:?}");
    let session = keys.iter().find(|key| key.starts_with("tp:gw:session:")).unwrap();
    let (record, left): (String, u64) =
        redis::pipe().get(session).ttl(session).query_async(&mut connection).await.unwrap();
    assert!(!record.contains(secret), "{record}");
    assert!((1700..=1800).contains(&left), "{left}");
    gateway.stop().await;
}

#[tokio::test]
async fn while_redis_is_away_who_is_signed_in_waits_and_others_do_not() {
    let (mut redis, customers) = (testkit::redis().await, authenticator().await);
    let gateways = pair(&with_sessions(&customers, &redis)).await;
    let [one, two] = &gateways;
    let cookie = log_in(one).await;
    redis.kill();
    let refused = mine(two, &cookie).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").as_str()), (503, "1"));
    assert_eq!(refused.problem()["type"], "https://turnpike.dev/problems/unavailable");
    let log_in_now = two.send("POST", "/session", &[("content-type", "application/json")], GOOD).await;
    assert_eq!(log_in_now.status, 503);
    assert_eq!(two.get("/open").await.body, "anyone");
    assert_eq!(two.get("/mine").await.status, 401, "no cookie, no question");

    redis.restart().await;
    for gateway in [one, two] {
        standing(gateway, "Redis is back", |redis| redis["reachable"] == true).await;
        assert_eq!(mine(gateway, &cookie).await.body, "mine", "the session is still there");
    }
    stop(gateways).await;
}

#[tokio::test]
async fn a_redis_that_does_not_answer_holds_nobody_up_for_long() {
    let (redis, customers) = (volatile().await, authenticator().await);
    let sections = with_sessions(&customers, &redis).replace("timeout: 10s, limit_timeout: 10s", "timeout: 2s");
    let gateway = Running::start(&sections).await;
    let cookie = log_in(&gateway).await;
    redis.pause();
    assert_eq!(mine(&gateway, &cookie).await.status, 503);
    // From then on it is known.
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(mine(&gateway, &cookie).await.status, 503);
    }
    assert!(start.elapsed() < Duration::from_secs(18), "twenty seconds, had each waited");
    redis.resume();
    eventually("the session is back", BOUND, async || (mine(&gateway, &cookie).await.status == 200).then_some(()))
        .await;
    gateway.stop().await;
}

fn limited(redis: &Redis, limits: &str) -> String {
    format!("{}routes:\n- match: {{path: /}}\n  respond: {{status: 200}}\n  rate_limit:\n{limits}", sharing(redis))
}

/// How many of so many requests pass.
pub async fn passing(gateway: &Running, requests: usize) -> usize {
    let mut connection = Connection::open(gateway.address).await;
    let mut passed = 0;
    for _ in 0..requests {
        passed += usize::from(connection.send("GET", "/", &[], "").await.status == 200);
    }
    passed
}

#[tokio::test]
async fn a_hundred_pass_on_both_together() {
    let redis = volatile().await;
    let sections = limited(&redis, "  - {requests: 100, per: 24h, key: client_address}\n");
    let gateways = pair(&sections).await;
    let [one, two] = &gateways;
    let first = one.get("/").await;
    assert_eq!(first.header("ratelimit-policy"), "\"route-client_address\";q=100;w=86400");
    assert!(first.header("ratelimit").starts_with("\"route-client_address\";r=99;t="), "{first:?}");
    let (a, b, c, d) = tokio::join!(passing(one, 40), passing(two, 40), passing(one, 40), passing(two, 40));
    assert_eq!(1 + a + b + c + d, 100);
    for gateway in [one, two] {
        let refused = gateway.get("/").await;
        assert_eq!(refused.status, 429);
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((86_000..=88_000).contains(&wait), "{wait}");
        assert!(refused.header("ratelimit").contains(";r=0;"), "{refused:?}");
    }
    stop(gateways).await;
}

#[tokio::test]
async fn a_window_slides_by_the_clock_of_redis() {
    let redis = volatile().await;
    let gateways = pair(&limited(&redis, "  - {requests: 5, per: 2s, key: route}\n")).await;
    let [one, two] = &gateways;
    let start = Instant::now();
    let mut admitted = Vec::new();
    while admitted.len() < 15 {
        for gateway in [one, two] {
            let asked = Instant::now();
            if gateway.get("/").await.status == 200 {
                admitted.push((asked, Instant::now()));
            }
        }
        assert!(start.elapsed() < BOUND);
    }
    // Any six take longer than the window, whichever moment of theirs was the one that counted.
    for six in admitted.windows(6) {
        let longest = six[5].1 - six[0].0;
        assert!(longest >= Duration::from_secs(2), "six in {longest:?}");
    }
    stop(gateways).await;
}

#[tokio::test]
async fn a_burst_is_one_for_both_and_a_refused_request_uses_up_nothing() {
    let redis = volatile().await;
    let limits = "  - {name: rate, rate: 1/s, burst: 30, key: 'header:x-tenant'}\n\
                  \x20 - {name: window, requests: 40, per: 24h, key: client_address}\n";
    let gateways = pair(&limited(&redis, limits)).await;
    let [one, two] = &gateways;
    let of = async |gateway: &Running, tenant: &str, requests: usize| {
        let mut passed = 0;
        for _ in 0..requests {
            passed += usize::from(gateway.send("GET", "/", &[("x-tenant", tenant)], "").await.status == 200);
        }
        passed
    };
    let start = Instant::now();
    let passed = of(one, "a", 20).await + of(two, "a", 20).await;
    let refilled = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    assert!((30..=30 + refilled).contains(&passed), "{passed} in {:?}", start.elapsed());
    // What the rate refused is not in the window.
    assert_eq!(of(two, "b", 20).await, 40 - passed);
    stop(gateways).await;
}

#[tokio::test]
async fn without_redis_each_has_its_share_and_counts_what_it_let_pass() {
    let mut redis = volatile().await;
    let gateways = pair(&limited(&redis, "  - {requests: 100, per: 24h, key: client_address}\n")).await;
    let [one, two] = &gateways;
    assert_eq!(passing(one, 20).await, 20);
    both_on_the_roll(&gateways).await;
    redis.kill();
    assert_eq!(passing(one, 60).await, 30, "half of it, and 20 are gone");
    assert_eq!(passing(two, 60).await, 50);
    let refused = two.get("/").await;
    assert_eq!(refused.status, 429);
    refused.problem();
    assert!(telemetry::render().contains("turnpike_gateway_limited_by_share_total"));
    standing(one, "it shows", |redis| redis["limits_together"] == false).await;

    // A server that forgot everything is told what passed without it, with each one's first request.
    redis.restart().await;
    for gateway in [one, two] {
        standing(gateway, "counted together again", |redis| redis["limits_together"] == true).await;
    }
    assert_eq!(passing(one, 1).await + passing(two, 1).await, 2);
    assert_eq!(passing(one, 60).await + passing(two, 60).await, 100 - 30 - 50 - 2);
    stop(gateways).await;
}

#[tokio::test]
async fn a_redis_that_comes_and_goes_does_not_open_the_gate_each_time() {
    let mut redis = testkit::redis().await;
    let limits = "  - {name: window, requests: 40, per: 24h, key: client_address}\n\
                  \x20 - {name: rate, rate: 1/s, burst: 10000, key: route}\n";
    let gateway = Running::start(&limited(&redis, limits)).await;
    let mut passed = 0;
    for _ in 0..3 {
        passed += passing(&gateway, 10).await;
        redis.kill();
        passed += passing(&gateway, 10).await;
        standing(&gateway, "it is away", |redis| redis["limits_together"] == false).await;
        redis.restart().await;
        standing(&gateway, "it is back", |redis| redis["limits_together"] == true).await;
    }
    assert_eq!(passed, 40);
    gateway.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_locks_nobody_out() {
    let redis = volatile().await;
    let limits = "  - {name: window, requests: 5, per: 2s, key: client_address}\n\
                  \x20 - {name: rate, rate: 2/s, burst: 6, key: route}\n";
    let gateway = Running::start(&limited(&redis, limits)).await;
    assert_eq!(passing(&gateway, 5).await, 5);
    // What was counted is an hour ahead, as if the clock had been.
    let ahead = "for _, key in ipairs(redis.call('KEYS', 'tp:gw:limit:*')) do
                   if redis.call('TYPE', key).ok == 'hash' then
                     local parts = redis.call('HGETALL', key)
                     for p = 1, #parts, 2 do
                       redis.call('HDEL', key, parts[p])
                       redis.call('HSET', key, string.format('%.0f', parts[p] + 3600 * 32), 5)
                     end
                   else
                     redis.call('SET', key, string.format('%.3f', redis.call('GET', key) + 3600 * 1000000))
                   end
                   redis.call('PERSIST', key)
                 end";
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::Script::new(ahead).invoke_async::<_, ()>(&mut connection).await.unwrap();
    assert_eq!(passing(&gateway, 1).await, 0, "the strict side");
    eventually("the window is over", BOUND, async || (passing(&gateway, 1).await == 1).then_some(())).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_late_holds_no_limit_up() {
    let redis = volatile().await;
    let sections = limited(&redis, "  - {requests: 10, per: 24h, key: client_address}\n");
    let gateway = Running::start(&sections.replace("limit_timeout: 10s", "limit_timeout: 20ms")).await;
    assert_eq!(passing(&gateway, 4).await, 4);
    redis.pause();
    let start = Instant::now();
    assert_eq!(passing(&gateway, 10).await, 6, "the share of one that is alone is all of it, and 4 are gone");
    assert!(start.elapsed() < Duration::from_secs(5), "half of what Redis may take for anything else");
    standing(&gateway, "it is only late", |redis| redis["limits_together"] == false && redis["reachable"] == true)
        .await;
    redis.resume();
    standing(&gateway, "in time again", |redis| redis["limits_together"] == true).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_limit_may_be_each_gateways_own() {
    let redis = volatile().await;
    let gateways = pair(&limited(&redis, "  - {requests: 5, per: 24h, key: route, shared: false}\n")).await;
    for gateway in &gateways {
        assert_eq!(passing(gateway, 10).await, 5);
    }
    stop(gateways).await;
}

#[tokio::test]
async fn who_leaves_is_off_the_roll() {
    let redis = volatile().await;
    let [one, two] = pair(&limited(&redis, "  - {requests: 5, per: 24h, key: route}\n")).await;
    one.stop().await;
    standing(&two, "one is left", |redis| redis["gateways"] == 1).await;
    two.stop().await;
}

#[tokio::test]
async fn a_gateway_starts_without_redis_and_finds_it_later() {
    let mut redis = volatile().await;
    redis.kill();
    let gateway = Running::start(&limited(&redis, "  - {requests: 5, per: 24h, key: route}\n")).await;
    assert_eq!(passing(&gateway, 10).await, 5);
    redis.restart().await;
    standing(&gateway, "Redis is found", |redis| redis["limits_together"] == true).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_one_gateway_is_at_or_has_done_the_other_knows() {
    let folder = tempfile::tempdir().unwrap();
    let (redis, till) = (testkit::redis().await, Till::open().await);
    let (sections, [caller, _]) = before(&till, folder.path());
    let gateways = pair(&format!("{}{sections}", sharing(&redis))).await;
    let [one, two] = &gateways;
    let (first, ()) = tokio::join!(pay(one, &caller, "/pay?wait", "a", "10"), async {
        eventually("the first is under way", BOUND, async || (till.asked() == 1).then_some(())).await;
        assert_eq!(pay(two, &caller, "/pay?wait", "a", "10").await.status, 409);
        till.leave.add_permits(1);
    });
    assert_eq!(first.status, 201);
    let second = pay(two, &caller, "/pay?wait", "a", "10").await;
    assert_eq!((second.body.as_str(), second.header("idempotency-replayed").as_str()), ("done 1", "true"));
    assert_eq!(second.header("location"), "/things/1");
    assert_eq!(pay(two, &caller, "/pay?wait", "a", "11").await.status, 422);
    assert_eq!(pay(two, &caller, "/pay?refuse", "b", "10").await.status, 400);
    assert_eq!(pay(one, &caller, "/pay?refuse", "b", "10").await.header("idempotency-replayed"), "");
    assert_eq!(till.asked(), 3);
    stop(gateways).await;
}

#[tokio::test]
async fn of_many_at_once_on_both_one_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (redis, till) = (volatile().await, Till::open().await);
    let (sections, [caller, _]) = before(&till, folder.path());
    let gateways = pair(&format!("{}{sections}", sharing(&redis))).await;
    for round in ["a", "b", "c"] {
        let asking = (0..20).map(|number| pay(&gateways[number % 2], &caller, "/pay", round, "10"));
        for answer in futures_util::future::join_all(asking).await {
            assert!([201, 409].contains(&answer.status.as_u16()), "{answer:?}");
        }
    }
    assert_eq!(till.asked(), 3);
    stop(gateways).await;
}

#[tokio::test]
async fn a_key_outlives_redis_and_without_redis_nothing_is_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (mut redis, till) = (testkit::redis().await, Till::open().await);
    let (sections, [caller, _]) = before(&till, folder.path());
    let gateway = Running::start(&format!("{}{sections}", sharing(&redis))).await;
    assert_eq!(pay(&gateway, &caller, "/pay", "a", "10").await.body, "done 1");
    redis.kill();
    let refused = pay(&gateway, &caller, "/pay", "a", "10").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").as_str()), (503, "1"));
    redis.restart().await;
    standing(&gateway, "Redis is back", |redis| redis["reachable"] == true).await;
    let repeated = pay(&gateway, &caller, "/pay", "a", "10").await;
    assert_eq!((repeated.body.as_str(), till.asked()), ("done 1", 1));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_left_of_a_key_counts_for_all_and_so_does_its_reset() {
    let redis = volatile().await;
    let limits = "  - {name: window, requests: 9, per: 24h, key: [client_address, route], cost: 2}\n\
                  \x20 - {name: rate, rate: 1/s, burst: 100, key: client_address}\n";
    let gateways = pair(&limited(&redis, limits)).await;
    let [one, two] = &gateways;
    assert_eq!(passing(one, 2).await + passing(two, 1).await, 3);
    assert_eq!(passing(two, 1).await, 1, "8 of 9");
    let refused = one.get("/").await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("ratelimit").starts_with("\"window\";r=1;"), "{refused:?}");
    let key = "/limits/key?limit=window&key=127.0.0.1&key=/";
    let found = two.ops(key).await;
    assert_eq!(found["remaining_together"], 1, "{found}");
    assert!(one.ops("/limits/key?limit=rate&key=127.0.0.1").await["remaining_together"].as_u64().unwrap() >= 96);
    let reset = http::Request::delete(key).body(axum::body::Body::empty()).unwrap();
    assert_eq!(tower::ServiceExt::oneshot(two.ops.clone(), reset).await.unwrap().status(), 200);
    assert_eq!(passing(one, 5).await, 4);
    stop(gateways).await;
}
