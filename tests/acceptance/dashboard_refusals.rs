//! What the dashboard shows when something is refused, and its windows in both languages; there is no operator.

use serde_json::{Value, json};

use crate::dashboard_states::{Stage, status, with_code};

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
