//! A real browser: headless Chromium, driven by WebDriver. `tests/browser/install` provides it.

// Only tests use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    key::Key,
    wd::{WebDriverCompatibleCommand, WindowHandle},
};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::Url;

/// How long something that takes well under a second may take on a busy machine before a test calls it broken.
const SOON: Duration = Duration::from_secs(30);

/// A browser on a machine where everything else runs too may take that long to start.
const STARTUP: Duration = Duration::from_secs(90);
/// A script that looks through a page of 200 rows, on a machine where everything else runs too, may take that long. WebDriver's
/// own limit is 30 s.
const SCRIPT: Duration = Duration::from_secs(180);
/// Between two looks at a page.
const LOOK: Duration = Duration::from_millis(10);

/// One browser with a profile of its own.
pub struct Browser {
    client: Client,
    dir: PathBuf,
    pictures: PathBuf,
    driver: Option<Child>,
}

/// What a picture shows, apart from the page.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Its name's end.
    pub name: &'static str,
    /// Width and height in CSS pixels.
    pub size: (u32, u32),
    /// Light or dark.
    pub scheme: &'static str,
}

/// How every state is looked at.
pub const LOOKS: [Look; 4] = [
    Look { name: "desktop-light", size: (1280, 860), scheme: "light" },
    Look { name: "desktop-dark", size: (1280, 860), scheme: "dark" },
    Look { name: "phone-light", size: (390, 844), scheme: "light" },
    Look { name: "phone-dark", size: (320, 700), scheme: "dark" },
];

