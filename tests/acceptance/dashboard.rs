//! The dashboard in a real browser, against everything real: the life of instances as a person sees it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use browser::{Browser, read_code};

use crate::{
    gateway::world,
    support::{
        control_plane::room,
        gateway::{ALL_VERBS, Rest, account, answered, apply},
        history::Ask,
        world::{SOON, World, target_dir},
    },
    turns::calm,
};

/// A browser with its files in `dir`.
pub async fn start_browser(dir: &Path) -> Browser {
    Browser::start(dir, &target_dir().join("screenshots"), &room().join("tether")).await
}

/// Lets an owner have so many instances.
async fn may_have(world: &World, owner: &str, instances: u32) {
    let limit = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwner",
        "metadata": {"name": whatsapp_operator::rules::owner::object_name(owner)},
        "spec": {"owner": owner, "maxInstances": instances},
    });
    apply(&world.client, &limit).await;
}

/// Makes 200 instances of an owner, who may have more. They are offline.
pub async fn two_hundred(world: &World, owner: &str) {
    may_have(world, owner, 300).await;
    for n in 0..200 {
        let spec = json!({"name": format!("Line {n:03}"), "owner": owner, "desiredState": "Disconnected"});
        world.apply(&format!("line-{n:03}"), spec).await;
    }
}

/// Opens the page and signs in with a token.
pub async fn sign_in(browser: &Browser, rest: &Rest, token: &str, path: &str) {
    browser.open(&format!("{}{path}", rest.url)).await;
    browser.paste_into("[name=token]", token).await;
    browser.press("[type=submit]").await;
    browser.find(".summary").await;
    browser.until("it is live", "document.querySelector('.live.live')", &[]).await;
}

/// Fills the form for a new instance, on this world's bridge, and sends it.
pub async fn add(browser: &Browser, world: &World, name: &str) {
    browser.press(".button.add").await;
    browser.paste_into("dialog .field input", name).await;
    browser.press_button("dialog", "More options").await;
    browser.type_into("dialog [name=bridge]", &world.name).await;
    browser.press("dialog [type=submit]").await;
    browser.find("dialog.qr").await;
}

/// What a script returns that is given a part of the page by the name of its file, as `module`; others are beside it, below the same
/// `version`.
pub async fn with_module(browser: &Browser, file: &str, script: &str) -> Value {
    let whole = format!(
        "const done = arguments[arguments.length - 1];\
        const version = document.querySelector('link[rel=icon]').href.split('/').at(-2);\
        import(`/dashboard/assets/${{version}}/{file}`).then(async module => {{ {script} }})\
            .then(done, error => done({{error: String(error)}}))"
    );
    browser.run_async(&whole).await
}

/// The card of the instance with this display name, as a selector.
pub async fn card(rest: &Rest, token: &str, name: &str) -> String {
    let list = rest.get(token, "/api/v1/sessions/list/?owner=*").await.data(200)["sessions"].clone();
    let found = list.as_array().unwrap().iter().find(|one| one["instance_name"] == name);
    let id = found.unwrap_or_else(|| panic!("no {name} in {list}"))["id"].as_str().unwrap().to_owned();
    format!("[data-id='{id}']")
}

/// The object of the instance with this display name.
async fn object(rest: &Rest, token: &str, name: &str) -> String {
    let list = rest.get(token, "/api/v1/sessions/list/").await.data(200)["sessions"].clone();
    let found = list.as_array().unwrap().iter().find(|one| one["instance_name"] == name).unwrap().clone();
    found["object"].as_str().unwrap().to_owned()
}

