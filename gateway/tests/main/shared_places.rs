//! What gateways share, where that is no single server: on a Cluster, by TLS and as a user, and by Sentinels through a
//! failover.

use std::{fs, path::Path, time::Duration};

use testkit::{Certificates, Redis, RedisCluster, RedisOptions, RedisSentinels, Tls, eventually};

use crate::{
    idempotency::{BOUND, Till, before, pay},
    session::authenticator,
    shared::{log_in, mine, pair, passing, standing, stop, with_sessions_at},
};

/// Until the Sentinels have agreed, on a slow machine.
const FAILOVER: Duration = Duration::from_secs(60);

async fn cluster() -> (RedisCluster, Certificates, String) {
    let certificates = Certificates::make();
    let options = RedisOptions {
        tls: Some(Tls { certificates: certificates.clone(), mutual: false }),
        users: vec!["default off".to_owned(), "shop on >secret ~tp:* &tp:* +@all -@dangerous +info".to_owned()],
        ..RedisOptions::default()
    };
    let cluster = RedisCluster::start(0, options).await;
    let url = cluster.url().replace("rediss+cluster://", "rediss+cluster://shop:secret@");
    let url = format!("{url}?ca={}", certificates.authority().display());
    (cluster, certificates, url)
}

#[tokio::test]
async fn sessions_are_spread_over_a_cluster_and_found_wherever_they_are() {
    let ((cluster, _certificates, url), customers) = (cluster().await, authenticator().await);
    let gateways = pair(&with_sessions_at(&customers, &url)).await;
    let [one, two] = &gateways;
    let mut cookies = Vec::new();
    for _ in 0..12 {
        cookies.push(log_in(one).await);
    }
    for cookie in &cookies {
        assert_eq!(mine(two, cookie).await.body, "mine");
    }
    let with_some = cluster.nodes.iter().filter(|node| !node.command(&["KEYS", "tp:gw:session:*"]).is_empty());
    assert!(with_some.count() > 1, "twelve of them are on several nodes");

    let (mut listed, mut path) = (0, "/sessions".to_owned());
    loop {
        let page = two.ops(&path).await;
        listed += page["sessions"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/sessions?after={next}");
    }
    assert_eq!(listed, 12);

    assert_eq!(two.send("DELETE", "/session?all=true", &[("cookie", &cookies[0])], "").await.status, 204);
    for cookie in &cookies {
        assert_eq!(mine(one, cookie).await.status, 401);
    }
    stop(gateways).await;
}

/// By parts instead of a URL, as deploy/roles/*.yaml have it.
fn by_parts(cluster: &RedisCluster, certificates: &Certificates, folder: &Path) -> String {
    let (password, authority) = (folder.join("redis.password"), certificates.authority());
    fs::write(&password, "secret\n").unwrap();
    format!(
        "shared:\n  timeout: 10s\n  limit_timeout: 10s\n  \
         redis: {{url: '{}', user: shop, password_file: '{}', ca: '{}'}}\n",
        cluster.url(),
        password.display(),
        authority.display()
    )
}

#[tokio::test]
async fn limits_and_keys_count_once_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let ((cluster, certificates, _), till) = (cluster().await, Till::open().await);
    let (sections, [caller, _]) = before(&till, folder.path());
    let limited = "- match: {path: /}\n  authenticate: none\n  respond: {status: 200}\n  rate_limit:\n  \
                   - {requests: 10, per: 24h, key: client_address}\n  \
                   - {name: rate, rate: 1/s, burst: 100, key: route}\n";
    let shared = by_parts(&cluster, &certificates, folder.path());
    let gateways = pair(&format!("{shared}{sections}{limited}")).await;
    let [one, two] = &gateways;
    assert_eq!(passing(one, 5).await + passing(two, 3).await, 8);
    // A node that forgot its scripts is given them.
    for node in &cluster.nodes {
        node.command(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(passing(one, 8).await + passing(two, 8).await, 2);
    assert_eq!(pay(one, &caller, "/pay", "a", "10").await.body, "done 1");
    let again = pay(two, &caller, "/pay", "a", "10").await;
    assert_eq!((again.body.as_str(), again.header("idempotency-replayed").as_str()), ("done 1", "true"));
    stop(gateways).await;
}

#[tokio::test]
async fn a_session_outlives_a_failover() {
    let customers = authenticator().await;
    let mut primary = testkit::redis().await;
    let replica = primary.replica(RedisOptions::default()).await;
    let sentinels = RedisSentinels::watching(&primary, 1).await;
    let gateways = pair(&with_sessions_at(&customers, &sentinels.url())).await;
    let [one, two] = &gateways;
    let cookie = log_in(one).await;
    eventually("the replica has it", BOUND, async || has_a_session(&replica).then_some(())).await;
    primary.kill();
    for gateway in [one, two] {
        eventually("the session is there", FAILOVER, async || {
            (mine(gateway, &cookie).await.status == 200).then_some(())
        })
        .await;
        standing(gateway, "both are on the roll", |redis| redis["gateways"] == 2).await;
    }
    // The former primary comes back as a replica, and nobody is led to it.
    primary.restart().await;
    assert_eq!(mine(one, &cookie).await.body, "mine");
    stop(gateways).await;
}

fn has_a_session(redis: &Redis) -> bool {
    !redis.command(&["KEYS", "tp:gw:session:*"]).is_empty()
}
