//! The clients through the gateway: as their guide shows them; the one in JavaScript with a key from node, with a session in a page.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{Options, System, shown};
use serde_json::json;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// An example of the client in Rust; whoever builds the tests has built it.
fn example(name: &str) -> PathBuf {
    let example = e2e::binary().parent().unwrap().join("examples").join(name);
    assert!(example.exists(), "{} is missing: cargo build -p client --examples", example.display());
    example
}

#[tokio::test]
async fn the_guide_to_the_clients_keeps_its_word() {
    let guide = read("docs/clients.md");
    let (port, ops) = (testkit::free_port().to_string(), testkit::free_port());
    let module = root().join("clients/javascript/turnpike.js");
    let folder = tempfile::tempdir().unwrap();
    for program in ["write.mjs", "read.mjs"] {
        let text = read(&format!("examples/javascript/{program}"));
        assert!(guide.contains(&format!("```js\n{text}```")), "the guide shows another {program}");
        let own = text.replace("../../clients/javascript/turnpike.js", module.to_str().unwrap());
        fs::write(folder.path().join(program), own.replace("8080", &port)).unwrap();
    }
    let page = read("examples/javascript/page.html");
    assert!(guide.contains(&format!("```html\n{page}```")), "the guide shows another page");
    let rust = read("clients/rust/examples/notes.rs");
    assert!(guide.contains(&format!("```rust\n{rust}```")), "the guide shows another notes.rs");

    let guide = guide
        .replace("turnpike up ", &format!("turnpike up --port {port} --ops-port {ops} "))
        .replace(":8080", &format!(":{port}"))
        .replace("cargo run -q -p client --example notes --", example("notes").to_str().unwrap())
        .replace("export TURNPIKE_API_KEY", &format!("export TURNPIKE_URL=http://127.0.0.1:{port} TURNPIKE_API_KEY"));
    let commands = shown::commands(&guide);
    assert!(commands.len() > 9);
    let folder = folder.path().to_owned();
    tokio::task::spawn_blocking(move || shown::run(&commands, &folder)).await.unwrap();
}

#[tokio::test]
async fn a_program_with_a_key_goes_by_every_way() {
    let system = System::start(Options::default()).await;
    let mut key = Command::new(e2e::binary());
    let scopes = "events:write:NOTES/*,events:read:NOTES/*";
    key.args(["key", "new", "--subject", "services/notes", "--scope", scopes, "--file"]);
    let key = String::from_utf8(key.arg(system.folder().join("keys.yaml")).output().unwrap().stdout).unwrap();
    // The gateway learns of the key in a moment: until then nobody is known who shows it.
    let program = format!(
        "import {{ Client }} from {module};
         for (const way of ['websocket', 'sse', 'long-poll']) for (;;) {{
           const client = new Client({url}, {{ headers: {{ 'x-api-key': {key} }}, transports: [way] }});
           const notes = client.subscribe('NOTES/*');
           if (await notes.ready.then(() => true, (error) => error.code !== 'unauthenticated' && Promise.reject(error))) {{
             // Where nothing has come yet a poll goes on from the place that it was told.
             let told = (await notes.next()).value;
             const receipt = await client.publish({{ queue: 'NOTES', event: 'WRITTEN', data: 'hello' }});
             while (told.kind !== 'event') told = (await notes.next()).value;
             console.log(client.link.transport, told.event.id === receipt.id, told.event.owner);
             client.close();
             break;
           }}
         }}",
        module = json!(root().join("clients/javascript/turnpike.js")),
        url = json!(system.env("DEMO_URL")),
        key = json!(key.trim()),
    );
    let mut node = Command::new("timeout");
    node.args(["60", "node", "--experimental-websocket", "--no-warnings", "--input-type=module", "-e", &program]);
    let run = tokio::task::spawn_blocking(move || node.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    let by_each = ["websocket", "sse", "long-poll"].map(|way| format!("{way} true services/notes\n")).concat();
    assert_eq!(said, by_each, "{}", String::from_utf8_lossy(&run.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_session_follows_and_goes_on_when_the_broker_is_back() {
    let mut system = System::start(Options::default()).await;
    let operator = system.operator().await;
    let write = async |text: &str| {
        operator.post("/events/NOTES/WRITTEN?key=k", json!({ "text": text })).await.expect(201);
    };
    write("first").await;
    let mut browser = testkit::browser().await;
    // Any page of this origin; the script comes without being signed in.
    browser.navigate(&format!("{}/client.js", system.env("DEMO_URL"))).await;
    let credentials = json!({
        "email": system.env("DEMO_OPERATOR_EMAIL"),
        "password": system.env("DEMO_OPERATOR_PASSWORD"),
    });
    let sign_in = format!(
        "fetch('/session', {{ method: 'POST', headers: {{ 'content-type': 'application/json' }}, body: JSON.stringify({credentials}) }}).then((answer) => answer.status)"
    );
    assert_eq!(browser.evaluate(&sign_in).await, 201);
    let page = json!(read("examples/javascript/page.html"));
    browser.evaluate(&format!("document.open(); document.write({page}); document.close()")).await;
    let notes = "[...document.querySelectorAll('#notes li')].map((note) => note.textContent).join(' ')";
    let state = "document.getElementById('state').textContent";
    browser.until(&format!("{notes} === 'first' && {state} === 'open websocket'")).await;
    system.change("broker", "stop").await;
    browser.until(&format!("{state}.startsWith('reconnecting')")).await;
    system.change("broker", "start").await;
    write("second").await;
    browser.until(&format!("{notes} === 'first second' && {state} === 'open websocket'")).await;
}
