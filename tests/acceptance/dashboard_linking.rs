//! Linking by a code that is typed on the phone, and unlinking, in a real browser.

use std::time::{Duration, Instant};

use serde_json::json;
use whatsapp_operator::api::Phase;

use browser::Browser;

use crate::{
    dashboard::{card, counts_down, drawn, sign_in, start_browser},
    gateway::{named, world},
    support::{
        gateway::{ALL_VERBS, Rest, account},
        history::Ask as _,
        world::SOON,
    },
    turns::calm,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_typed_on_the_phone_instead_of_scanned() {
    let phone = "+15550400031";
    let world = world("dashboard-code").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;

    browser.press(".button.add").await;
    browser.paste_into("dialog .field input", "Reception").await;
    browser.press("dialog input[value=Code]").await;
    browser.type_into("dialog input[type=tel]", "12").await;
    browser
        .until("a number is asked for", "document.querySelector('dialog').textContent.includes('country code')", &[])
        .await;
    // Without its brackets the (0) would make another number of it.
    browser.type_into("dialog input[type=tel]", "+49 (0)170 1234567").await;
    let refused = "(field => field.value.includes('(0)') && field.getAttribute('aria-invalid') === 'true')\
        (document.querySelector('dialog input[type=tel]'))";
    browser.until("a number with (0) is none", refused, &[]).await;
    browser.type_into("dialog input[type=tel]", "+1 (555) 040-0031").await;
    browser.press_button("dialog", "More options").await;
    browser.type_into("dialog [name=bridge]", &world.name).await;
    browser.inspect("add-code").await;
    browser.press("dialog [type=submit]").await;

    // The code on the screen is the one in status, in two groups as the phone asks for it.
    browser.find(".qr-typed").await;
    let reception = card(&rest, &token, "Reception").await;
    let list = rest.get(&token, "/api/v1/sessions/list/").await;
    let object = list.data(200)["sessions"][0]["object"].as_str().unwrap().to_owned();
    let has_code = |i: &whatsapp_operator::api::WhatsAppInstance| {
        i.status.as_ref().is_some_and(|status| status.pairing_code.is_some())
    };
    let shown = world.history.until(&object, "showing a code to type", SOON, has_code).await;
    let code = shown.status.unwrap().pairing_code.unwrap();
    let text = browser.text(".qr-typed").await;
    assert_eq!(text.len(), 9, "{text}");
    assert_eq!(text.replace('-', ""), code.code.reveal().replace('-', ""));
    counts_down(&browser, code.expires_at.0).await;
    browser.inspect("code").await;
    let behind = browser.text(&reception).await;
    assert!(behind.contains("View code") && behind.contains("Waiting for code entry"), "{behind}");

    world.whatsapp.type_code(&text, phone, "Alice").await.unwrap();
    browser.find(&format!("{reception}.is-good")).await;
    browser.until_gone("dialog").await;
    assert!(browser.text(&reception).await.contains(phone));
    browser.close().await;
    rest.nothing_leaked(&world, &[phone], &[&token, &text, &text.replace('-', "")]).await;
}

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// Presses Tab until this has the focus, and shows that it has.
async fn tab_to(browser: &Browser, css: &str) {
    browser.find(css).await;
    let there = "const now = document.activeElement; return now.matches(arguments[0]) && now.matches(':focus-visible')";
    for _ in 0..100 {
        if browser.run(there, &[css.into()]).await == true {
            return;
        }
        browser.key(TAB).await;
    }
    panic!("Tab does not lead to {css}");
}

/// From the scan to the green card takes less than a second, and the window closes by itself. Other programs of this machine only add to
/// it, so the quickest of a few scans counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_is_seen_within_a_second() {
    let world = world("dashboard-second").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let mut best = Duration::MAX;
    for n in 0..8 {
        let (name, phone) = (format!("Line {n}"), format!("+1555040034{n}"));
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=30", named(&world, &name)).await.data(201);
        let card = card(&rest, &token, &name).await;
        browser.press(&format!("{card} [data-verb='qr']")).await;
        let code = drawn(&browser).await;
        let quiet = calm().await;
        let scanned = Instant::now();
        world.whatsapp.scan(&code, &phone, "Alice").await.unwrap();
        browser.find(&format!("{card}.is-good")).await;
        best = best.min(scanned.elapsed());
        drop(quiet);
        browser.until_gone("dialog").await;
        if best < Duration::from_secs(1) {
            break;
        }
    }
    println!("green {best:?} after the scan");
    assert!(best < Duration::from_secs(1), "green {best:?} after the scan");
    browser.close().await;
}

