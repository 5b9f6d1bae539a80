//! The codes of a whole pairing window on the dashboard, and the clock by which they are counted down.

use browser::Browser;

use crate::{
    dashboard::{add, counts_down, drawn, sign_in, start_browser, with_module},
    gateway::world,
    support::{
        gateway::{ALL_VERBS, Rest, account},
        world::SOON,
    },
};

/// A new pairing window for each code of which the time is looked at would be minutes; this is one whole window.
#[tokio::test(flavor = "multi_thread")]
async fn every_code_of_a_window_is_counted_down_and_then_it_has_expired() {
    let world = world("dashboard-window").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    add(&browser, &world, "Slow").await;
    let object = rest.get(&token, "/api/v1/sessions/list/").await.data(200)["sessions"][0]["object"].clone();
    let object = object.as_str().unwrap().to_owned();
    for attempt in 1..=6u32 {
        let is_it = move |one: &whatsapp_operator::api::WhatsAppInstance| {
            one.status.as_ref().and_then(|status| status.qr.as_ref()).is_some_and(|qr| qr.attempt == attempt)
        };
        let shown = world.history.until(&object, "the next code", SOON * 3, is_it).await;
        let qr = shown.status.unwrap().qr.unwrap();
        let counted = "Date.parse(document.querySelector('.qr-left')?.dataset.expires) === arguments[0]";
        let expires = qr.expires_at.0.as_millisecond();
        browser.until(&format!("code {attempt} is shown"), counted, &[expires.into()]).await;
        assert_eq!(drawn(&browser).await, qr.code.reveal(), "code {attempt}");
        assert!(browser.text(".qr-left").await.contains(&format!("Code {attempt} of 6")));
        counts_down(&browser, qr.expires_at.0).await;
    }
    browser
        .until_within(
            SOON * 2,
            "it has expired",
            "document.querySelector('.qr-over strong')?.textContent === 'EXPIRED'",
            &[],
        )
        .await;
    browser.inspect("qr-expired").await;
    browser.find(".qr-over [data-verb='refresh-qr']").await;
    // Who has the phone may be somebody else, which is why nobody used the code: a link begins anew as well.
    browser.press("[data-share='make']").await;
    browser.find(".share .copy").await;
    drawn(&browser).await;
    closing_stops_the_countdown(&browser).await;
    the_clock_is_right_however_late_answers_are(&browser).await;
    browser.close().await;
}

/// Nothing counts any more once the window is closed.
async fn closing_stops_the_countdown(browser: &Browser) {
    let count = "window.counted = 0; window.later = window.setTimeout; window.setTimeout = (...asked) => {\
        if (new Error().stack.includes('/parts/code.js')) window.counted += 1; return window.later(...asked); }";
    browser.run(count, &[]).await;
    browser.until("the seconds are counted", "window.counted > 1", &[]).await;
    browser.escape().await;
    browser.until_gone("dialog").await;
    let after = "const done = arguments[arguments.length - 1]; const before = window.counted;\
        window.later(() => done(window.counted - before), 2500)";
    assert_eq!(browser.run_async(after).await, 0, "it is counted on");
}

/// What the page takes for the gateway's time, by answers that say a time and were asked for and heard at others.
async fn the_clock_is_right_however_late_answers_are(browser: &Browser) {
    let script = "const {learnClock, now} = module;\
        const learn = (ahead, latency) => {\
            const date = new Date(Date.now() - latency / 2 + ahead).toUTCString();\
            learnClock(new Response('', {headers: {date}}), Date.now() - latency);\
            return Math.round((now() - Date.now()) / 1000);\
        };\
        return [learn(0, 10), learn(0, 8000), learn(300000, 10), learn(300000, 30000), learn(-60000, 6000), learn(0, 10)]";
    let found = with_module(browser, "api.js", script).await;
    let ahead: Vec<f64> =
        found.as_array().unwrap_or_else(|| panic!("{found}")).iter().filter_map(serde_json::Value::as_f64).collect();
    let expected = [0.0, 0.0, 300.0, 300.0, -60.0, 0.0];
    let uncertain = [0.0, 0.0, 1.0, 1.0, 4.0, 0.0];
    for ((ahead, expected), uncertain) in ahead.iter().zip(expected).zip(uncertain) {
        assert!((ahead - expected).abs() <= uncertain, "{found} are not {expected:?}");
    }
    assert_eq!(ahead.len(), expected.len());
}
