//! Services that are called within TLS. The service is a gateway too, with a listener that asks who calls.

use std::time::Duration;

use tempfile::TempDir;

use crate::{
    running::Running,
    tls::{Authority, put},
};

const BOUND: Duration = Duration::from_secs(20);

/// A folder with an authority, a service's certificate and the gateway's own.
fn folder() -> (TempDir, Authority) {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("inner"));
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    put(folder.path(), "service", &authority.leaf(&["service.test"]));
    put(folder.path(), "own", &authority.leaf(&["gateway.test"]));
    (folder, authority)
}

/// The service: answers who shows a certificate of the authority.
async fn service(folder: &TempDir) -> Running {
    let text = "listeners: [{address: '127.0.0.1:0', tls: {certificate: service.pem, key: service.key, client: {ca: ca.pem}}}]\n\
                access_log: false\nroutes: [{match: {path: '/{rest=**}'}, respond: {status: 200, body: ok}}]\n";
    let path = folder.path().join("service.yaml");
    std::fs::write(&path, text).unwrap();
    Running::watching(&path).await
}

/// The gateway before it.
async fn gateway(folder: &TempDir, service: &Running, protocol: &str, tls: &str) -> Running {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:0'}}]\naccess_log: false\n\
         upstreams: {{inner: {{endpoints: ['{}'], protocol: {protocol}, tls: {{{tls}}}}}}}\n\
         routes: [{{match: {{path: '/{{rest=**}}'}}, proxy: inner}}]\n",
        service.address
    );
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text).unwrap();
    Running::watching(&path).await
}

const ALL: &str = "ca: ca.pem, server_name: service.test, certificate: own.pem, key: own.key";

#[tokio::test]
async fn a_service_is_called_within_tls_and_told_who_calls() {
    let (folder, _) = folder();
    let service = service(&folder).await;
    for protocol in ["http1", "http2"] {
        let gateway = gateway(&folder, &service, protocol, ALL).await;
        let answer = gateway.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"), "{protocol}");
        gateway.stop().await;
    }
    service.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_service_is_told_to_the_operator_alone() {
    let (folder, _) = folder();
    let service = service(&folder).await;
    std::fs::write(folder.path().join("other.pem"), Authority::new("other").pem()).unwrap();
    for (tls, reason) in [
        ("ca: other.pem, server_name: service.test", "is signed by no authority that is believed here"),
        ("server_name: service.test", "is signed by no authority that is believed here"),
        ("ca: system, server_name: service.test", "is signed by no authority that is believed here"),
        ("ca: ca.pem", "is for DnsName(\"service.test\"), not for 127.0.0.1"),
    ] {
        let gateway = gateway(&folder, &service, "http1", tls).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 503);
        assert!(!answer.body.contains("certificate"), "{}", answer.body);
        let told = gateway.ops("/upstreams").await["upstreams"]["inner"][0]["reason"].to_string();
        assert!(told.contains(&reason.replace('"', "\\\"")), "{told}");
        gateway.stop().await;
    }
    service.stop().await;
}

#[tokio::test]
async fn files_that_change_are_taken_over() {
    let (folder, authority) = folder();
    let service = service(&folder).await;
    std::fs::write(folder.path().join("inner.pem"), Authority::new("other").pem()).unwrap();
    let gateway = gateway(&folder, &service, "http1", &ALL.replace("ca.pem", "inner.pem")).await;
    assert_eq!(gateway.get("/").await.status, 503);
    std::fs::write(folder.path().join("inner.pem"), authority.pem()).unwrap();
    testkit::eventually("the new authority is believed", BOUND, || async {
        (gateway.get("/").await.status == 200).then_some(())
    })
    .await;
    // What can't be read changes nothing.
    std::fs::write(folder.path().join("inner.pem"), "no PEM").unwrap();
    let config = testkit::eventually("the bad file is told", BOUND, || async {
        let config = gateway.ops("/config").await;
        (config["last_reload"]["ok"] == false).then_some(config)
    })
    .await;
    assert!(config.to_string().contains("upstreams.inner.tls.ca: holds no certificate in PEM"), "{config}");
    assert_eq!(gateway.get("/").await.status, 200);
    gateway.stop().await;
    service.stop().await;
}

#[test]
fn what_is_wrong_is_found_before_it_is_used() {
    let (folder, authority) = folder();
    put(folder.path(), "another", &authority.leaf(&["gateway.test"]));
    let check = |keys: &str| {
        let text =
            format!("listeners: [{{address: '127.0.0.1:1'}}]\nupstreams: {{inner: {{endpoints: ['a:1'], {keys}}}}}\n");
        let checked = gateway::check(&text, &gateway::Properties::new(), Some(folder.path()), &Default::default());
        checked.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    for sound in [
        "tls: {}",
        "tls: {ca: system}",
        "tls: {certificate: own.pem, key: own.key}",
        "retry: {attempts: 3, on: [connect, 503, 429], per_try_timeout: 500ms}",
        "hedge: {after: p95}",
        "hedge: {after: 50ms, max: 2}",
    ] {
        check(sound).unwrap_or_else(|found| panic!("{sound}: {found}"));
    }
    for (keys, wrong) in [
        ("tls: {certificate: own.pem}", "upstreams.inner.tls.key: is missing beside `certificate`"),
        ("tls: {key: own.key}", "upstreams.inner.tls.certificate: is missing beside `key`"),
        ("tls: {certificate: own.pem, key: another.key}", "upstreams.inner.tls.key: is not the key of the certificate"),
        ("tls: {server_name: a b}", "upstreams.inner.tls.server_name: is no host name"),
        ("retry: {attempts: 4}", "upstreams.inner.retry.attempts: must be within 0 to 3"),
        ("retry: {on: [connect, 500]}", "upstreams.inner.retry.on[1]: must be 429, 502, 503 or 504"),
        ("protocol: grpc, retry: {on: [503]}", "upstreams.inner.retry.on[0]: gRPC has no HTTP statuses: `unavailable`"),
        ("retry: {per_try_timeout: 0s}", "upstreams.inner.retry.per_try_timeout: must be above 0"),
        ("hedge: {after: 0ms}", "upstreams.inner.hedge.after: must be above 0"),
        ("hedge: {after: 50ms, max: 0}", "upstreams.inner.hedge.max: must be within 1 to 3"),
    ] {
        let found = check(keys).unwrap_err();
        assert_eq!(found, wrong, "{keys}");
    }
    let found = check("hedge: {after: often}").unwrap_err();
    assert!(found.contains("often"), "{found}");
}
