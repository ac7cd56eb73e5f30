//! The report in a real browser, which is spoken to over the DevTools protocol.
//!
//! Needs Chromium. Screenshots are left in `target/bench/screenshots`.

#![expect(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

mod sample;

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use stockade_benches::report;
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, client};

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser without a window, and the page in it.
struct Browser {
    process: Child,
    line: WebSocket<TcpStream>,
    calls: u64,
    session: Value,
    /// What went wrong in the page.
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    fn start() -> Self {
        let profile = TempDir::new().unwrap();
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
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (line, _) = client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
        let mut browser = Self {
            process,
            line,
            calls: 0,
            session: Value::Null,
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

    /// Calls a method, and returns its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": parameters });
        if !self.session.is_null() {
            call["sessionId"] = self.session.clone();
        }
        self.line.send(Message::text(call.to_string())).unwrap();
        loop {
            let message = self.hear();
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn hear(&mut self) -> Value {
        let message = self.line.read().expect("Chromium answers");
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        let what = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(what["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if what["type"] != "log" => Some(what.to_string()),
            Some("Log.entryAdded") => Some(what["entry"].to_string()),
            Some("Network.requestWillBeSent") => {
                let url = what["request"]["url"].as_str().unwrap_or_default();
                let own = ["file:", "data:", "about:"].iter().any(|own| url.starts_with(own));
                (!own).then(|| format!("the page asked for {url}"))
            }
            _ => None,
        };
        self.complaints.extend(complaint);
        message
    }

    fn open(&mut self, page: &Path) {
        self.call("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        while self.hear()["method"] != "Page.loadEventFired" {}
    }

    /// What an expression is in the page.
    fn ask(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    fn look(&mut self, width: u32, dark: bool) {
        let phone = width < 600;
        let screen =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": feature }));
    }

    fn shoot(&mut self, name: &str) -> PathBuf {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", whole);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/screenshots");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        fs::write(&path, BASE64.decode(shot["data"].as_str().unwrap().as_bytes()).unwrap())
            .unwrap();
        path
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_report_works_in_a_browser() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("report.html");
    let (run, base) = (sample::run("now"), sample::run("before"));
    fs::write(&page, report::page(&run, Some(&base))).unwrap();
    let mut browser = Browser::start();
    browser.look(1_200, false);
    browser.open(&page);

    // Every stack has a row, and every section is there.
    assert_eq!(browser.ask("document.querySelectorAll('#stacks tbody tr').length"), 64);
    for id in [
        "summary",
        "heatmap",
        "curves",
        "waterfall",
        "offered",
        "peers",
        "faults",
        "adaptive",
        "difference",
    ] {
        let there = format!("document.querySelector('section#{id} h2') !== null");
        assert_eq!(browser.ask(&there), true, "{id}");
    }

    // A click on a header sorts, another one the other way round.
    let values = "[...document.querySelectorAll('#stacks tbody tr')].map(r => Number(r.cells[4].dataset.value))";
    let click = "document.querySelectorAll('#stacks thead button')[4].click()";
    let sorted = |values: &Value| {
        let values: Vec<_> =
            values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(values.len(), 64);
        (values.is_sorted(), values.iter().rev().is_sorted())
    };
    assert_eq!(sorted(&browser.ask(values)), (false, false));
    browser.ask(click);
    assert_eq!(sorted(&browser.ask(values)), (true, false));
    browser.ask(click);
    assert_eq!(sorted(&browser.ask(values)), (false, true));

    // A tick draws a stack, another one takes it away.
    let drawn = "[...document.querySelectorAll('#curves figure:not([hidden]) .series')]\
                 .filter(l => getComputedStyle(l).stroke !== 'none').map(l => l.dataset.stack)";
    let tick = "document.querySelector('#stacks input[value=\"retry+rate\"]').click()";
    let has = |drawn: &Value| drawn.as_array().unwrap().contains(&json!("retry+rate"));
    assert!(!has(&browser.ask(drawn)));
    browser.ask(tick);
    assert!(has(&browser.ask(drawn)));
    assert_eq!(browser.ask("document.querySelectorAll('#chips button').length"), 6);
    browser.shoot("desktop-light");
    browser.ask(tick);
    assert!(!has(&browser.ask(drawn)));
    // Another load is another plot.
    let shown = "document.querySelector('#curves figure:not([hidden])').dataset.load";
    browser.ask(
        "{ const load = document.getElementById('load'); load.value = '0'; \
         load.dispatchEvent(new Event('change', { bubbles: true })) }",
    );
    assert_eq!(browser.ask(shown), "0");

    // Light and dark differ, and on a phone nothing is wider than the screen.
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = browser.ask(paper);
    browser.look(1_200, true);
    assert_ne!(browser.ask(paper), light);
    browser.shoot("desktop-dark");
    for dark in [false, true] {
        browser.look(360, dark);
        let wide = browser.ask("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= 360, "{wide}");
        browser.shoot(if dark { "phone-dark" } else { "phone-light" });
    }
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}