/// The code on the screen, read as a phone reads it: from what is drawn.
pub async fn drawn(browser: &Browser) -> String {
    browser.find(".qr-picture").await;
    let script = "const picture = document.querySelector('.qr-picture');\
        return [picture.viewBox.baseVal.width, picture.querySelector('path').getAttribute('d'), picture.getBoundingClientRect().width]";
    let found = browser.run(script, &[]).await;
    let (side, path) = (found[0].as_f64().unwrap(), found[1].as_str().unwrap().to_owned());
    // Modules are whole pixels, all of the same size: it is crisp.
    let pixels = found[2].as_f64().unwrap() / side;
    assert!(pixels >= 1.0 && pixels.fract() == 0.0, "a module is {pixels} pixels wide");
    let mut dark = std::collections::HashSet::new();
    for run in path.split('M').skip(1) {
        let (x, rest) = run.split_once(' ').unwrap();
        let (y, rest) = rest.split_once('h').unwrap();
        let (x, length): (usize, usize) = (x.parse().unwrap(), rest.split_once('v').unwrap().0.parse().unwrap());
        dark.extend((x..x + length).map(|x| (x, y.parse::<usize>().unwrap())));
    }
    // The page draws a light margin around.
    let is_dark = |x: usize, y: usize| x.checked_sub(4).zip(y.checked_sub(4)).is_some_and(|at| dark.contains(&at));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let codes = read_code(side as usize, is_dark);
    assert_eq!(codes.len(), 1, "one code is on the screen");
    codes[0].clone()
}

/// The seconds that the page shows are those until the code's end, and become fewer. A page that is drawn late on a busy machine
/// is looked at again.
pub async fn counts_down(browser: &Browser, expires_at: Timestamp) {
    let exact = "(() => { const {expires, left} = document.querySelector('.qr-left')?.dataset ?? {};\
        const late = Number(left) * 1000 - (arguments[0] - Date.now());\
        const shown = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;\
        return Date.parse(expires) === arguments[0] && Number(left) < arguments[1] && late > -300 && late < 1300\
            && document.querySelector('.qr-left span').textContent.endsWith(` ${shown}`); })()";
    let end = expires_at.as_millisecond();
    browser.until("the seconds that are left are shown", exact, &[end.into(), 1000.into()]).await;
    let shown = browser.run("return Number(document.querySelector('.qr-left').dataset.left)", &[]).await;
    browser.until(&format!("fewer than {shown} seconds are left"), exact, &[end.into(), shown]).await;
}

/// Both pages forbid what is inline and text that becomes markup; the browser refuses them, and the test hears of it, as
/// `Browser::close` relies on.
async fn what_is_forbidden_is_heard_of(browser: &Browser, rest: &Rest) {
    for page in ["/dashboard", "/dashboard/link"] {
        let answer = answered(rest.request("GET", page)).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        for directive in ["default-src 'self'", "require-trusted-types-for 'script'", "trusted-types 'none'"] {
            assert!(policy.split(';').any(|one| one.trim() == directive), "{page} lacks {directive}: {policy}");
        }
    }
    assert_eq!(browser.forbidden().await, Vec::<String>::new(), "the page's policy forbade something");
    let style = "document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))";
    browser.run(style, &[]).await;
    assert_eq!(browser.forbidden().await.len(), 1);
    let markup =
        "try { document.createElement('p').innerHTML = '<b>'; return 'taken'; } catch (error) { return error.name; }";
    assert_eq!(browser.run(markup, &[]).await, "TypeError", "text becomes markup");
    assert!(!browser.forbidden().await.is_empty(), "it is not heard of");
    // Nothing shows the page within another, one of its own included.
    let framed = "const done = arguments[arguments.length - 1]; const frame = document.createElement('iframe');\
        frame.onload = () => done(frame.contentDocument ? 'shown' : 'refused'); frame.src = '/dashboard'; document.body.append(frame)";
    assert_eq!(browser.run_async(framed).await, "refused", "the page is shown in a frame");
    browser.forbidden().await;
}

