//! A real headless Chromium for one test, steered over the DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>): one page, with its own profile, killed when the handle is
//! dropped or the test's process dies.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::eventually;

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const FLAGS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-port=0",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--mute-audio",
];
/// How long a start or an answer may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    process: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    last_id: u64,
    faults: Vec<String>,
    profile: TempDir,
}

/// Starts a browser.
///
/// # Panics
/// If Chromium is not installed (with the line that installs it) or doesn't start.
pub async fn browser() -> Browser {
    let profile = tempfile::Builder::new().prefix("turnpike-chromium-").tempdir().expect("a temporary folder");
    let process = start(profile.path());
    let port = profile.path().join("DevToolsActivePort");
    let address = eventually("chromium listens", PATIENCE, async || {
        let text = fs::read_to_string(&port).ok()?;
        let (port, path) = text.trim().split_once('\n')?;
        Some(format!("ws://127.0.0.1:{port}{path}"))
    })
    .await;
    let (socket, _) = tokio_tungstenite::connect_async(address).await.expect("chromium's DevTools");
    let mut browser = Browser { process, socket, session: None, last_id: 0, faults: Vec::new(), profile };
    let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
    let attach = json!({ "targetId": target["targetId"], "flatten": true });
    let session = browser.call("Target.attachToTarget", attach).await;
    browser.session = session["sessionId"].as_str().map(str::to_owned);
    for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
        browser.call(domain, json!({})).await;
    }
    browser.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await;
    browser
}

fn start(profile: &Path) -> Child {
    for program in PROGRAMS {
        if !installed(program) {
            continue;
        }
        return Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv: apt-get install -y util-linux");
    }
    panic!("Chromium is not installed: apt-get install -y chromium");
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl Browser {
    /// Opens a page and waits until it is loaded.
    pub async fn navigate(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// What an expression comes to; a promise is waited for.
    ///
    /// # Panics
    /// If it throws.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        self.try_evaluate(expression).await.unwrap_or_else(|thrown| panic!("{expression}: {thrown}"))
    }

    /// Waits until an expression comes to something true, and gives it.
    ///
    /// # Panics
    /// If it doesn't within a minute, with what it came to.
    pub async fn until(&mut self, expression: &str) -> Value {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            // It may throw while the page is made.
            let value = self.try_evaluate(expression).await;
            match &value {
                Ok(Value::Null | Value::Bool(false)) | Err(_) => {}
                Ok(value) if value == "" || value == 0 => {}
                Ok(value) => return value.clone(),
            }
            assert!(tokio::time::Instant::now() < end, "not within {PATIENCE:?}: {expression}: {value:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// In CSS pixels.
    pub async fn viewport(&mut self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`, as the system would have it.
    pub async fn color_scheme(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Cuts the page off from the network, or gives it back.
    pub async fn offline(&mut self, offline: bool) {
        let conditions = json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
        self.call("Network.emulateNetworkConditions", conditions).await;
    }

    /// Headers of every request from now on, as a gateway would add them.
    pub async fn headers(&mut self, headers: &[(&str, &str)]) {
        let headers: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        self.call("Network.setExtraHTTPHeaders", json!({ "headers": headers })).await;
    }

    /// Puts a cookie down for a URL.
    pub async fn cookie(&mut self, url: &str, name: &str, value: &str) {
        self.call("Network.setCookie", json!({ "url": url, "name": name, "value": value })).await;
    }

    /// Presses a key that has a name, such as `Tab`, `Enter` or `Escape`, or one that writes a character.
    pub async fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        let text = if key == "Enter" { Some("\r") } else { (key.chars().count() == 1).then_some(key) };
        for kind in ["keyDown", "keyUp"] {
            let text = text.filter(|_| kind == "keyDown");
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if let Some(text) = text {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Writes a text, key by key, to where the focus is.
    pub async fn write(&mut self, text: &str) {
        for key in text.chars() {
            self.press(key.encode_utf8(&mut [0; 4])).await;
        }
    }

    /// The page as a PNG: the viewport, or all of it.
    pub async fn screenshot(&mut self, whole: bool) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": whole })).await;
        STANDARD.decode(shot["data"].as_str().unwrap_or_default()).expect("a screenshot")
    }

    /// What went wrong in the page since the last call: errors on the console, uncaught exceptions, refused resources.
    pub async fn faults(&mut self) -> Vec<String> {
        // Whatever was told before this answer has been taken in.
        self.evaluate("0").await;
        std::mem::take(&mut self.faults)
    }

    async fn try_evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let question = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.try_call("Runtime.evaluate", question).await?;
        match answer.get("exceptionDetails") {
            Some(thrown) => Err(thrown["exception"]["description"].as_str().unwrap_or("it throws").to_owned()),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).await.expect("chromium is gone");
        loop {
            let next = timeout(PATIENCE, self.socket.next()).await;
            let next = next.unwrap_or_else(|_| panic!("no answer within {PATIENCE:?} to {method}"));
            let Message::Text(text) = next.expect("chromium is gone").expect("chromium is gone") else { continue };
            let mut told: Value = serde_json::from_str(&text).expect("JSON of the DevTools");
            if told["id"] != self.last_id {
                self.faults.extend(fault(&told));
                continue;
            }
            return match told.get("error") {
                Some(error) => Err(error.to_string()),
                None => Ok(told["result"].take()),
            };
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its own children end a moment later, and write into the profile until then.
        for _ in 0..40 {
            if fs::remove_dir_all(self.profile.path()).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }
}

/// What an event of the protocol says went wrong.
fn fault(event: &Value) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if params["type"] == "error" => Some(params["args"].to_string()),
        "Log.entryAdded" if params["entry"]["level"] == "error" => {
            Some(format!("{} {}", params["entry"]["text"], params["entry"]["url"]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_opened_asked_and_seen() {
        let mut browser = browser().await;
        browser.viewport(400, 300).await;
        browser.navigate("data:text/html,<title>A page</title><p>Hello").await;
        assert_eq!(browser.evaluate("document.title").await, "A page");
        assert_eq!(browser.evaluate("innerWidth").await, 400);
        assert_eq!(browser.faults().await, Vec::<String>::new());
        browser.evaluate("console.error('broken')").await;
        assert!(browser.faults().await[0].contains("broken"));
        assert!(browser.screenshot(false).await.starts_with(b"\x89PNG"));
        browser.color_scheme("dark").await;
        assert_eq!(browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches").await, true);
    }
}
