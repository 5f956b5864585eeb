//! The gateway as a process of its own, in front of what its file names, and the keys that open it.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use e2e::{Client, binary};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(folder: &Path, arguments: &[&str]) -> String {
    let file = folder.join("keys.yaml");
    let output =
        Command::new(binary()).args(["key", arguments[0], "--file"]).arg(&file).args(&arguments[1..]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_gateway_alone_opens_to_a_key_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let made = key(folder.path(), &["new", "--subject", "partners/acme", "--scope", "read"]);
    let (port, ops) = (testkit::free_port(), testkit::free_port());
    let config = folder.path().join("gateway.yaml");
    let text = format!(
        "listeners: [{{address: 127.0.0.1:{port}}}]\nauthentication: {{api_keys: {{file: keys.yaml}}}}\nroutes:\n\
         - match: {{path: /hello, method: GET}}\n  respond: {{status: 200, body: hello}}\n  scopes: {{all: [read]}}\n"
    );
    fs::write(&config, &text).unwrap();
    let process = Command::new(binary())
        .args(["gateway", "--cores", "1", "--ops", &format!("127.0.0.1:{ops}"), "--config"])
        .arg(&config)
        .arg("--root-secret")
        .arg(folder.path().join("root.secret"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let gateway = Gateway(process);
    let client = Client::new(&format!("http://127.0.0.1:{port}"));
    testkit::eventually("the gateway answers", Duration::from_secs(20), || async {
        client.try_send(hyper::Method::GET, "/hello", None).await.ok()
    })
    .await
    .problem(401);

    let with_key = client.with("x-api-key", &made);
    assert_eq!(with_key.get("/hello").await.expect(200).body, "hello");

    // SIGHUP has the file read again.
    fs::write(&config, text.replace("body: hello", "body: hello again")).unwrap();
    kill(Pid::from_raw(i32::try_from(gateway.0.id()).unwrap()), Signal::SIGHUP).unwrap();
    testkit::eventually("the new answer", Duration::from_secs(10), || async {
        (with_key.get("/hello").await.expect(200).body == "hello again").then_some(())
    })
    .await;

    let listed = key(folder.path(), &["list"]);
    let line = listed.lines().find(|line| line.contains("partners/acme")).expect("the key is listed");
    assert!(line.contains("active") && line.contains("read"), "{line}");
    assert!(!listed.contains(made.rsplit('_').next().unwrap()), "a secret is listed");
    key(folder.path(), &["revoke", line.split_whitespace().next().unwrap()]);
    testkit::eventually("the revoked key is refused", Duration::from_secs(10), || async {
        (with_key.get("/hello").await.status == 401).then_some(())
    })
    .await;
}