/// Whatever the page has asked for since it was opened is an operation of the API's public document.
async fn asks_what_any_caller_may_ask(browser: &Browser, rest: &Rest) {
    let document: Value = rest.request("GET", "/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    let parts = |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let operations: Vec<_> = document["paths"].as_object().unwrap().keys().map(|path| parts(path)).collect();
    let asked = "return performance.getEntriesByType('resource').filter(one => one.initiatorType === 'fetch')\
        .map(one => new URL(one.name).pathname)";
    let asked = browser.run(asked, &[]).await;
    let asked: Vec<&str> = asked.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(asked.len() > 5, "{asked:?}");
    for path in asked {
        let is_it = |operation: &Vec<String>| {
            let of_it = parts(path);
            of_it.len() == operation.len()
                && operation.iter().zip(&of_it).all(|(wanted, is)| wanted == is || wanted.starts_with('{'))
        };
        assert!(operations.iter().any(is_it), "the page asks for {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_from_add_to_delete() {
    let phones = ["+15550400001", "+15550400002"];
    let world = world("dashboard-life").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;

    browser.open(&rest.url).await;
    browser.find("[name=token]").await;
    browser.inspect("sign-in").await;
    browser.type_into("[name=token]", "nobodys").await;
    browser.press("[type=submit]").await;
    assert!(browser.text(".problem").await.contains("does not accept this token"));
    browser.inspect("sign-in-refused").await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let kept =
        "return document.cookie + JSON.stringify(localStorage) + location.href + document.documentElement.outerHTML";
    assert!(!browser.run(kept, &[]).await.as_str().unwrap().contains(&token), "scripts cannot read the token");
    browser.find(".empty").await;
    assert_eq!(browser.text(".summary-count strong").await, "0/10");
    browser.inspect("empty").await;

    // Add, with what is wrong said while it is typed.
    browser.key("n").await;
    browser.paste_into("dialog .field input", " ").await;
    assert!(browser.text("dialog .error").await.contains("Enter a name"));
    browser.paste_into("dialog .field input", &"x".repeat(101)).await;
    browser
        .until("the length is refused", "document.querySelector('dialog .error').textContent.includes('100')", &[])
        .await;
    browser.inspect("add").await;
    browser.escape().await;
    browser.until_gone("dialog").await;
    add(&browser, &world, "Business Account").await;
    let object_name = object(&rest, &token, "Business Account").await;
    let business = card(&rest, &token, "Business Account").await;

    // The code that is drawn is the one in status, and is counted down to its end.
    let shown = world.history.until(&object_name, "showing a code", SOON, |i| i.qr().is_some()).await;
    let qr = shown.status.unwrap().qr.unwrap();
    assert_eq!(drawn(&browser).await, qr.code.reveal());
    counts_down(&browser, qr.expires_at.0).await;
    assert!(browser.text(".qr-left").await.contains("Code 1 of 6"));
    assert!(browser.text(".steps").await.contains("Tap Link a device and point the phone here"));
    browser.inspect("qr").await;
    browser.press_button("dialog", "Refresh QR").await;
    let before = qr.code.reveal().to_owned();
    let another = |one: &whatsapp_operator::api::WhatsAppInstance| one.qr().is_some_and(|code| code != before);
    let code = world.history.until(&object_name, "another code", SOON, another).await.qr().unwrap();
    let is_new = "document.querySelector('.qr-picture path')?.getAttribute('d') !== arguments[0]";
    let old_path = json!("");
    browser.until("a code is drawn", is_new, &[old_path]).await;
    let new_code = async {
        while drawn(&browser).await != code {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, new_code).await.expect("the new code is drawn");

    // The phone scans; the card is green, and the window closes by itself. A second after the scan is the promise, for a machine that
    // does nothing else: it is printed. The limit is for one at its worst: dashboard_linking has the second.
    let quiet = calm().await;
    world.whatsapp.scan(&code, phones[0], "Alice").await.unwrap();
    let scanned = Instant::now();
    let connected = async {
        world.history.until_phase(&object_name, Phase::Connected, SOON).await;
        Instant::now()
    };
    let green = async {
        browser.find(&format!("{business}.is-good")).await;
        Instant::now()
    };
    let (connected, green) = tokio::join!(connected, green);
    drop(quiet);
    let (whole, ours) = (green.duration_since(scanned), green.saturating_duration_since(connected));
    println!("green {whole:?} after the scan, {ours:?} after the status");
    assert!(whole < Duration::from_secs(20), "green {whole:?} after the scan, {ours:?} after the status");
    browser.until_gone("dialog").await;
    browser
        .until("a toast says so", "document.querySelector('.toasts').textContent.includes('is connected')", &[])
        .await;
    browser.find(&format!("{business}.is-primary .badge")).await;
    assert!(browser.text(&business).await.contains(phones[0]));
    assert_eq!(browser.text(".summary-count strong").await, "1/10");

    // The same name again is refused in the page, and in words by the server when the page cannot know.
    browser.press(".button.add").await;
    browser.paste_into("dialog .field input", "BUSINESS account ").await;
    assert!(browser.text("dialog .error").await.contains("already"));
    browser.escape().await;

    // A second one, whose name is text whatever it looks like; a second window sees everything too.
    let name = "<script>alert(1)</script> \"Büro\" 👩‍👩‍👧 مكتب";
    add(&browser, &world, name).await;
    let second = card(&rest, &token, name).await;
    let second_object = object(&rest, &token, name).await;
    browser.find(".qr-picture").await;
    browser.escape().await;
    browser.until_gone("dialog").await;
    let first_tab = browser.new_tab().await;
    browser.open(&format!("{}/dashboard", rest.url)).await;
    browser.find(&second).await;
    assert_eq!(browser.text(&format!("{second} h3")).await, name);
    assert_eq!(browser.run("return document.querySelectorAll('.card script').length", &[]).await, 0);
    let second_tab = browser.use_tab(first_tab.clone()).await;

    // Not connected: made primary it cannot be, and the page says why.
    browser.press(&format!("{second} [data-verb='set-primary']")).await;
    browser
        .until(
            "it says why",
            "document.querySelector('.toasts').textContent.includes('Only a connected instance')",
            &[],
        )
        .await;
    browser.inspect("cards").await;
    let code = world.qr(&second_object).await;
    world.whatsapp.scan(&code, phones[1], "Bob").await.unwrap();
    browser.find(&format!("{second}.is-good")).await;
    browser.press(&format!("{second} [data-verb='set-primary']")).await;
    browser.find(&format!("{second}.is-primary .badge")).await;
    browser.until_gone(&format!("{business}.is-primary")).await;
    let borders = "return new Set([...document.querySelectorAll('.card')].map(card => getComputedStyle(card).borderTopColor)).size";
    assert_eq!(browser.run(borders, &[]).await, 2, "the primary one's border has a colour of its own");
    browser.use_tab(second_tab.clone()).await;
    browser.find(&format!("{second}.is-primary .badge")).await;
    browser.until_gone(&format!("{business}.is-primary")).await;

    // Offline and online again, without a scan, in step in both windows.
    browser.press(&format!("{business} [data-verb='disconnect']")).await;
    browser.find(&format!("{business}.is-off")).await;
    browser.use_tab(first_tab.clone()).await;
    browser.find(&format!("{business}.is-off")).await;
    browser.inspect("cards-disconnected").await;
    browser.press(&format!("{business} [data-verb='connect']")).await;
    browser.find(&format!("{business}.is-good")).await;
    browser.use_tab(second_tab.clone()).await;
    browser.find(&format!("{business}.is-good")).await;
    browser.use_tab(first_tab.clone()).await;

    // Another name, refused by the server and then taken.
    browser.press_button(&business, "Rename").await;
    browser.paste_into("dialog .field input", "").await;
    browser.type_into("dialog .field input", "Support").await;
    browser.inspect("rename").await;
    browser.press("dialog [type=submit]").await;
    browser
        .until(
            "it has the other name",
            "document.querySelector(arguments[0] + ' h3').textContent === 'Support'",
            &[business.clone().into()],
        )
        .await;

    // Deleting takes the name.
    browser.press(&format!("{business} [data-verb='delete']")).await;
    browser.find("dialog [type=submit]:disabled").await;
    browser.paste_into("dialog .field input", "Suppor").await;
    browser.find("dialog [type=submit]:disabled").await;
    browser.inspect("delete").await;
    browser.paste_into("dialog .field input", "t").await;
    browser.press("dialog [type=submit]").await;
    browser.until_gone(&business).await;
    world.history.until_gone(&object_name, SOON).await;
    browser.use_tab(second_tab).await;
    browser.until_gone(&business).await;
    browser.until("the slot is free", "document.querySelector('.summary-count').dataset.used === '1'", &[]).await;

    asks_what_any_caller_may_ask(&browser, &rest).await;
    browser.key("?").await;
    browser.inspect("help").await;
    browser.escape().await;
    browser.press_button(".menu", "Settings").await;
    browser.inspect("menu").await;
    browser.press_button(".menu", "Sign out").await;
    browser.find(".sign-in-card").await;
    assert_eq!(browser.run("return fetch('/api/v1/me').then(answer => answer.status)", &[]).await, 401);
    what_is_forbidden_is_heard_of(&browser, &rest).await;
    browser.close().await;
    world.history.until_phase(&second_object, Phase::Connected, SOON).await;
    rest.nothing_leaked(&world, &phones, &[&token]).await;
    world.nothing_leaked(&phones).await;
}
