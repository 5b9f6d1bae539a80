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
struct Stage {
    world: World,
    rest: Rest,
    token: String,
    browser: Browser,
}

impl Stage {
    async fn start(name: &str) -> Self {
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
    async fn instance(&self, object: &str, spec: Value, status: Value) -> String {
        let mut whole = json!({"name": "Reception", "owner": user(&self.world, "app")});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let made = self.world.apply(object, whole).await;
        self.stands(object, status).await;
        let id = made.metadata.uid.unwrap();
        self.browser.find(&format!("[data-id='{id}']")).await;
        id
    }

    /// From now on the instance stands so.
    async fn stands(&self, object: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.world.instances().patch_status(object, &PatchParams::default(), &patch).await.unwrap();
    }

    /// What the gateway answers from now on.
    async fn answers(&self, answers: Value) {
        self.browser.run("window.answers = arguments[0]", &[answers]).await;
    }

    /// Opens a window of an instance, as its button does.
    async fn window(&self, kind: &str, id: &str) {
        let open = format!("module.openDialog('{kind}', {{id: '{id}'}}); return true");
        assert_eq!(with_module(&self.browser, "store.js", &open).await, true);
        self.browser.find("dialog[open] h2").await;
    }

    async fn close_window(&self) {
        self.browser.escape().await;
        self.browser.until_gone("dialog").await;
    }

    /// The page, opened anew in this language.
    async fn speak(&self, language: &str) {
        self.browser.run("localStorage.setItem('dashboard.language', arguments[0])", &[language.into()]).await;
        self.open("/dashboard").await;
        self.browser.until("it speaks so", "document.documentElement.lang === arguments[0]", &[language.into()]).await;
        self.browser.find("[data-id]").await;
    }

    async fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.rest.url)).await;
    }

    /// Waits until these words are in the element.
    async fn says(&self, css: &str, words: &str) {
        let said = "document.querySelector(arguments[0])?.textContent.includes(arguments[1])";
        self.browser.until(&format!("{css} says {words}"), said, &[css.into(), words.into()]).await;
    }
}

