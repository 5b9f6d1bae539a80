//! Servers that answer wrongly, or not at all: what a session says of it, and how it comes back.

use std::time::Duration;

use serde_json::{Value, json};
use whatsapp_operator::api::{Phase, WhatsAppInstance, conditions::CONNECTED};

use crate::support::{
    history::Ask as _,
    world::{ALONE, SOON, Wishes, World},
};

/// From the moment on which nothing that arrives can be read until it is noticed: the bridge waits 75 s for an answer.
const DEAF: Duration = Duration::from_secs(150);

/// A world whose operator has no lease to lose: what the API server is too busy for while others storm it is not tried here.
async fn start(name: &str) -> World {
    World::start_with(name, Wishes::of_operator(&[ALONE])).await
}

/// Waits until the instance says why it is not connected.
async fn until_lost(world: &World, name: &str, reason: &str, patience: Duration) {
    let lost = |one: &WhatsAppInstance| one.condition(CONNECTED) == "False" && one.reason(CONNECTED) == reason;
    world.history.until(name, reason, patience, lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_leads_nowhere_is_noticed_and_made_again() {
    let world = start("nowhere").await;
    let cases = [
        ("silent", "+15550009101", json!({"act": "silent", "about": "everything"})),
        ("damaged", "+15550009102", json!({"act": "damagedFrame"})),
        ("half", "+15550009103", json!({"act": "halfFrame"})),
        ("answerless", "+15550009104", json!({"act": "silent", "about": "answers"})),
    ];
    for (name, phone, _) in &cases {
        world.connected(name, phone).await;
    }
    let noticed = cases.iter().map(|(name, phone, act)| {
        let world = &world;
        async move {
            assert_eq!(world.whatsapp.act(phone, act.clone()).await, 1);
            let since = tokio::time::Instant::now();
            until_lost(world, name, "ServerNotAnswering", DEAF).await;
            let took = since.elapsed();
            println!("{name}: noticed after {took:.1?}");
            // On a connection over which nothing comes at all, 25 s by design; the rest is for a slow machine.
            assert!(*name != "silent" || took < Duration::from_secs(40), "noticed after {took:?}");
            world.history.until_phase(name, Phase::Connected, DEAF).await;
        }
    });
    futures::future::join_all(noticed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_do_not_hold_become_rare() {
    const PHONE: &str = "+15550009111";
    let world = start("flaps").await;
    world.connected("one", PHONE).await;
    let before = world.whatsapp.logins(PHONE).await.len();
    world.whatsapp.rules(PHONE, json!({"endLogin": {"afterMs": 500}})).await;
    world.whatsapp.happens(PHONE, "drop").await;
    // What is counted needs time to pass: a bridge that comes back every few seconds makes about a dozen logins in it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let logins = world.whatsapp.logins(PHONE).await.len() - before;
    assert!((3..=8).contains(&logins), "{logins} logins in a minute");
    world.whatsapp.rules(PHONE, json!({})).await;
    world.refresh("one").await;
    world.history.until_phase("one", Phase::Connected, 3 * SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_refused_by_mistake_does_not_cost_the_link() {
    const PHONE: &str = "+15550009121";
    let mut world = start("mistaken").await;
    let instance = world.connected("one", PHONE).await;
    let linked = world.key_files(&instance);
    assert!(!linked.is_empty());
    for rules in [
        json!({"endLogin": {"afterMs": 300, "with": {"code": 401}, "times": 1}}),
        json!({"refuse": {"reason": 401, "times": 1}}),
        json!({"endLogin": {"afterMs": 300, "with": {"conflict": "unheard_of"}, "times": 1}}),
    ] {
        let before = world.whatsapp.logins(PHONE).await.len();
        world.whatsapp.rules(PHONE, rules).await;
        world.bridge.kill();
        world.restart_bridge().await;
        // The status is no witness of the first login: it may end and be confirmed before the operator is back.
        let logins = world.whatsapp.until_logins(PHONE, before + 2).await;
        assert!(logins.last().unwrap().admitted, "{logins:?}");
        world.whatsapp.until_connected(&[PHONE]).await;
        world.history.until_phase("one", Phase::Connected, SOON).await;
    }
    let phases = world.history.of("one").into_iter().filter_map(|seen| seen.instance?.phase());
    assert!(!phases.into_iter().any(|phase| phase == Phase::LoggedOut), "{}", world.history.story("one"));
    assert_eq!(world.key_files(&instance), linked);
    // A device that is really removed is refused twice, and is then logged out.
    world.whatsapp.rules(PHONE, json!({"refuse": {"reason": 401, "times": 2}})).await;
    world.whatsapp.happens(PHONE, "drop").await;
    world.history.until_phase("one", Phase::LoggedOut, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_locked_or_banned_stays_linked_and_is_not_tried_again_at_once() {
    const PHONE: &str = "+15550009181";
    let world = start("barred").await;
    let instance = world.connected("one", PHONE).await;
    let linked = world.key_files(&instance);
    for (reason, says) in [(403, "AccountLocked"), (406, "AccountBanned")] {
        let before = world.whatsapp.logins(PHONE).await.len();
        world.whatsapp.rules(PHONE, json!({"refuse": {"reason": reason}})).await;
        world.whatsapp.happens(PHONE, "drop").await;
        until_says(&world, "one", says).await;
        assert_eq!(world.whatsapp.logins(PHONE).await.len(), before + 1);
        assert!(world.bridge.log().contains(&format!("reason={reason}")), "the number is in the log");
        assert_eq!(world.key_files(&instance), linked);
        // Once that is lifted, whoever asks need not scan.
        world.whatsapp.rules(PHONE, json!({})).await;
        world.refresh("one").await;
        world.history.until_phase("one", Phase::Connected, SOON).await;
    }
    world.nothing_leaked(&[PHONE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_too_old_is_tried_again_by_a_bridge_with_another_version() {
    const PHONE: &str = "+15550009171";
    let mut world = start("outdated").await;
    world.connected("one", PHONE).await;
    let logins = world.whatsapp.logins(PHONE).await.len();
    world.whatsapp.rules(PHONE, json!({"refuse": {"reason": 405, "times": 1}})).await;
    world.whatsapp.happens(PHONE, "drop").await;
    until_says(&world, "one", "ClientOutdated").await;
    world.bridge.kill();
    world.bridge.set("--whatsapp-version", "2.3000.1099999999");
    world.restart_bridge().await;
    world.history.until_phase("one", Phase::Connected, SOON).await;
    assert_eq!(world.whatsapp.logins(PHONE).await.len(), logins + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_without_an_answer_does_not_end_a_connection() {
    const PHONE: &str = "+15550009131";
    let world = start("unanswered").await;
    world.whatsapp.rules(PHONE, json!({"unanswered": [{"xmlns": "encrypt", "type": "set"}]})).await;
    world.connected("one", PHONE).await;
    let logins = world.whatsapp.logins(PHONE).await.len();
    // Longer than the 52 s after which such connections used to be ended.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.whatsapp.logins(PHONE).await.len(), logins);
    world.history.until_phase("one", Phase::Connected, SOON).await;
}

/// Waits until one of the instance's conditions has a reason.
async fn until_says(world: &World, name: &str, reason: &str) {
    let says = |instance: &WhatsAppInstance| {
        instance.status.iter().flat_map(|status| &status.conditions).any(|condition| condition.reason == reason)
    };
    world.history.until(name, reason, SOON, says).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_fails_says_so_and_the_next_code_works() {
    const PHONE: &str = "+15550009141";
    let world = start("links").await;
    world.whatsapp.newcomers(json!({"references": "none"})).await;
    world.apply("one", json!({})).await;
    until_says(&world, "one", "PairingCodesUnusable").await;
    world.whatsapp.newcomers(json!({})).await;
    for fault in ["wrongHmac", "wrongSignature", "garbledIdentity", "unheard"] {
        let code = world.qr("one").await;
        // The answer to the phone may be an error: it is told that the link failed.
        let _ = world.whatsapp.scan_wrong(&code, PHONE, fault).await;
        until_says(&world, "one", "PairingFailed").await;
        let another = |one: &WhatsAppInstance| one.qr().is_some_and(|shown| shown != code);
        world.history.until("one", "shown another code", 2 * SOON, another).await;
    }
    world.scan("one", PHONE).await;
    world.history.until_phase("one", Phase::Connected, SOON).await;
    world.nothing_leaked(&[PHONE]).await;
}

/// The pairing code that is shown of an instance, once it is another one than `but`.
async fn typed_code(world: &World, name: &str, but: &str) -> String {
    let code = |one: &WhatsAppInstance| Some(one.status.as_ref()?.pairing_code.as_ref()?.code.reveal().to_owned());
    let another = |one: &WhatsAppInstance| code(one).is_some_and(|shown| shown != but);
    let shown = world.history.until(name, "showing a code to type", 2 * SOON, another).await;
    code(&shown).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_code_that_whatsapp_refuses_is_told_of_and_its_window_ends() {
    const PHONE: &str = "+15550009161";
    let world = start("refused-codes").await;
    // For longer than a window is open: it is over at once.
    let refuse = json!({"refuseCode": {"stage": "companion_hello", "code": 429, "backoff": 600}});
    world.whatsapp.newcomers(refuse).await;
    let by_code = json!({"pairing": {"method": "Code", "phoneNumber": PHONE}});
    world.apply("many", by_code.clone()).await;
    until_says(&world, "many", "TooManyRequests").await;
    world.history.until_phase("many", Phase::PairingExpired, SOON).await;
    // And the next one waits until WhatsApp wants to be asked again.
    world.whatsapp.newcomers(json!({})).await;
    world.refresh("many").await;
    // What the phone made of a code is refused: that code is taken down, and the next one works.
    let refuse = json!({"refuseCode": {"stage": "companion_finish", "code": 400, "backoff": 1, "times": 1}});
    world.whatsapp.newcomers(refuse).await;
    world.apply("one", by_code).await;
    let code = typed_code(&world, "one", "").await;
    let phone = world.whatsapp.type_code(&code, PHONE, "Anna");
    let (typed, ()) = tokio::join!(phone, until_says(&world, "one", "PairingFailed"));
    assert!(typed.is_err(), "{typed:?}");
    let next = typed_code(&world, "one", &code).await;
    world.whatsapp.type_code(&next, PHONE, "Anna").await.unwrap();
    world.history.until_phase("one", Phase::Connected, SOON).await;
    let shown = world.history.of("many").into_iter().filter_map(|seen| seen.instance?.status?.pairing_code);
    assert_eq!(shown.count(), 0, "{}", world.history.story("many"));
    world.nothing_leaked(&[PHONE, &code, &next]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_coexistence_is_told_so_once() {
    const PHONE: &str = "+15550009151";
    let world = start("coexistence").await;
    world.apply("one", json!({"pairing": {"autoRefresh": true}})).await;
    let code = world.qr("one").await;
    let _ = world.whatsapp.scan_wrong(&code, PHONE, "hosted").await;
    until_says(&world, "one", "CoexistenceNotSupported").await;
    world.history.until_phase("one", Phase::PairingExpired, SOON).await;
    // Another account can be linked when somebody asks for it.
    world.refresh("one").await;
    world.scan("one", PHONE).await;
    world.history.until_phase("one", Phase::Connected, SOON).await;
    world.nothing_leaked(&[PHONE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_has_one_reason() {
    let world = start("handshakes").await;
    for (name, fault, reasons) in [
        ("truncated", "truncated", &["ServerNotTrusted"][..]),
        // Who gives up first on what never comes, the client or this server, both after 20 s, is chance.
        ("half", "halfFrame", &["ServerNotAnswering", "ServerRefused"]),
        ("closed", "thenHangUp", &["ServerRefused"]),
    ] {
        world.whatsapp.newcomers(json!({"hello": fault})).await;
        world.apply(name, json!({})).await;
        let connected = |instance: &WhatsAppInstance| instance.reason(CONNECTED);
        let failed =
            |instance: &WhatsAppInstance| !["", "NotStarted", "PairingQueued"].contains(&&*connected(instance));
        let first = world.history.until(name, "failing", 2 * SOON, failed).await;
        assert!(reasons.contains(&&*connected(&first)), "{fault}: {}", connected(&first));
        world.whatsapp.newcomers(json!({})).await;
        world.qr(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_connection_that_is_ended_with_429_waits_before_the_next_login() {
    const PHONE: &str = "+15550009161";
    let world = start("enough").await;
    world.connected("one", PHONE).await;
    let before = world.whatsapp.logins(PHONE).await.len();
    let ended = jiff::Timestamp::now().as_millisecond();
    assert_eq!(world.whatsapp.act(PHONE, json!({"act": "end", "code": 429})).await, 1);
    until_lost(&world, "one", "TooManyRequests", SOON).await;
    world.history.until_phase("one", Phase::Connected, 3 * SOON).await;
    let next = i64::try_from(world.whatsapp.logins(PHONE).await[before].at).unwrap();
    assert!(next - ended >= 25_000, "the next login came after {} ms", next - ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_short_cut_lets_its_sessions_in_all_the_same() {
    let world = start("short-cuts").await;
    let cases = [
        ("hangs-up", "+15550009191", "ikRefused"),
        ("long-way-only", "+15550009192", "onlyXx"),
        // The client waits 20 s for an answer.
        ("says-nothing", "+15550009193", "ikIgnored"),
        ("lost-route", "+15550009194", "routedRefused"),
    ];
    for (name, phone, fault) in cases {
        world.connected(name, phone).await;
        assert_eq!(world.whatsapp.act(phone, json!({"act": "route"})).await, 1);
        answers(&world, phone).await;
        // The session takes both short cuts with this server,
        come_back(&world, phone, &["ikTotal", "routedTotal"]).await;
        world.whatsapp.newcomers(json!({"hello": fault})).await;
        // and comes back when it does not take them any more.
        come_back(&world, phone, &[]).await;
        world.history.until_phase(name, Phase::Connected, SOON).await;
        world.whatsapp.newcomers(json!({})).await;
    }
}

/// Waits until the session has read what was sent to it before.
async fn answers(world: &World, phone: &str) {
    world.whatsapp.is_heard("+15550009195", phone).await;
}

/// Drops the connection and waits for the next login; these counters of the server have grown by then.
async fn come_back(world: &World, phone: &str, counters: &[&str]) {
    let count = |stats: Value| counters.iter().map(|&name| stats[name].as_u64().unwrap()).collect::<Vec<_>>();
    let (before, logins) = (count(world.whatsapp.stats().await), world.whatsapp.logins(phone).await.len());
    world.whatsapp.happens(phone, "drop").await;
    world.whatsapp.until_logins_within(phone, logins + 1, 3 * SOON).await;
    let after = count(world.whatsapp.stats().await);
    assert!(before.iter().zip(&after).all(|(before, after)| after > before), "{counters:?}: {before:?}, {after:?}");
}
