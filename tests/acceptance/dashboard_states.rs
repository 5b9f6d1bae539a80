//! What the dashboard looks like in states that pass quickly or seldom come about, one by one. There is no operator: the test says where
//! an instance stands, and what the gateway answers where only a broken one would.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use browser::Browser;

use crate::{
    dashboard::{sign_in, start_browser, with_module},
    support::{
        gateway::{ALL_VERBS, Rest, account, user},
        world::World,
    },
};

/// A page whose gateway answers what the test says: by a method and a part of the path, data or a refusal; null is no answer.
const MADE_UP: &str = "const really = window.fetch; window.answers = {};\
    window.fetch = (to, how) => { const asked = `${how?.method ?? 'GET'} ${to}`;\
        const one = Object.keys(window.answers).find(one => one.split(' ').every(part => asked.includes(part)));\
        if (!one) return really(to, how); const answer = window.answers[one];\
        if (answer === null) return new Promise(() => {});\
        const error = answer.error; const body = error ? {success: false, error} : {success: true, data: answer};\
        return Promise.resolve(new Response(JSON.stringify(body), {status: error ? 409 : 200})); }";

/// A world without an operator, and a browser in it that is signed in.
pub struct Stage {
    world: World,
    rest: Rest,
    token: String,
    pub browser: Browser,
}

impl Stage {
    pub async fn start(name: &str) -> Self {
        let mut world = World::start(name).await;
        let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
        let token = account(&world, "app", ALL_VERBS).await;
        world.operator.kill();
        let browser = start_browser(&world.dir).await;
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": MADE_UP })).await;
        sign_in(&browser, &rest, &token, "/dashboard").await;
        Self { world, rest, token, browser }
    }

    /// An instance that stands so; its id.
    pub async fn instance(&self, object: &str, spec: Value, status: Value) -> String {
        let mut whole = json!({"name": "Reception", "owner": user(&self.world, "app")});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let made = self.world.apply(object, whole).await;
        self.stands(object, status).await;
        let id = made.metadata.uid.unwrap();
        self.browser.find(&format!("[data-id='{id}']")).await;
        id
    }

    /// From now on the instance stands so.
    pub async fn stands(&self, object: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.world.instances().patch_status(object, &PatchParams::default(), &patch).await.unwrap();
    }

    /// What the gateway answers from now on.
    pub async fn answers(&self, answers: Value) {
        self.browser.run("window.answers = arguments[0]", &[answers]).await;
    }

    /// Opens a window of an instance, as its button does.
    pub async fn window(&self, kind: &str, id: &str) {
        let open = format!("module.openDialog('{kind}', {{id: '{id}'}}); return true");
        assert_eq!(with_module(&self.browser, "store.js", &open).await, true);
        self.browser.find("dialog[open] h2").await;
    }

    pub async fn close_window(&self) {
        self.browser.escape().await;
        self.browser.until_gone("dialog").await;
    }

    /// The page, opened anew in this language.
    pub async fn speak(&self, language: &str) {
        self.browser.run("localStorage.setItem('dashboard.language', arguments[0])", &[language.into()]).await;
        self.open("/dashboard").await;
        self.browser.until("it speaks so", "document.documentElement.lang === arguments[0]", &[language.into()]).await;
        self.browser.find("[data-id]").await;
    }

    pub async fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.rest.url)).await;
    }

    /// Waits until these words are in the element.
    pub async fn says(&self, css: &str, words: &str) {
        let said = "document.querySelector(arguments[0])?.textContent.includes(arguments[1])";
        self.browser.until(&format!("{css} says {words}"), said, &[css.into(), words.into()]).await;
    }
}