fn condition(kind: &str, is: bool, reason: &str) -> Value {
    let status = if is { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": "It says why.", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// Where an instance stands, and why; linked or not.
fn status(phase: &str, reason: &str, linked: bool) -> Value {
    let online = phase == "Connected";
    json!({
        "phase": phase, "phoneNumber": linked.then_some("+15550400777"), "qr": null, "pairingCode": null,
        "conditions": [condition("Paired", linked, "Known"), condition("Connected", online, "Known"), condition("Ready", online, reason)],
    })
}

/// The same, with a code that is good for as long as codes ever are.
fn with_code() -> Value {
    let mut status = status("AwaitingPairing", "AwaitingPairing", false);
    let ends = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600)).to_string();
    status["qr"] = json!({"code": format!("2@{}", "k".repeat(200)), "expiresAt": ends, "attempt": 1, "attempts": 6});
    status
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

/// With a code to type, without an answer, taken by another browser; and in German.
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
    // The gateway is gone while the code is on the screen.
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

/// A message of the made-up list.
fn message(number: usize, status: &str, more: Value) -> Value {
    let at = format!("2026-01-01T12:{number:02}:00Z");
    let mut whole = json!({
        "id": format!("m{number}"), "status": status, "recipient": "+15550400099", "message": format!("Message {number}: {status}"),
        "accepted_at": at, "sent_at": at, "waits_for": null, "cause": null,
    });
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    whole
}

/// Messages in every state, with what each waits for or why it ended.
fn every_message(session: &str) -> Value {
    let waits = ["Turn", "Connection", "Pairing", "Pacing", "Restriction", "Acknowledgement"];
    let causes = [
        "NotOnWhatsApp",
        "RecipientUnreachable",
        "RefusedByServer",
        "NotUnderstood",
        "OutsideWindow",
        "SessionDeleted",
        "AccountChanged",
        "Unsendable",
    ];
    let waiting =
        waits.iter().map(|waits| ("queued", json!({"waits_for": waits, "estimated_send_at": "2026-01-01T13:00:00Z"})));
    let failed = causes.iter().map(|cause| ("failed", json!({"cause": cause})));
    let there = json!({"companion_delivered_at": "2026-01-01T12:30:00Z"});
    let others = [("sent", json!({})), ("sent", there), ("delivered", json!({})), ("read", json!({}))];
    let ended = [("expired", json!({})), ("cancelled", json!({}))];
    let all = waiting.chain(others).chain(failed).chain(ended).enumerate();
    let messages: Vec<Value> = all
        .map(|(number, (status, mut more))| {
            more["session_id"] = session.into();
            message(number, status, more)
        })
        .collect();
    json!({"messages": messages, "next_cursor": null})
}

/// A refusal as the gateway gives it.
fn refusal(code: &str, message: &str) -> Value {
    json!({"error": {"code": code, "message": message, "retryable": true, "retryAfter": 30, "requestId": "0a1b2c3d4e5f60718293a4b5c6d7e8f9"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_and_what_is_in_every_window_in_both_languages() {
    let stage = Stage::start("dashboard-states-windows").await;
    let browser = &stage.browser;
    let id = stage.instance("reception", json!({}), status("Connected", "Known", true)).await;
    let waiting = stage.instance("waiting", json!({"name": "Waiting"}), with_code()).await;
    for (language, suffix, said) in [
        (
            "en",
            "",
            ["is under way", "As many messages wait", "does not answer", "the permission", "A request is malformed"],
        ),
        (
            "de",
            "-german",
            [
                "wird gerade geändert",
                "Es warten so viele",
                "antwortet nicht",
                "die Berechtigung",
                "A request is malformed",
            ],
        ),
    ] {
        stage.speak(language).await;
        let inspect = async |state: &str| browser.inspect(&format!("{state}{suffix}")).await;
        stage
            .answers(json!({
                "PATCH sessions/": refusal("ChangeUnderWay", "another change of the name of \"reception\" is under way"),
                "POST sessions/unlink/": refusal("AdmissionUnavailable", "the webhook of whatsapp-operator does not answer"),
                "DELETE sessions/": refusal("NotAllowed", "system:serviceaccount:x:app may not delete whatsappinstances"),
                "POST sessions/disconnect/": refusal("BadRequest", "a request is malformed"),
                "POST messages/send/": refusal("QueueFull", "1000 messages wait for this session, and no more may"),
                "GET messages/list/": every_message(&id),
            }))
            .await;
        // What the gateway says beyond our words of it is there too, and with it the number of the request.
        stage.window("rename", &id).await;
        browser.type_into("dialog .field input", "Front desk").await;
        browser.press("dialog [type=submit]").await;
        stage.says("dialog .problem", said[0]).await;
        stage.says("dialog .problem .said", "Another change of the name of \"reception\"").await;
        stage.says("dialog .problem", "0a1b2c3d").await;
        inspect("rename-refused").await;
        stage.close_window().await;
        stage.window("unlink", &id).await;
        browser.press("dialog [type=submit]").await;
        stage.says("dialog .problem", said[2]).await;
        inspect("unlink-refused").await;
        stage.close_window().await;
        stage.window("remove", &id).await;
        browser.type_into("dialog .field input", "Reception").await;
        browser.press("dialog [type=submit]").await;
        stage.says("dialog .problem", said[3]).await;
        inspect("delete-refused").await;
        stage.close_window().await;
        // Of what says nothing without it the gateway's own sentence is among the words, once.
        browser.press(&format!("[data-id='{id}'] [data-verb='disconnect']")).await;
        stage.says(".toast.bad p", said[4]).await;
        assert_eq!(browser.run("return document.querySelectorAll('.toast .said').length", &[]).await, 0);
        inspect("cards-refused").await;

        stage.window("messages", &id).await;
        browser.find(".message.is-cancelled").await;
        inspect("messages-states").await;
        browser.type_into("[name=recipient]", "+15550400099").await;
        browser.type_into("[name=text]", "Hello").await;
        browser.press("dialog .compose .button").await;
        stage.says(".compose .problem", said[1]).await;
        browser.run("document.querySelector('.message.is-failed').scrollIntoView()", &[]).await;
        browser.keep_picture(&format!("messages-failed{suffix}")).await;
        browser.run("document.querySelector('.dialog-body').scrollTop = 0", &[]).await;
        inspect("messages-refused").await;
        stage.close_window().await;
        stage.answers(json!({"GET messages/list/": null})).await;
        stage.window("messages", &id).await;
        browser.find("dialog .skeleton").await;
        inspect("messages-loading").await;
        stage.close_window().await;
        if language == "de" {
            the_other_windows_in_german(&stage, &waiting).await;
        }
    }
    stage.browser.close().await;
}

/// What is looked at in English where it comes about.
async fn the_other_windows_in_german(stage: &Stage, waiting: &str) {
    let browser = &stage.browser;
    browser.inspect("cards-german").await;
    stage.window("qr", waiting).await;
    browser.find(".qr-picture").await;
    browser.press("[data-share='make']").await;
    browser.find(".share .copy").await;
    browser.inspect("qr-german").await;
    stage.close_window().await;
    browser.key("n").await;
    browser.find("dialog input[value=Code]").await;
    browser.press("dialog input[value=Code]").await;
    browser.run("document.querySelector('dialog details').open = true", &[]).await;
    browser.inspect("add-german").await;
    stage.close_window().await;
    browser.key("?").await;
    browser.find("dialog .keys").await;
    browser.inspect("help-german").await;
    stage.close_window().await;
    browser.key("e").await;
    browser.find("dialog .events").await;
    stage.stands("reception", status("Disconnected", "Stopped", true)).await;
    browser.find(".events li").await;
    browser.press("dialog [data-verb=pause]").await;
    browser.press("dialog .check input").await;
    browser.press(".events summary").await;
    browser.inspect("events-paused-german").await;
    stage.close_window().await;
    browser.press("header .menu > .button").await;
    browser.inspect("menu-german").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_many_while_it_runs_and_when_all_fail_and_a_gateway_that_is_away() {
    let stage = Stage::start("dashboard-states-many").await;
    let browser = &stage.browser;
    for n in 1..=4 {
        let spec = json!({"name": format!("Line {n}")});
        stage.instance(&format!("line-{n}"), spec, status("Disconnected", "Stopped", true)).await;
    }
    browser.press(".segments button[aria-pressed=false]").await;
    browser.find("tbody tr").await;
    browser.run("document.querySelector('thead input').click()", &[]).await;
    browser.find(".bulk").await;
    stage.answers(json!({"POST bulk": null})).await;
    browser.press("[data-bulk=connect]").await;
    stage.says(".bulk-outcome", "4 to go").await;
    browser.inspect("bulk-running").await;
    // The language may change meanwhile; what the gateway says is told in the words of whoever looks.
    stage.speak("de").await;
    browser.run("document.querySelector('thead input').click()", &[]).await;
    browser.find(".bulk").await;
    let error = refusal("BridgeUnavailable", "the bridge \"main\" does not answer")["error"].clone();
    let outcomes: Vec<Value> = (0..4).map(|_| json!({"done": false, "error": error})).collect();
    stage.answers(json!({"POST bulk": {"outcomes": outcomes}})).await;
    browser.press("[data-bulk=connect]").await;
    stage.says("tbody .outcome.failed", "Die Bridge dieser Instanz antwortet nicht").await;
    stage.says("tbody .outcome.failed .said", "The bridge \"main\" does not answer").await;
    browser.find("[data-bulk=retry]").await;
    browser.inspect("bulk-failed-german").await;

    // Nobody knows who is signed in, for the gateway does not answer; then in a window as wide as a tablet.
    let away = "const before = window.fetch; window.fetch = (to, how) => String(to).endsWith('/me') ? Promise.reject(new TypeError('gone')) : before(to, how)";
    let added = browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": away })).await;
    stage.open("/dashboard").await;
    stage.says(".sign-in-card .problem", "Das Gateway antwortet nicht").await;
    browser.inspect("sign-in-unreachable-german").await;
    browser.devtools("Page.removeScriptToEvaluateOnNewDocument", json!({"identifier": added["identifier"]})).await;
    browser
        .run("localStorage.setItem('dashboard.language', 'en'); localStorage.setItem('dashboard.view', 'grid')", &[])
        .await;
    stage.open("/dashboard").await;
    browser.find(".card[data-id]").await;
    for (name, size) in [("cards-tablet", (768, 1024)), ("cards-wide", (1920, 1080))] {
        browser.look(browser::Look { name: "between", size, scheme: "light" }).await;
        browser.keep_picture(name).await;
    }
    browser.look(browser::LOOKS[0]).await;
    stage.browser.close().await;
}
