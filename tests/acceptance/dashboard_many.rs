//! The dashboard for those with many instances: what is asked of many at once, and the event monitor; and what may be asked of
//! each, on the page as by the API and the plugin.

use std::{collections::BTreeSet, time::Instant};

use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use browser::Browser;

use crate::{
    dashboard::{card, may_have, sign_in, start_browser},
    gateway::{named, world},
    support::{
        gateway::{ALL_VERBS, Rest, account, user},
        world::{SOON, World},
    },
    turns::calm,
};

/// Ticks the boxes of these rows, or of all.
async fn choose(browser: &Browser, rows: &str) {
    let script = "document.querySelectorAll(arguments[0]).forEach(box => box.click())";
    browser.run(script, &[format!("{rows} input[type=checkbox]").into()]).await;
    browser.find(".bulk").await;
}

async fn bulk_is_over(browser: &Browser, done: usize, failed: usize) {
    let over = format!(
        "(of => of && of.done === '{done}' && of.failed === '{failed}' && of.waiting === '0')(document.querySelector('.bulk-outcome')?.dataset)"
    );
    browser.until_within(SOON * 3, &format!("{done} are asked for and {failed} failed"), &over, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_are_asked_at_once_and_each_has_its_outcome() {
    let world = World::start("dashboard-bulk").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let owner = user(&world, "app");
    may_have(&world, &owner, 300).await;
    for n in 0..200 {
        let spec = json!({"name": format!("Line {n:03}"), "owner": owner, "desiredState": "Disconnected"});
        world.apply(&format!("line-{n:03}"), spec).await;
    }
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser.press_button(".segments", "Table").await;
    let off = "document.querySelectorAll('tbody .status.off').length === 200";
    browser.until_within(SOON * 2, "all are offline", off, &[]).await;
    choose(&browser, "thead").await;
    assert!(browser.text(".bulk strong").await.contains("200"));
    browser.inspect("bulk").await;

    // The goal is that all 200 are under way within 2 s on a machine that does nothing else; they are offline and have never
    // been online, so nothing but the wish is asked of anybody.
    let calm = calm().await;
    let measure = "const done = arguments[arguments.length - 1]; const began = performance.now();\
        if (!document.querySelector('[data-bulk=disconnect]').disabled) done('it is offered'); document.querySelector('[data-bulk=connect]').click();\
        const look = () => { const outcome = document.querySelector('.bulk-outcome')?.dataset;\
            if (outcome && Number(outcome.done) + Number(outcome.failed) === 200) done(performance.now() - began); else setTimeout(look, 10); }; look()";
    let took = browser.run_async(measure).await;
    drop(calm);
    println!("200 are under way after {took} ms");
    assert!(took.as_f64().expect("disconnecting is not offered to those that are offline") < 90_000.0, "{took} ms");
    bulk_is_over(&browser, 200, 0).await;
    let mut wished = 0;
    for instance in world.instances().list(&kube::api::ListParams::default()).await.unwrap() {
        wished += usize::from(instance.spec.desired_state == whatsapp_operator::api::DesiredState::Connected);
    }
    assert_eq!(wished, 200);
    assert_eq!(browser.forbidden().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_some_is_tried_again_and_deleting_many_takes_their_number() {
    let world = world("dashboard-bulk-some").await;
    let mut rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    for name in ["One", "Two", "Three"] {
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, name)).await.data(201);
    }
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser.press_button(".segments", "Table").await;
    browser.until("three wait", "document.querySelectorAll('tbody .status.busy').length === 3", &[]).await;
    let one = card(&rest, &token, "One").await;

    // One of them goes offline; connecting the three is not possible for the two that already are to be online.
    choose(&browser, &one).await;
    browser.press("[data-bulk=disconnect]").await;
    bulk_is_over(&browser, 1, 0).await;
    browser.find(&format!("{one} .status.off")).await;
    choose(&browser, "thead").await;
    browser.press("[data-bulk=disconnect]").await;
    bulk_is_over(&browser, 2, 1).await;
    assert!(browser.text(&format!("{one} .outcome.failed")).await.contains("Not possible"));
    browser.inspect("bulk-outcomes").await;

    // A gateway that is away: all fail, each with a sentence, and are asked again when it is back.
    browser.until("all are offline", "document.querySelectorAll('tbody .status.off').length === 3", &[]).await;
    let url = rest.url.clone();
    rest.program.set("--listen", url.rsplit('/').next().unwrap());
    rest.program.kill();
    browser.press("[data-bulk=connect]").await;
    bulk_is_over(&browser, 0, 3).await;
    let addresses: Value = rest.program.start().await;
    addresses["admin"].as_str().unwrap().clone_into(&mut rest.admin);
    browser.until("it is live again", "document.querySelector('.live.live')", &[]).await;
    browser.press("[data-bulk=retry]").await;
    bulk_is_over(&browser, 3, 0).await;
    browser.until("three wait", "document.querySelectorAll('tbody .status.busy').length === 3", &[]).await;

    browser.press("[data-bulk=delete]").await;
    browser.find("dialog [type=submit]:disabled").await;
    browser.paste_into("dialog .field input", "3").await;
    browser.inspect("bulk-delete").await;
    browser.press("dialog [type=submit]").await;
    browser.until_gone("tbody tr").await;
    assert_eq!(browser.forbidden().await, Vec::<String>::new());
    browser.close().await;
    rest.nothing_leaked(&world, &[], &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_monitor_shows_what_happens_without_codes_and_numbers() {
    let (phone, friend, written) = ("+15550400021", "+15550400098", "+1 (555) 040-0098");
    let world = world("dashboard-monitor").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let made =
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=30", named(&world, "Shop")).await.data(201).clone();
    let object = made["object"].as_str().unwrap();
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser.key("e").await;
    browser.find("dialog .events").await;
    let code = world.qr(object).await;
    world.scan(object, phone).await;
    world.history.until_phase(object, Phase::Connected, SOON).await;
    let events = "[...document.querySelectorAll('.events li')].map(one => one.textContent).join('\\n')";
    browser.until("it is heard of", &format!("{events}.includes('Connected')"), &[]).await;
    let id = made["id"].as_str().unwrap();
    for recipient in [friend, written] {
        let message = json!({"recipient": recipient, "message": "Your order is on its way", "session_id": id});
        rest.call(&token, "POST", "/api/v1/messages/send/?wait=20", message).await.data(200);
    }
    let both = "new Set([...document.querySelectorAll('.events [data-event=message] pre')]\
        .map(one => JSON.parse(one.textContent).message.id)).size === 2";
    browser.until("both messages are heard of", both, &[]).await;
    let shown = || async { browser.run(&format!("return {events}"), &[]).await.as_str().unwrap().to_owned() };
    let masked = shown().await;
    for secret in [phone, friend, written, "(555)", "Your order", &code, "Alice"] {
        assert!(!masked.contains(secret), "{secret} is shown: {masked}");
    }
    browser.inspect("events").await;

    // Only what is looked for, and with numbers when that is asked.
    browser.type_into("dialog [name=filter]", "message delivered").await;
    let all_messages = "(found => found.length > 0 && found.every(one => one.dataset.event === 'message'))([...document.querySelectorAll('.events li')])";
    browser.until("only messages are shown", all_messages, &[]).await;
    browser.press("dialog .check input").await;
    for number in [friend, written] {
        browser.until("numbers are shown", &format!("{events}.includes(arguments[0])"), &[number.into()]).await;
    }

    // Paused, nothing comes in; after it everything has.
    browser.type_into("dialog [name=filter]", "phase").await;
    browser.press("dialog [data-verb=pause]").await;
    let before = shown().await;
    world.patch_spec(object, json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase(object, Phase::Disconnected, SOON).await;
    browser.find(&format!("[data-id='{id}'].is-off")).await;
    assert_eq!(shown().await, before);
    browser.press("dialog [data-verb=pause]").await;
    browser.until("it goes on", &format!("{events}.includes('Disconnected')"), &[]).await;
    browser
        .devtools("Browser.grantPermissions", json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}))
        .await;
    browser.press("dialog [data-verb=copy]").await;
    browser.until("it says so", "document.querySelector('.toasts').textContent.includes('copied')", &[]).await;
    // It is over the window, where it can be heard and pressed away.
    browser.nothing_serious("toast-over-window").await;
    browser.press_button("dialog .toasts", "Close").await;
    browser.until_gone(".toast").await;
    let copied = browser.run("return navigator.clipboard.readText()", &[]).await;
    let copied: Vec<Value> = serde_json::from_str(copied.as_str().unwrap()).unwrap();
    assert!(
        copied.iter().all(|one| one["event"] == "session") && copied[0]["data"]["session"]["phase"] == "Disconnected"
    );
    assert!(!json!(copied).to_string().contains(&code));
    assert_eq!(browser.forbidden().await, Vec::<String>::new());
    browser.close().await;
    rest.nothing_leaked(&world, &[phone, friend], &[&token]).await;
}

/// What the page offers for an instance: its buttons, without those that only say why they cannot be pressed.
async fn offered(browser: &Browser, card: &str) -> BTreeSet<String> {
    let script = "return [...document.querySelectorAll(arguments[0] + ' [data-verb]')]\
        .filter(one => one.getAttribute('aria-disabled') !== 'true').map(one => one.dataset.verb)\
        .concat(document.querySelector(arguments[0] + ' .rename') ? ['rename'] : [])";
    let found = browser.run(script, &[card.into()]).await;
    found.as_array().unwrap().iter().map(|verb| verb.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn page_and_api_offer_the_same_in_every_phase_and_the_plugin_has_a_verb_for_each() {
    let world = world("dashboard-actions").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let made =
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=30", named(&world, "Shop")).await.data(201).clone();
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let place = card(&rest, &token, "Shop").await;
    browser.find(&place).await;
    // The plugin's verbs by the API's; renaming and deleting are kubectl's own.
    let help = tokio::process::Command::new(crate::support::program::executable("kubectl-whatsapp"))
        .arg("--help")
        .output()
        .await;
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let verbs: BTreeSet<&str> =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let of_the_plugin = |verb: &str| match verb {
        "qr" => "qr",
        "refresh-qr" => "refresh",
        other => other.to_owned().leak(),
    };

    // Every phase with every wish, as the API tells it: the page is given what the API would say, by the same table.
    let mut seen = BTreeSet::new();
    let phases = [
        "Pending",
        "AwaitingPairing",
        "PairingExpired",
        "AwaitingPasskey",
        "Connecting",
        "Connected",
        "Reconnecting",
        "Disconnected",
        "LoggedOut",
        "Unlinked",
        "Restricted",
        "Rejected",
        "BridgeUnavailable",
        "Terminating",
    ];
    for (phase, wish, paired, primary) in combinations(&phases) {
        let instance = instance(&made, phase, wish, paired, primary);
        let actions = whatsapp_operator::rules::actions::actions(&instance);
        let session = whatsapp_operator::gateway::session::Session::brief(&instance);
        let session = serde_json::to_value(&session).unwrap();
        let said: BTreeSet<String> =
            session["actions"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap().to_owned()).collect();
        assert_eq!(said.len(), actions.len());
        let put = "const done = arguments[arguments.length - 1];\
            const version = document.querySelector('link[rel=icon]').href.split('/').at(-2);\
            import(`/dashboard/assets/${version}/store.js`).then(store => {\
            store.told('session', {session: SESSION}); setTimeout(done, 0, true); })";
        browser.run_async(&put.replace("SESSION", &session.to_string())).await;
        let drawn = "document.querySelector(arguments[0] + ' .status')?.textContent.length > 0";
        browser.until("it is drawn", drawn, &[place.clone().into()]).await;
        // To whom is primary by default, wishing for it as well is not offered.
        let expected: BTreeSet<String> =
            said.iter().filter(|verb| !(primary && *verb == "set-primary")).cloned().collect();
        // Events that follow one another closely are drawn together, a moment later.
        let shown = async || {
            let mut page = offered(&browser, &place).await;
            page.remove("messages");
            let badge = "return Boolean(document.querySelector(arguments[0] + ' .badge'))";
            (page, browser.run(badge, &[place.clone().into()]).await)
        };
        let (wanted, deadline) = ((expected, json!(primary)), Instant::now() + SOON);
        let mut page = shown().await;
        while page != wanted && Instant::now() < deadline {
            page = shown().await;
        }
        assert_eq!(page, wanted, "{phase}, {wish} wished, paired {paired}, primary {primary}");
        for verb in said.iter().filter(|verb| !["rename", "delete"].contains(&verb.as_str())) {
            assert!(verbs.contains(of_the_plugin(verb)), "the plugin has no {verb}: {verbs:?}");
            seen.insert(verb.clone());
        }
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
    browser.close().await;
}

/// Every combination of a phase, a wish, whether a device is linked, and whether it is the primary one.
fn combinations<'a>(phases: &'a [&'a str]) -> impl Iterator<Item = (&'a str, &'static str, bool, bool)> {
    let wishes = ["Connected", "Disconnected", "Unlinked"];
    let flags = [(false, false), (true, false), (true, true)];
    phases.iter().flat_map(move |phase| {
        wishes
            .into_iter()
            .flat_map(move |wish| flags.into_iter().map(move |(paired, primary)| (*phase, wish, paired, primary)))
    })
}

/// The object of a session in such a state.
fn instance(
    made: &Value,
    phase: &str,
    wish: &str,
    paired: bool,
    primary: bool,
) -> whatsapp_operator::api::WhatsAppInstance {
    let at = "2026-01-01T00:00:00Z";
    let condition = |kind: &str, is: bool| json!({"type": kind, "status": if is { "True" } else { "False" }, "reason": "Known", "message": "", "lastTransitionTime": at});
    let online = paired && phase == "Connected";
    let mut status = json!({
        "phase": phase, "primary": primary, "observedGeneration": 1,
        "conditions": [condition("Paired", paired), condition("Connected", online), condition("Ready", online)],
    });
    if phase == "AwaitingPairing" {
        status["qr"] = json!({"code": "2@x", "expiresAt": at, "attempt": 1, "attempts": 6});
    }
    if phase == "Terminating" {
        status["phase"] = json!("Terminating");
    }
    serde_json::from_value(json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": made["object"], "namespace": made["namespace"], "uid": made["id"], "generation": 1, "creationTimestamp": at},
        "spec": {"name": "Shop", "owner": made["user"], "desiredState": wish, "primary": false},
        "status": status,
    }))
    .unwrap()
}