impl Browser {
    /// Starts one, with its files in a new folder below `dir` and its pictures in `pictures`. `tether` runs a program for as
    /// long as we live.
    pub async fn start(dir: &Path, pictures: &Path, tether: &Path) -> Self {
        let dir = dir.join("browser");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let (driver, address) = start_driver(&dir, tether);
        let profile = dir.join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--lang=en-US",
            "--window-size=1280,860",
        ];
        let arguments: Vec<String> =
            arguments.iter().map(|&one| one.into()).chain([format!("--user-data-dir={}", profile.display())]).collect();
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": SCRIPT.as_secs() * 1000},
        });
        let connecting = async {
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities.as_object().unwrap().clone())
                .connect(&address)
                .await
        };
        let client = tokio::time::timeout(STARTUP, connecting).await.expect("the browser starts in time");
        let client = client.unwrap_or_else(|error| panic!("the browser does not start: {error}"));
        Self { client, dir, pictures: pictures.to_owned(), driver: Some(driver) }
    }

    /// Opens an address.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// What a script returns.
    pub async fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.client.execute(script, arguments.to_vec()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What a script that calls its last argument gives to it.
    pub async fn run_async(&self, script: &str) -> Value {
        self.client.execute_async(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an expression is true; `what` for the story when it never is.
    pub async fn until(&self, what: &str, expression: &str, arguments: &[Value]) {
        self.until_within(SOON, what, expression, arguments).await;
    }

    /// The same, with a limit of its own.
    pub async fn until_within(&self, limit: Duration, what: &str, expression: &str, arguments: &[Value]) {
        let deadline = Instant::now() + limit;
        let script = format!("return Boolean({expression})");
        loop {
            // A page that is being replaced cannot be asked.
            let asked = self.client.execute(&script, arguments.to_vec()).await;
            if matches!(asked, Ok(Value::Bool(true))) {
                return;
            }
            if Instant::now() > deadline {
                let picture = self.keep_picture("failed").await;
                panic!("not so: {what}\n{expression}\n{asked:?}\nsee {}", picture.display());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until there is such an element, and that it is seen.
    pub async fn find(&self, css: &str) -> Element {
        self.until(
            &format!("there is {css}"),
            "document.querySelector(arguments[0])?.checkVisibility()",
            &[css.into()],
        )
        .await;
        self.client.find(Locator::Css(css)).await.unwrap()
    }

    /// Waits until no such element is left.
    pub async fn until_gone(&self, css: &str) {
        self.until(&format!("there is no {css}"), "!document.querySelector(arguments[0])", &[css.into()]).await;
    }

    /// Presses what is there, as a mouse does: at its place, so that what lies over it gets it.
    pub async fn press(&self, css: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            // What moves or is drawn anew just then is pressed at the next try.
            match self.find(css).await.click().await {
                Ok(()) => return,
                Err(error) if Instant::now() > deadline => {
                    let picture = self.keep_picture("failed").await;
                    panic!("press {css}: {error}; see {}", picture.display())
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Presses the button that is called so, within an element.
    pub async fn press_button(&self, within: &str, name: &str) {
        let mark = "const found = [...document.querySelectorAll(arguments[0] + ' button, ' + arguments[0] + ' summary')]\
            .find(one => (one.getAttribute('aria-label') ?? one.textContent).trim() === arguments[1]);\
            document.querySelectorAll('[data-pressed]').forEach(one => delete one.dataset.pressed);\
            if (found) found.dataset.pressed = ''; return Boolean(found)";
        let deadline = Instant::now() + SOON;
        loop {
            // Marked and pressed anew until it takes: the page may draw it again in between, without the mark.
            let marked = self.run(mark, &[within.into(), name.into()]).await == true;
            if marked
                && let Ok(button) = self.client.find(Locator::Css("[data-pressed]")).await
                && button.click().await.is_ok()
            {
                return;
            }
            if Instant::now() > deadline {
                let picture = self.keep_picture("failed").await;
                panic!("no button {name} in {within} could be pressed; see {}", picture.display());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Types into a field, in place of what stands there.
    pub async fn type_into(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        // All of it is selected and taken away by keys (WebDriver's Control, Null, Backspace), as people do: what the driver
        // clears without them a page may draw again before it has heard of it.
        field.send_keys(&format!("\u{e009}a\u{e000}\u{e003}{text}")).await.unwrap();
    }

    /// Text with characters beyond the basic plane, which chromedriver cannot type.
    pub async fn paste_into(&self, css: &str, text: &str) {
        self.find(css).await.click().await.unwrap();
        self.run("arguments[0].focus()", &[serde_json::to_value(self.find(css).await).unwrap()]).await;
        self.devtools("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key, wherever the focus is.
    pub async fn key(&self, key: &str) {
        self.client.active_element().await.unwrap().send_keys(key).await.unwrap();
    }

    /// Escape.
    pub async fn escape(&self) {
        self.key(&char::from(Key::Escape).to_string()).await;
    }

    /// The text of an element, as it is seen.
    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    /// Another tab, which is then the one that is used; the one before.
    pub async fn new_tab(&self) -> WindowHandle {
        let before = self.client.window().await.unwrap();
        let made = self.client.new_window(true).await.unwrap();
        self.client.switch_to_window(made.handle).await.unwrap();
        before
    }

    /// Uses this tab from now on, in front, as people do; the one before.
    pub async fn use_tab(&self, tab: WindowHandle) -> WindowHandle {
        let before = self.client.window().await.unwrap();
        self.client.switch_to_window(tab).await.unwrap();
        self.devtools("Page.bringToFront", json!({})).await;
        before
    }

    /// A command of Chromium's own protocol.
    pub async fn devtools(&self, command: &'static str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.client.issue_cmd(Raw { path: "goog/cdp/execute", body }).await.unwrap()
    }

    /// What was written to the console since the last time that somebody asked.
    async fn console(&self) -> Vec<String> {
        let lines = self.client.issue_cmd(Raw { path: "se/log", body: json!({"type": "browser"}) }).await.unwrap();
        lines.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// What the page's policy forbade: whatever was reported of scripts, styles, connections or trusted types.
    pub async fn forbidden(&self) -> Vec<String> {
        let is_report = |line: &String| {
            ["Content Security Policy", "violates the following", "TrustedHTML", "TrustedScript", "Permissions policy"]
                .iter()
                .any(|word| line.contains(word))
        };
        self.console().await.into_iter().filter(is_report).collect()
    }

    /// How the page is looked at.
    pub async fn look(&self, look: Look) {
        let (width, height) = look.size;
        let phone = width < 600;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone}),
        )
        .await;
        // As the page knows a phone: buttons are larger there, and no keys are told of.
        self.devtools("Emulation.setTouchEmulationEnabled", json!({"enabled": phone})).await;
        let features = json!([
            {"name": "prefers-color-scheme", "value": look.scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Keeps a picture of the page.
    pub async fn keep_picture(&self, name: &str) -> PathBuf {
        fs::create_dir_all(&self.pictures).unwrap();
        let file = self.pictures.join(format!("{name}.png"));
        let taken = self.devtools("Page.captureScreenshot", json!({"format": "png"})).await;
        fs::write(&file, STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()).unwrap();
        file
    }

    /// A state of the page: a picture of it in every look, and in each light nothing that axe calls serious.
    pub async fn inspect(&self, state: &str) {
        for look in LOOKS {
            self.look(look).await;
            // Drawn in this look, fonts and all.
            self.settle().await;
            let touched = self.run("return matchMedia('(pointer: coarse)').matches", &[]).await;
            assert_eq!(touched, look.size.0 < 600, "{state}, {}: drawn for fingers", look.name);
            self.keep_picture(&format!("{state}-{}", look.name)).await;
            self.nothing_serious(&format!("{state}, {}", look.name)).await;
            // A phone shows a page that is too wide smaller, and says that its window is that wide.
            let width = look.size.0.into();
            let wide = self.run("return document.documentElement.scrollWidth - arguments[0]", &[width]).await;
            assert!(wide.as_i64().unwrap() <= 0, "{state}, {}: the page is {wide} px too wide", look.name);
            // A window cuts off what is wider than it is.
            let cut = "return [...document.querySelectorAll('dialog[open]')].flatMap(dialog => { const whole = dialog.getBoundingClientRect();\
                return [...dialog.querySelectorAll('button, input, p, h2')].filter(one => { const {left, right, width} = one.getBoundingClientRect();\
                return width > 2 && (left < whole.left || right > whole.right); }); }).map(one => one.outerHTML)";
            assert_eq!(self.run(cut, &[]).await, json!([]), "{state}, {}: the window cuts something off", look.name);
        }
        self.look(LOOKS[0]).await;
    }

    /// Waits for two frames, and for what moves on its own to have come to rest.
    async fn settle(&self) {
        let script = "const done = arguments[arguments.length - 1];\
            requestAnimationFrame(() => requestAnimationFrame(() => Promise.allSettled(\
            document.getAnimations().filter(one => one.effect?.getTiming().iterations !== Infinity).map(one => one.finished)\
            ).then(() => done(true))))";
        self.client.execute_async(script, Vec::new()).await.unwrap();
    }

    /// Accessibility: axe finds nothing serious.
    pub async fn nothing_serious(&self, state: &str) {
        // Half a megabyte, which takes as long to come to the browser as the page to be judged.
        if self.run("return !window.axe", &[]).await == json!(true) {
            self.run(include_str!("../axe.min.js"), &[]).await;
        }
        let script = "const done = arguments[arguments.length - 1];\
            axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations.map(one => ({\
            id: one.id, impact: one.impact, nodes: one.nodes.map(node => node.target.join(' ') + ': ' + node.failureSummary)}))), \
            error => done([{id: 'axe failed', impact: 'serious', nodes: [String(error)]}]))";
        let found = self.client.execute_async(script, Vec::new()).await.unwrap();
        let serious: Vec<&Value> = found
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| ["serious", "critical"].contains(&one["impact"].as_str().unwrap_or_default()))
            .collect();
        assert!(serious.is_empty(), "{state}: {}", serde_json::to_string_pretty(&serious).unwrap());
    }

    /// Ends it, the browser too. Nothing was forbidden in any of its tabs, but for what a test has asked about itself.
    pub async fn close(mut self) {
        let mut reports = Vec::new();
        for tab in self.client.windows().await.unwrap() {
            // A tab's reports are heard once it is spoken to.
            self.client.switch_to_window(tab).await.unwrap();
            reports.append(&mut self.forbidden().await);
        }
        assert!(reports.is_empty(), "the page's policy forbade something: {reports:?}");
        let _ = self.client.clone().close().await;
        self.end_driver();
    }

    fn end_driver(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            drop(driver.stdin.take());
            let _ = driver.wait();
            let _ = fs::remove_dir_all(self.dir.join("profile"));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.end_driver();
    }
}

/// Ports are tried so often: the driver takes one that is free with IPv6, and ends when it is not with IPv4.
const PORTS: usize = 10;

/// The driver on a tether, so that it and its browser end with us; and its address.
fn start_driver(dir: &Path, tether: &Path) -> (Child, String) {
    let deadline = Instant::now() + STARTUP;
    let mut said = String::new();
    for _ in 0..PORTS {
        let mut driver = Command::new(tether)
            .args(["--grace", "1", "--", "chromedriver", "--port=0"])
            .stdin(Stdio::piped())
            .stdout(File::create(dir.join("driver.log")).unwrap())
            .stderr(OpenOptions::new().append(true).create(true).open(dir.join("driver.errors")).unwrap())
            .spawn()
            .unwrap();
        loop {
            let ended = driver.try_wait().unwrap().is_some();
            said = fs::read_to_string(dir.join("driver.log")).unwrap();
            let port = said.split_once("successfully on port ").and_then(|(_, rest)| rest.split(['.', '\n']).next());
            if let Some(port) = port {
                return (driver, format!("http://127.0.0.1:{port}"));
            }
            assert!(Instant::now() < deadline, "the driver does not start: {said}");
            if ended {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
    said.push_str(&fs::read_to_string(dir.join("driver.errors")).unwrap());
    panic!("there is no chromedriver: run tests/browser/install, as `make test` does\n{said}");
}

/// A command that the WebDriver standard does not have.
#[derive(Debug)]
struct Raw {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Raw {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// The text of the QR codes in a picture of `side` by `side` modules, of which `dark` says which are so. Light margin and all:
/// it is read as a phone reads it.
pub fn read_code(side: usize, dark: impl Fn(usize, usize) -> bool) -> Vec<String> {
    // Pixels a module is wide.
    const SCALE: usize = 4;
    let is_dark = |x: usize, y: usize| dark(x / SCALE, y / SCALE);
    let mut picture = rqrr::PreparedImage::prepare_from_bitmap(side * SCALE, side * SCALE, is_dark);
    picture.detect_grids().iter().map(|grid| grid.decode().expect("the code can be read").1).collect()
}
