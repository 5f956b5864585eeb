//! What an operator gets wrong is said precisely, and changes nothing.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use e2e::{Options, System, binary};

fn check(text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, text).unwrap();
    let output = Command::new(binary()).arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    (output.status.success(), said)
}

fn shop() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    fs::read_to_string(format!("{root}/deploy/gateway.yaml")).unwrap()
}

#[test]
fn the_shops_own_configuration_is_valid() {
    let (ok, said) = check(&shop());
    assert!(ok, "{said}");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let (ok, said) = check(&fs::read_to_string(format!("{root}/deploy/up.yaml")).unwrap());
    assert!(ok, "{said}");
}

#[test]
fn the_documented_configuration_is_valid() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gateway.md")).unwrap();
    let example = document.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(example.contains("upstreams:"));
    let (ok, said) = check(example);
    assert!(ok, "{said}");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let (ok, said) = check(&shop().replace("upstreams:", "upstraems:"));
    assert!(!ok && said.contains("upstraems"), "{said}");
}

#[test]
fn an_unknown_upstream_is_named_with_its_path() {
    let (ok, said) =
        check("listeners: [{address: 127.0.0.1:0}]\nroutes:\n- {match: {path: /a}, proxy: {upstream: nowhere}}\n");
    assert!(!ok && said.contains("routes[0]") && said.contains("nowhere"), "{said}");
}

#[test]
fn clashing_routes_are_named() {
    let (ok, said) = check(
        "listeners: [{address: 127.0.0.1:0}]\nroutes:\n\
         - {match: {path: \"/a/{x}\", method: GET}, respond: {status: 200}}\n\
         - {match: {path: \"/a/{y}\", method: GET}, respond: {status: 200}}\n",
    );
    assert!(!ok && said.contains("routes[1]"), "{said}");
}

#[test]
fn a_lease_shorter_than_the_handling_is_refused() {
    let (ok, said) = check("consumers:\n  placement: {lease: 5s, handling: 20s}\n");
    assert!(!ok && said.contains("consumers.placement.lease"), "{said}");
}

#[tokio::test]
async fn a_bad_reload_keeps_what_was_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, shop()).unwrap();
    let arguments = vec!["--gateway-config".to_owned(), file.to_str().unwrap().to_owned()];
    let system = System::start(Options { arguments, ..Options::default() }).await;
    system.anonymous().get("/products").await.expect(200);
    system.anonymous().get("/added").await.problem(404);

    let added = shop().replace("routes:\n", "routes:\n  - {match: {path: /added}, respond: {status: 200}}\n");
    fs::write(&file, &added).unwrap();
    testkit::eventually("the new route answers", std::time::Duration::from_secs(10), || async {
        (system.anonymous().get("/added").await.status == 200).then_some(())
    })
    .await;

    fs::write(&file, added.replace("upstreams:", "upstraems:")).unwrap();
    testkit::eventually("the refusal is shown", std::time::Duration::from_secs(10), || async {
        let config = system.ops().get("/config").await.expect(200).json();
        config.to_string().contains("upstraems").then_some(())
    })
    .await;
    system.anonymous().get("/added").await.expect(200);
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output =
        Command::new(binary()).args(["up", "--ephemeral", "--ops-port", "0", "--port", &port]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&port) && said.contains("another process"), "{said}");
}

#[test]
fn a_lone_service_says_why_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut product = Command::new(binary());
    product.arg("product").current_dir(folder.path()).env("TURNPIKE__OPS", "127.0.0.1:0");
    let nobody = format!("redis://127.0.0.1:{}", testkit::free_port());
    let output = product.env("TURNPIKE__BUS__REDIS", &nobody).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bus.redis") && said.contains("turnpike up"), "{said}");
}

#[test]
fn a_request_is_explained_by_the_configuration_alone() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gateway.yaml");
    let explain = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("explain").args(arguments).args(["--config", file]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = explain(&["/products/42"]);
    assert_eq!(code, Some(0), "{said}");
    for line in ["route GET /products/{id} (aggregate)", "{id} = 42", "upstream product", "goes before a derived one"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (code, said) = explain(&["-X", "PUT", "/products/42", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["refused"]["status"]), (Some(1), &405.into()), "{said}");
}

#[test]
fn the_schema_is_printed_and_notes_can_be_errors() {
    let output = Command::new(binary()).arg("schema").output().unwrap();
    let committed = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gateway.schema.json")).unwrap();
    assert!(output.stdout == committed, "deploy/gateway.schema.json is not what `turnpike schema` prints");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, "listeners: [{address: 127.0.0.1:0}]\nupstreams: {spare: {endpoints: ['127.0.0.1:1']}}\n")
        .unwrap();
    let check = |more: &[&str]| Command::new(binary()).arg("check").arg(&file).args(more).output().unwrap();
    assert!(check(&[]).status.success());
    let strict = check(&["--strict", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!((strict.status.code(), &said["notes"][0]), (Some(1), &"upstreams.spare: no route asks it".into()));
}

#[test]
fn whoever_reads_only_the_beginning_gets_it_without_a_complaint() {
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gateway.yaml");
    for arguments in [vec!["schema"], vec!["openapi", shop], vec!["openapi", shop, "-o", "yaml"]] {
        let mut command = Command::new(binary());
        let mut child = command.args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
}
