//! Chromium without a window, which is spoken to over the DevTools protocol.

use std::{
    fmt, fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, client};

/// A browser without a window, and one page in it. It ends when it is dropped.
///
/// It blocks the thread. What goes wrong in the page is [kept](Self::complaints): exceptions, messages on the console,
/// and requests to anywhere but files and the origins that are [allowed](Self::allow).
///
/// # Panics
///
/// Every method panics if Chromium is not there or does not answer, because a test fails then.
pub struct Browser {
    process: Child,
    line: WebSocket<TcpStream>,
    calls: u64,
    session: Value,
    allowed: Vec<String>,
    complaints: Vec<String>,
    _profile: TempDir,
}

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// How long an answer may take, which is long because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often [`Browser::wait`] looks, and how long it pauses each time: a minute together.
const LOOKS: u32 = 1_200;
const PAUSE: Duration = Duration::from_millis(50);

const ANSWERS: &str = "Chromium answers";

// === impl Browser ===

impl Browser {
    /// Starts Chromium with an empty page.
    #[must_use]
    pub fn start() -> Self {
        let profile = TempDir::new().expect("a directory can be made");
        let spawn = |program: &&str| {
            Command::new(program)
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
                .args(["--no-first-run", "--disable-background-networking"])
                .args(["--disable-component-update", "--disable-sync", "--hide-scrollbars"])
                .args(["--remote-debugging-port=0", "--disable-dev-shm-usage"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg("about:blank")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        };
        let process = PROGRAMS.iter().find_map(spawn);
        let process = process.expect("this test needs Chromium: apt-get install chromium");
        let file = profile.path().join("DevToolsActivePort");
        let (port, path) = (0..600)
            .find_map(|_| {
                sleep(Duration::from_millis(100));
                let text = fs::read_to_string(&file).ok()?;
                let (port, path) = text.trim().split_once('\n')?;
                Some((port.parse::<u16>().ok()?, path.to_owned()))
            })
            .expect("Chromium says where it listens");
        let stream = TcpStream::connect(("127.0.0.1", port)).expect(ANSWERS);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let (line, _) = client(format!("ws://127.0.0.1:{port}{path}"), stream).expect(ANSWERS);
        let mut browser = Self {
            process,
            line,
            calls: 0,
            session: Value::Null,
            allowed: ["file:", "data:", "about:"].map(str::to_owned).to_vec(),
            complaints: Vec::new(),
            _profile: profile,
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": page["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", target)["sessionId"].clone();
        for domain in ["Runtime.enable", "Log.enable", "Page.enable", "Network.enable"] {
            browser.call(domain, json!({}));
        }
        browser
    }

    /// Allows the page to ask for what begins with this.
    pub fn allow(&mut self, origin: impl Into<String>) {
        self.allowed.push(origin.into());
    }

    /// Calls a method of the protocol, and returns its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": parameters });
        if !self.session.is_null() {
            call["sessionId"] = self.session.clone();
        }
        self.line.send(Message::text(call.to_string())).expect(ANSWERS);
        loop {
            let message = self.hear();
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn hear(&mut self) -> Value {
        let message = self.line.read().expect(ANSWERS);
        let message = message.to_text().expect("the protocol is text");
        let message: Value = serde_json::from_str(message).expect("the protocol is JSON");
        let what = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(what["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if what["type"] != "log" => Some(what.to_string()),
            Some("Log.entryAdded") => Some(what["entry"].to_string()),
            Some("Network.requestWillBeSent") => {
                let url = what["request"]["url"].as_str().unwrap_or_default();
                let is_own = self.allowed.iter().any(|own| url.starts_with(own));
                (!is_own).then(|| format!("the page asked for {url}"))
            }
            _ => None,
        };
        self.complaints.extend(complaint);
        message
    }

    /// Goes to an address, and waits until it has loaded.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        while self.hear()["method"] != "Page.loadEventFired" {}
    }

    /// What an expression is in the page.
    pub fn ask(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn wait(&mut self, expression: &str) {
        for _ in 0..LOOKS {
            if self.ask(expression) == true {
                return;
            }
            sleep(PAUSE);
        }
        let page = self.ask("document.body.innerText");
        panic!("it does not become true: {expression}; the page says {page}");
    }

    /// Looks at the page on a screen of this width, which is a phone below 600, in the light or the dark.
    pub fn look(&mut self, width: u32, dark: bool) {
        let phone = width < 600;
        let screen =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": feature }));
    }

    /// Leaves a picture of the whole page as `name.png` in a folder.
    pub fn shoot(&mut self, folder: &Path, name: &str) -> PathBuf {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", whole);
        let picture = BASE64.decode(shot["data"].as_str().unwrap_or_default().as_bytes());
        let path = folder.join(format!("{name}.png"));
        fs::create_dir_all(folder).expect("a folder can be made");
        fs::write(&path, picture.expect("it is base64")).expect("a file can be written");
        path
    }

    /// What has gone wrong in the page until now.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser").field("complaints", &self.complaints).finish_non_exhaustive()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
