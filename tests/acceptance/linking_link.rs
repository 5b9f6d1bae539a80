//! Linking links: somebody who has the phone, and no account of the cluster, links it.

use std::{collections::HashMap, time::Duration};

use browser::LOOKS;
use serde_json::{Value, json};
use whatsapp_operator::{api::WhatsAppInstance, platform::hex::sha256};

use crate::{
    dashboard::{add, card, counts_down, drawn, sign_in, start_browser},
    gateway::{named, world},
    support::{
        control_plane::ControlPlane,
        gateway::{ALL_VERBS, Answer, READ_VERBS, Rest, account, answered, user},
        history::Ask as _,
        world::{SOON, World},
    },
};

/// What a browser with a link asks for.
async fn open(rest: &Rest, link: &str, browser: &str, seen: Option<&str>) -> Answer {
    let (_, secret) = link.split_once('#').unwrap_or_else(|| panic!("no secret in a link of {} letters", link.len()));
    let mut body = json!({"link": secret, "browser": format!("{browser:0>16}")});
    if let Some(seen) = seen {
        body["seen"] = seen.into();
    }
    answered(rest.request("POST", "/api/v1/linking-code").json(&body)).await
}

async fn begun(world: &World, rest: &Rest, token: &str, name: &str) -> Value {
    rest.call(token, "POST", "/api/v1/sessions/init/?wait=30", named(world, name)).await.data(201).clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_phone_links_it_without_an_account() {
    let phone = "+15550400041";
    let world = world("dashboard-link").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    add(&browser, &world, "Reception").await;
    let reception = card(&rest, &token, "Reception").await;
    browser.find(".qr-picture").await;
    browser.press("[data-share='make']").await;
    let link = browser.text(".share .copy code").await;
    assert!(link.starts_with(&rest.url), "it leads to this gateway");
    browser.inspect("share").await;
    // All of the window can be reached on the smallest phone.
    browser.look(LOOKS[3]).await;
    let last = "(last => (last.scrollIntoView(), last.getBoundingClientRect().bottom\
        <= document.querySelector('dialog').getBoundingClientRect().bottom))([...document.querySelectorAll('dialog .button')].at(-1))";
    browser.until("the last button is scrolled into sight", last, &[]).await;
    browser.look(LOOKS[0]).await;

    // Another browser, signed in nowhere.
    let other = start_browser(&world.dir.join("other")).await;
    other.open(&link).await;
    other.find(".link .button").await;
    other.inspect("link-start").await;
    other.press(".link .button").await;
    let list = rest.get(&token, "/api/v1/sessions/list/").await;
    let object = text(&list.data(200)["sessions"][0], "object").to_owned();
    let code = drawn(&other).await;
    let shown = world.instances().get(&object).await.unwrap().status.unwrap().qr.unwrap();
    assert_eq!(code, shown.code.reveal(), "it is the code in status");
    counts_down(&other, shown.expires_at.0).await;
    other.inspect("link").await;
    let secret = link.rsplit('.').next().unwrap();
    let all = other.run("return location.href + document.documentElement.outerHTML", &[]).await;
    let all = all.as_str().unwrap();
    assert!(!all.contains(secret), "the secret does not stay in the address");
    assert!(!all.contains("Reception") && !all.contains(&object), "the code and nothing else");
    // Loaded again, it is the same browser still. One that comes later is another.
    other.open(&link).await;
    other.find(".qr-picture").await;
    open(&rest, &link, "third", None).await.refused(409, "LinkTaken");

    world.whatsapp.scan(&drawn(&other).await, phone, "Alice").await.unwrap();
    other.find(".link-end.is-good").await;
    other.inspect("link-linked").await;
    browser.until_gone("dialog").await;
    browser.find(&format!("{reception}.is-good")).await;
    assert!(rest.get(&token, &format!("/api/v1/sessions/status/{object}/?namespace={}", world.name)).await.data(200)["link_expires_at"].is_null());

    // A link that is none.
    other.open(&format!("{}/dashboard/link#{}", rest.url, "y".repeat(40))).await;
    other.press(".link .button").await;
    let ended = "document.querySelector('.link-end:not(.is-good)')";
    other.until("the link does not work", ended, &[]).await;
    other.inspect("link-over").await;
    for browser in [browser, other] {
        browser.close().await;
    }
    rest.nothing_leaked(&world, &[phone], &[&token, secret]).await;
}

/// A link that was made and taken back at one gateway and opened at another: who did what with it stands in their logs, under the
/// first digits of its digest, and the change to the instance in the API server's.
async fn is_in_the_logs(world: &World, maker: &Rest, opener: &Rest, link: &str, object: &str) {
    let name = sha256(link.rsplit('.').next().unwrap())[..8].to_owned();
    let (caller, reader) = (user(world, "app"), format!("linking link {name}"));
    for (gateway, what, by) in [
        (maker, "a linking link is made", &caller),
        (opener, "a linking link is opened", &reader),
        (opener, "/api/v1/linking-code", &reader),
        (maker, "a linking link is taken back", &caller),
    ] {
        let log = gateway.program.log();
        let line = log.lines().find(|line| line.contains(what) && line.contains(&name));
        let line: Value = serde_json::from_str(line.unwrap_or_else(|| panic!("no line: {what} {name}"))).unwrap();
        let place = format!("{}/{object}", world.name);
        assert_eq!((text(&line, "caller"), text(&line, "instance")), (by.as_str(), place.as_str()), "{what}");
    }
    let log = ControlPlane::shared().await.audit_log().unwrap();
    let changed = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        event["verb"] == "patch"
            && event["objectRef"]["namespace"] == world.name
            && event["objectRef"]["name"] == object
            && [&event["user"], &event["impersonatedUser"]].iter().any(|who| who["username"] == caller)
    };
    let written = async {
        // An event is written a moment after the answer; the last line may be half there.
        while !std::fs::read_to_string(&log).unwrap().lines().any(|line| line.contains(object) && changed(line)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, written).await.expect("the audit log has the change");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_when_it_is_taken_back_replaced_used_or_too_old() {
    let phone = "+15550400042";
    let world = world("linking-links").await;
    let rest = Rest::start(&world, &[]).await;
    let other = Rest::beside(&world, "other", &["--public-url", "https://a.example/"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let viewer = account(&world, "viewer", READ_VERBS).await;
    let mut made = HashMap::new();
    for name in ["short", "revoked", "used"] {
        made.insert(name, begun(&world, &rest, &token, name).await);
    }
    let place = |name: &str| format!("/api/v1/sessions/link/{}/", text(&made[name], "id"));
    let make = async |name: &str, body: Value| rest.call(&token, "POST", &place(name), body).await.data(201).clone();

    // Who may: whoever may change the session. What may be asked for: half a minute to ten.
    rest.call(&viewer, "POST", &place("short"), json!({})).await.refused(404, "NotAllowed");
    rest.call(&token, "POST", &place("short"), json!({"expires_in": 601})).await.refused(422, "Invalid");
    let short = make("short", json!({"expires_in": 30})).await;
    open(&rest, text(&short, "link"), "one", None).await.data(200);

    // Taken back: nothing is shown any more, and the code that was shown is no good.
    let link = text(&make("revoked", Value::Null).await, "link").to_owned();
    // Any gateway knows it, also one that did not make it.
    let shown = open(&other, &link, "one", None).await.data(200).clone();
    assert_eq!((&shown["state"], &shown["pairing_method"]), (&json!("code"), &json!("QR")));
    assert!(shown["qr_drawing"]["path"].is_string() && shown["pairing_code"].is_null());
    open(&rest, &link, "two", None).await.refused(409, "LinkTaken");
    let object = text(&made["revoked"], "object").to_owned();
    let before = world.qr(&object).await;
    // Whoever waits for what comes next is told at once.
    let waiting = open(&other, &link, "one", Some(text(&shown, "version")));
    let revoking = async { rest.call(&token, "DELETE", &place("revoked"), Value::Null).await };
    let (waiting, revoked) = tokio::join!(waiting, revoking);
    assert!(revoked.data(200)["link_expires_at"].is_null());
    waiting.refused(410, "LinkOver");
    open(&rest, &link, "one", None).await.refused(410, "LinkOver");
    is_in_the_logs(&world, &rest, &other, &link, &object).await;
    let another = |one: &WhatsAppInstance| one.qr().is_some_and(|code| code != before);
    world.history.until(&object, "showing another code", SOON, another).await;
    // Another link, of the same session, takes the place of the first.
    let first = text(&make("revoked", json!({})).await, "link").to_owned();
    open(&other, &first, "one", None).await.data(200);
    let second = text(&make("revoked", json!({})).await, "link").to_owned();
    open(&other, &second, "two", None).await.data(200);
    open(&other, &first, "one", None).await.refused(410, "LinkOver");
    // Whatever else is said to be a link is none.
    let wrong = format!("{}{}", &second[..second.len() - 1], if second.ends_with('0') { '1' } else { '0' });
    for none in [wrong.as_str(), "#", "#.", "#nobody.secret", &format!("#{}.", text(&made["revoked"], "id"))] {
        let answer = open(&other, none, "two", None).await;
        assert!([410, 422].contains(&answer.status), "{}", answer.status);
    }
    answered(other.request("POST", "/api/v1/linking-code").json(&json!({"link": "a.b"}))).await.refused(422, "Invalid");

    // A gateway that knows its address tells all of it.
    let whole = other.call(&token, "POST", &place("used"), json!({})).await.data(201)["link"].clone();
    assert!(whole.as_str().unwrap().starts_with("https://a.example/dashboard/link#"));

    // Used: no link is made for a session that has its device.
    let link = text(&make("used", json!({})).await, "link").to_owned();
    let shown = open(&rest, &link, "one", None).await.data(200).clone();
    let next = async {
        let mut version = text(&shown, "version").to_owned();
        loop {
            let now = open(&rest, &link, "one", Some(&version)).await.data(200).clone();
            if now["state"] == "linked" {
                break now;
            }
            version = text(&now, "version").to_owned();
        }
    };
    let (now, ()) = tokio::join!(next, world.scan(text(&made["used"], "object"), phone));
    assert!(now["qr_drawing"].is_null() && now["code_expires_at"].is_null());
    rest.call(&token, "POST", &place("used"), json!({})).await.refused(409, "AlreadyConnected");
    rest.post(&token, &format!("/api/v1/sessions/disconnect/{}/?wait=30", text(&made["used"], "id"))).await.data(200);
    rest.call(&token, "POST", &place("used"), json!({})).await.refused(409, "NoCode");

    // Too old: whoever still looks at it hears so.
    let ends = async {
        let mut version = None;
        loop {
            let answer = open(&rest, text(&short, "link"), "one", version.as_deref()).await;
            if answer.status != 200 {
                break answer;
            }
            version = Some(text(&answer.body["data"], "version").to_owned());
        }
    };
    let ended = tokio::time::timeout(SOON + Duration::from_secs(30), ends).await.expect("it ends");
    ended.refused(410, "LinkOver");
    rest.nothing_leaked(&world, &[phone], &[&token, link.rsplit('.').next().unwrap()]).await;
}