/// From signing in to the end, nothing but keys: there may be no mouse, or no eyes for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_by_keys_alone() {
    let phone = "+15550400033";
    let world = world("dashboard-keys").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;
    browser.open(&format!("{}/dashboard", rest.url)).await;
    tab_to(&browser, "[name=token]").await;
    browser.key(&format!("{token}{ENTER}")).await;
    browser.find(".empty").await;

    // The name has the focus; Enter sends the form, as on any other.
    browser.key("n").await;
    browser.find("dialog .field input").await;
    let named = "document.activeElement === document.querySelector('dialog .field input')";
    browser.until("the name has the focus", named, &[]).await;
    browser.key("Reception").await;
    tab_to(&browser, "dialog summary").await;
    browser.key(ENTER).await;
    tab_to(&browser, "dialog [name=bridge]").await;
    browser.key(&world.name).await;
    tab_to(&browser, "dialog [type=submit]").await;
    browser.key(ENTER).await;

    let code = drawn(&browser).await;
    let list = rest.get(&token, "/api/v1/sessions/list/").await;
    let object = list.data(200)["sessions"][0]["object"].as_str().unwrap().to_owned();
    // Another code is a key away too.
    tab_to(&browser, "dialog [data-verb='refresh-qr']").await;
    browser.key(ENTER).await;
    let another = |i: &whatsapp_operator::api::WhatsAppInstance| i.qr().is_some_and(|shown| shown != code);
    world.history.until(&object, "showing another code", SOON, another).await;
    world.scan(&object, phone).await;
    let reception = card(&rest, &token, "Reception").await;
    browser.find(&format!("{reception}.is-good")).await;
    browser.until_gone("dialog").await;

    tab_to(&browser, &format!("{reception} [data-verb='delete']")).await;
    browser.key(ENTER).await;
    browser.find("dialog [type=submit]:disabled").await;
    browser.until("the name has the focus", named, &[]).await;
    browser.key("Reception").await;
    browser.find("dialog [type=submit]:enabled").await;
    browser.key(ENTER).await;
    browser.until_gone(&reception).await;
    world.history.until_gone(&object, SOON).await;
    browser.find(".empty").await;
    browser.close().await;
    rest.nothing_leaked(&world, &[phone], &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinking_is_confirmed_and_keeps_the_instance() {
    let phone = "+15550400032";
    let world = world("dashboard-unlink").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let made =
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=30", named(&world, "Shop")).await.data(201).clone();
    let object = made["object"].as_str().unwrap().to_owned();
    world.scan(&object, phone).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let shop = card(&rest, &token, "Shop").await;
    browser.find(&format!("{shop}.is-good")).await;

    browser.press(&format!("{shop} [data-verb='unlink']")).await;
    browser.find("dialog").await;
    browser.inspect("unlink").await;
    browser.press_button("dialog", "Cancel").await;
    browser.until_gone("dialog").await;
    assert_eq!(world.whatsapp.devices().await.len(), 1, "nothing was asked for");

    // By keys alone, as deleting it afterwards.
    tab_to(&browser, &format!("{shop} [data-verb='unlink']")).await;
    browser.key(ENTER).await;
    browser.find("dialog").await;
    tab_to(&browser, "dialog [type=submit]").await;
    browser.key(ENTER).await;
    browser.until_gone("dialog").await;
    world.history.until_phase(&object, Phase::Unlinked, SOON).await;
    browser.find(&format!("{shop}.is-off")).await;
    let unlinked = "document.querySelector(arguments[0]).textContent.includes('Not linked')";
    browser.until("no number is shown", unlinked, &[json!(shop)]).await;
    assert!(world.whatsapp.devices().await.is_empty(), "the phone lists no device");
    // Who presses Enter once more deletes nothing.
    let harmless = "document.activeElement.closest(arguments[0]) && !document.activeElement.matches('.danger')";
    browser.until("the focus is on nothing that deletes", harmless, &[json!(shop)]).await;
    browser.inspect("unlinked").await;
    tab_to(&browser, &format!("{shop} [data-verb='delete']")).await;
    browser.key(ENTER).await;
    browser.find("dialog").await;
    tab_to(&browser, "dialog .field input").await;
    browser.key("Shop").await;
    tab_to(&browser, "dialog [type=submit]").await;
    browser.key(ENTER).await;
    browser.until_gone(&shop).await;
    world.history.until_gone(&object, SOON).await;
    browser.close().await;
    rest.nothing_leaked(&world, &[phone], &[&token]).await;
}