fn condition(kind: &str, is: bool, reason: &str) -> Value {
    let status = if is { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": "It says why.", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// Where an instance stands, and why; linked or not.
pub fn status(phase: &str, reason: &str, linked: bool) -> Value {
    let online = phase == "Connected";
    json!({
        "phase": phase, "phoneNumber": linked.then_some("+15550400777"), "qr": null, "pairingCode": null,
        "conditions": [condition("Paired", linked, "Known"), condition("Connected", online, "Known"), condition("Ready", online, reason)],
    })
}

/// The same, with a code that is good for as long as codes ever are.
pub fn with_code() -> Value {
    let mut status = status("AwaitingPairing", "AwaitingPairing", false);
    let ends = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600)).to_string();
    status["qr"] = json!({"code": format!("2@{}", "k".repeat(200)), "expiresAt": ends, "attempt": 1, "attempts": 6});
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_page_that_does_not_come_is_said_to_be_missing_and_comes_with_a_reload() {
    let stage = Stage::start("dashboard-states-part").await;
    let browser = &stage.browser;
    let id = stage.instance("reception", json!({}), status("Connected", "Known", true)).await;
    browser.devtools("Network.enable", json!({})).await;
    browser.devtools("Network.setCacheDisabled", json!({"cacheDisabled": true})).await;
    browser.devtools("Network.setBlockedURLs", json!({"urls": ["*/page/cards.js"]})).await;
    stage.open("/dashboard").await;
    stage.says("main .problem", "does not answer").await;
    browser.inspect("part-missing").await;
    browser.devtools("Network.setBlockedURLs", json!({"urls": []})).await;
    browser.press("main .problem .button").await;
    browser.find(&format!("[data-id='{id}']")).await;
    stage.browser.close().await;
}

/// The window that says that the phone is linked closes by itself; here it stays until the test has seen it.
const FAREWELL_STAYS: &str = "const soon = window.setTimeout;\
    window.setTimeout = (what, after, ...rest) => after === 1500 ? (window.farewell = what, 0) : soon(what, after, ...rest)";

#[tokio::test(flavor = "multi_thread")]
async fn the_window_of_a_code_in_all_its_states() {
    let stage = Stage::start("dashboard-states-code").await;
    let browser = &stage.browser;
    let id = stage.instance("reception", json!({}), status("Pending", "NotStarted", false)).await;
    stage.window("qr", &id).await;
    for (state, phase, reason, says) in [
        ("qr-awaited", "Pending", "NotStarted", "Waiting for the code"),
        ("qr-queued", "Pending", "PairingQueued", "its code comes in its turn"),
        ("qr-linking", "Connecting", "Connecting", "The phone has the code"),
        ("qr-passkey", "AwaitingPasskey", "AwaitingPasskey", "Needs a passkey"),
        ("qr-refused", "Rejected", "LimitExceeded", "as many instances as allowed"),
    ] {
        stage.stands("reception", status(phase, reason, false)).await;
        stage.says("dialog", says).await;
        browser.inspect(state).await;
    }
    browser.run(FAREWELL_STAYS, &[]).await;
    stage.stands("reception", status("Connected", "Known", true)).await;
    browser.find(".qr-done").await;
    browser.inspect("qr-linked").await;
    browser.run("window.farewell()", &[]).await;
    browser.until_gone("dialog").await;

    // A link that another window has made: that it is there is said, not what it is.
    stage.stands("reception", with_code()).await;
    let made = stage.rest.call(&stage.token, "POST", &format!("/api/v1/sessions/link/{id}/"), json!({})).await;
    let link = stage.address(made.data(201));
    stage.window("qr", &id).await;
    browser.find("[data-share='revoke']").await;
    browser.find(".qr-picture").await;
    browser.inspect("share-before").await;
    // The code cannot be had.
    stage.close_window().await;
    let error = json!({"code": "Unavailable", "message": "the API server does not answer", "retryable": true, "requestId": "4711"});
    stage.answers(json!({"GET sessions/qr/": {"error": error}})).await;
    stage.window("qr", &id).await;
    stage.says("dialog .problem", "The cluster does not answer the gateway").await;
    browser.inspect("qr-unavailable").await;
    stage.answers(json!({})).await;

    // By a code to type, which nobody typed.
    let typed = json!({"name": "Typed", "pairing": {"method": "Code", "phoneNumber": "+15550400777"}});
    let typed = stage.instance("typed", typed, status("PairingExpired", "PairingExpired", false)).await;
    stage.close_window().await;
    stage.window("qr", &typed).await;
    stage.says("dialog", "EXPIRED").await;
    browser.inspect("code-expired").await;

    // It is deleted while somebody looks at it.
    stage.close_window().await;
    stage.window("qr", &id).await;
    browser.find(".qr-picture").await;
    stage.world.instances().delete("reception", &kube::api::DeleteParams::default()).await.unwrap();
    let unfinished = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    let _ = stage.world.instances().patch("reception", &PatchParams::default(), &unfinished).await;
    stage.says("dialog", "This instance was deleted").await;
    browser.inspect("qr-gone").await;
    stage.close_window().await;
    the_page_of_a_link_in_its_states(&stage, &typed, &link).await;
    stage.browser.close().await;
}

/// With a code to type, taken by another browser, over; and in German.
async fn the_page_of_a_link_in_its_states(stage: &Stage, typed: &str, gone: &str) {
    let browser = &stage.browser;
    let ends = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600)).to_string();
    let mut waits = status("AwaitingPairing", "AwaitingPairing", false);
    waits["pairingCode"] = json!({"code": "ABCD1234", "expiresAt": ends});
    stage.stands("typed", waits).await;
    let made = stage.rest.call(&stage.token, "POST", &format!("/api/v1/sessions/link/{typed}/"), json!({})).await;
    let link = stage.address(made.data(201));
    browser.open(&link).await;
    browser.press(".link .button").await;
    browser.find(".qr-typed").await;
    browser.inspect("link-typed").await;

    // To the gateway another browser opens it, which is too late.
    browser.run("localStorage.setItem('linking.browser', '0123456789abcdef0123456789abcdef')", &[]).await;
    browser.open("about:blank").await;
    browser.open(&link).await;
    stage.says(".link-end", "open in another browser").await;
    browser.inspect("link-taken").await;
    browser.open("about:blank").await;
    browser.open(gone).await;
    browser.press(".link .button").await;
    stage.says(".link-end", "does not work any more").await;

    let german = stage.instance_behind("german").await;
    browser.run("localStorage.setItem('dashboard.language', 'de')", &[]).await;
    browser.open("about:blank").await;
    browser.open(&german).await;
    browser.find(".link .button").await;
    browser.inspect("link-start-german").await;
    browser.press(".link .button").await;
    browser.find(".qr-picture").await;
    browser.inspect("link-german").await;
    // The phone has used the code.
    stage.stands("german", status("Connecting", "Connecting", false)).await;
    stage.says(".qr-over", "Das Telefon hat den Code").await;
    browser.inspect("link-linking-german").await;
}

impl Stage {
    /// An instance with a code, seen on no page; its linking link.
    async fn instance_behind(&self, object: &str) -> String {
        let spec = json!({"name": "Behind", "owner": user(&self.world, "app")});
        let made = self.world.apply(object, spec).await;
        self.stands(object, with_code()).await;
        let path = format!("/api/v1/sessions/link/{}/", made.metadata.uid.unwrap());
        self.address(self.rest.call(&self.token, "POST", &path, json!({})).await.data(201))
    }

    /// Where a linking link leads: the gateway says what comes after its own address.
    fn address(&self, made: &Value) -> String {
        format!("{}{}", self.rest.url, made["link"].as_str().unwrap())
    }
}
