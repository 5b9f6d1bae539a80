//! The dashboard where something is in the way, or there is much of it.

use serde_json::json;
use whatsapp_operator::api::Phase;

use browser::Browser;

use crate::{
    dashboard::{add, card, counts_down, drawn, may_have, sign_in, start_browser},
    gateway::{named, world},
    support::{
        gateway::{ALL_VERBS, Rest, account, token_that_lasts, user},
        world::{SOON, World, host},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_of_several_owners_are_found_and_told_apart() {
    let world = world("dashboard-many").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let names = [
        "Büro Süd",
        "営業部",
        "مكتب المبيعات",
        "\"quoted\" & <b>bold</b>",
        "🎉🎉🎉",
        "m",
        "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
        "Line 8",
        "Line 9",
        "Line 10",
    ];
    for name in names {
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, name)).await.data(201);
    }
    world
        .apply("theirs", json!({"owner": "bob@example.com", "name": "Bob's line", "desiredState": "Disconnected"}))
        .await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;

    // All ten, in the order of their names, each as it was written.
    browser.until("ten are shown", "document.querySelectorAll('.card[data-id]').length === 10", &[]).await;
    let shown = browser.run("return [...document.querySelectorAll('.card h3')].map(one => one.textContent)", &[]).await;
    for name in names {
        assert!(shown.as_array().unwrap().contains(&json!(name)), "{name} is not shown as it is: {shown}");
    }
    browser.until("it is full", "document.querySelector('.summary-count').dataset.used === '10'", &[]).await;
    browser.press(".button.add").await;
    browser
        .until(
            "it says why there is no more",
            "document.querySelector('.toasts').textContent.includes('All 10 instances are used')",
            &[],
        )
        .await;
    browser.inspect("full").await;

    // Keyboard, search, rows.
    browser.key("/").await;
    browser.until("the search has the focus", "document.activeElement.id === 'search'", &[]).await;
    browser.type_into("#search", "line 1").await;
    browser.until("one is found", "document.querySelectorAll('.card[data-id]').length === 1", &[]).await;
    browser.type_into("#search", "nothing like it").await;
    browser.find(".empty").await;
    browser.inspect("search-nothing").await;
    browser.press_button(".empty", "Clear the search").await;
    browser.press_button(".segments", "Table").await;
    browser.until("ten rows", "document.querySelectorAll('tbody tr').length === 10", &[]).await;
    browser.inspect("table").await;

    // Another owner's are not there until they are asked for; how many Bob may have is not for everybody.
    assert_eq!(browser.run("return document.body.textContent.includes('Bob')", &[]).await, false);
    browser.open(&format!("{}/dashboard?owner=*", rest.url)).await;
    browser.until("eleven rows", "document.querySelectorAll('tbody tr').length === 11", &[]).await;
    browser.inspect("everyone").await;
    browser
        .run(
            "const select = document.querySelector('.scope select'); select.value = 'bob@example.com'; \
        select.dispatchEvent(new Event('change', {bubbles: true}))",
            &[],
        )
        .await;
    browser.until("one row", "document.querySelectorAll('tbody tr').length === 1", &[]).await;
    assert_eq!(browser.text(".summary-count strong").await, "1 instance");
    assert!(browser.run("return location.search", &[]).await.as_str().unwrap().contains("owner=bob"));

    // Whoever may not list here sees why, and nothing else.
    let stranger = account(&world, "stranger", &[]).await;
    let other = start_browser(&world.dir.join("stranger")).await;
    sign_in_refused(&other, &rest, &stranger).await;
    other.inspect("not-allowed").await;
    assert_eq!(other.run("return document.querySelectorAll('[data-id]').length", &[]).await, 0);

    // German, in every word.
    browser.open(&format!("{}/dashboard", rest.url)).await;
    browser.press_button(".menu", "Settings").await;
    browser
        .run(
            "const select = document.querySelectorAll('.menu select')[1]; select.value = 'de'; \
        select.dispatchEvent(new Event('change', {bubbles: true}))",
            &[],
        )
        .await;
    browser
        .until(
            "it speaks German",
            "document.documentElement.lang === 'de' && document.body.textContent.includes('Neue WhatsApp-Instanz')",
            &[],
        )
        .await;
    browser.inspect("german").await;
    let same_keys = "const version = document.querySelector('link[rel=icon]').href.split('/').at(-2);\
        const keys = (words, path = '') => Object.entries(words).flatMap(([key, value]) =>\
            typeof value === 'object' && !Array.isArray(value) ? keys(value, path + key + '.') : [path + key]);\
        const of = code => Promise.all([code, `${code}_windows`].map(file => import(`/dashboard/assets/${version}/words/${file}.js`)))\
            .then(files => files.flatMap(words => keys(words.default)).sort().join());\
        return Promise.all([of('en'), of('de')])";
    let keys = browser.run(same_keys, &[]).await;
    assert_eq!(keys[0], keys[1], "both languages say the same things");
    assert_eq!(browser.forbidden().await, Vec::<String>::new());
    for one in [browser, other] {
        one.close().await;
    }
}

async fn sign_in_refused(browser: &Browser, rest: &Rest, token: &str) {
    browser.open(&format!("{}/dashboard", rest.url)).await;
    browser.paste_into("[name=token]", token).await;
    browser.press("[type=submit]").await;
    browser.find("main .problem").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_said_and_comes_back_and_a_session_that_ended_goes_on_where_it_was() {
    let world = world("dashboard-stream").await;
    let mut rest = Rest::start(&world, &[]).await;
    account(&world, "app", ALL_VERBS).await;
    let token = token_that_lasts(&world, "app", 600).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    add(&browser, &world, "Business Account").await;
    let business = card(&rest, &token, "Business Account").await;
    let object = rest.get(&token, "/api/v1/sessions/list/").await.data(200)["sessions"][0]["object"].clone();
    let object = object.as_str().unwrap().to_owned();
    drawn(&browser).await;

    // The gateway goes away with the window open, something happens meanwhile, and the page is as it was when it is back.
    let url = rest.url.clone();
    rest.program.set("--listen", host(&url));
    rest.program.kill();
    browser.find(".banner").await;
    assert!(browser.text(".banner").await.contains("What you see is from"));
    browser.inspect("stream-lost").await;
    world.patch_spec(&object, json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase(&object, Phase::Disconnected, SOON).await;
    let addresses: serde_json::Value = rest.program.start().await;
    addresses["admin"].as_str().unwrap().clone_into(&mut rest.admin);
    browser.until("it is live again", "document.querySelector('.live.live')", &[]).await;
    browser.find(&format!("{business}.is-off")).await;
    browser.find("dialog").await;
    browser.inspect("qr-disconnected").await;
    browser.escape().await;
    browser.until_gone("dialog").await;

    // What is typed is kept over events and over signing in again.
    let short = token_that_lasts(&world, "app", 20).await;
    browser.open(&format!("{url}/dashboard?namespace={}", world.name)).await;
    let cookie = format!(
        "fetch('/api/v1/sign-in', {{method: 'POST', headers: {{'Content-Type': 'application/json'}}, body: JSON.stringify({{token: '{short}'}})}})"
    );
    assert_eq!(browser.run(&format!("return {cookie}.then(answer => answer.status)"), &[]).await, 200);
    browser.open(&format!("{url}/dashboard?namespace={}", world.name)).await;
    browser.press(".button.add").await;
    browser.paste_into("dialog .field input", "Half a na").await;
    browser.find("[name=token]").await;
    browser.inspect("session-ended").await;
    // A page that does nothing any more is not to be had without signing in, however often Escape is pressed.
    for _ in 0..4 {
        browser.escape().await;
    }
    let asks = "(field => field?.closest('dialog').matches(':modal') && document.activeElement === field)\
        (document.querySelector('[name=token]'))";
    browser.until("it is still asked for a token", asks, &[]).await;
    assert_eq!(browser.run("return document.querySelectorAll('dialog:modal').length", &[]).await, 2);
    browser.paste_into("[name=token]", &token).await;
    browser.press_button("dialog:has([name=token])", "Sign in").await;
    browser.until_gone("[name=token]").await;
    assert_eq!(browser.run("return document.querySelector('dialog .field input').value", &[]).await, "Half a na");
    assert!(browser.run("return location.search", &[]).await.as_str().unwrap().contains("namespace="));
    browser.until("it is live", "document.querySelector('.live.live')", &[]).await;
    assert_eq!(browser.forbidden().await, Vec::<String>::new());
    browser.close().await;
    rest.nothing_leaked(&world, &[], &[&token, &short]).await;
    let _ = user(&world, "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_sent_called_back_and_seen_to_arrive() {
    let (phone, friend) = ("+15550400011", "+15550400099");
    let world = world("dashboard-messages").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let made =
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=30", named(&world, "Shop")).await.data(201).clone();
    let object = made["object"].as_str().unwrap().to_owned();
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let shop = card(&rest, &token, "Shop").await;
    browser.until_gone(&format!("{shop} [data-verb='messages']")).await;
    world.scan(&object, phone).await;
    browser.find(&format!("{shop}.is-good")).await;

    browser.press(&format!("{shop} [data-verb='messages']")).await;
    browser.find(".quiet-text").await;
    browser.inspect("messages-empty").await;
    // What is wrong with a number is said, and it is not made another one.
    browser.type_into("[name=recipient]", "+49 (0)170 1234567").await;
    browser.paste_into("[name=text]", "Hello 👋 <b>there</b>").await;
    browser.press_button("dialog", "Send").await;
    assert!(browser.text(".compose .problem").await.contains("leave out the (0)"));
    browser.type_into("[name=recipient]", " +1 (555) 040-0099").await;
    browser.press_button("dialog", "Send").await;
    browser.find(".message.is-sent, .message.is-delivered, .message.is-read").await;
    assert!(browser.text(".message-text").await.contains("Hello 👋 <b>there</b>"));
    let arrived = world.whatsapp.inbox(friend).await;
    assert_eq!((arrived.len(), arrived[0].text.as_str()), (1, "Hello 👋 <b>there</b>"));

    // Without a connection it waits, says for what, and can be called back.
    world.patch_spec(&object, json!({"desiredState": "Disconnected"})).await;
    browser.find("dialog .note").await;
    for text in ["One", "Two"] {
        browser.type_into("[name=text]", text).await;
        browser.press_button("dialog", "Send").await;
        browser
            .until(
                "it is in the list",
                "document.querySelector('.message-text').textContent === arguments[0]",
                &[text.into()],
            )
            .await;
    }
    browser
        .until(
            "it says for what",
            "document.querySelector('.message.is-queued').textContent.includes('for the connection')",
            &[],
        )
        .await;
    browser.inspect("messages").await;
    browser.press_button(".message.is-queued", "Call back").await;
    browser.find(".message.is-cancelled").await;
    browser.escape().await;
    browser
        .until(
            "one waits",
            "document.querySelector(arguments[0] + ' .chip')?.textContent.includes('1 message waits')",
            &[shop.clone().into()],
        )
        .await;
    browser.inspect("cards-waiting").await;
    assert_eq!(browser.forbidden().await, Vec::<String>::new());
    browser.close().await;
    rest.nothing_leaked(&world, &[phone, friend], &[&token]).await;
}

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
    browser.press_button(".qr-over", "Refresh QR").await;
    drawn(&browser).await;
    browser.escape().await;
    browser.until_gone("dialog").await;
    the_clock_is_right_however_late_answers_are(&browser).await;
    assert_eq!(browser.forbidden().await, Vec::<String>::new());
    browser.close().await;
}

/// What the page takes for the gateway's time, by answers that say a time and were asked for and heard at others.
async fn the_clock_is_right_however_late_answers_are(browser: &Browser) {
    let script = "const done = arguments[arguments.length - 1];\
        import(document.querySelector('script[type=module]').src.replace('start.js', 'api.js')).then(({learnClock, now}) => {\
        const learn = (ahead, latency) => {\
            const date = new Date(Date.now() - latency / 2 + ahead).toUTCString();\
            learnClock(new Response('', {headers: {date}}), Date.now() - latency);\
            return Math.round((now() - Date.now()) / 1000);\
        };\
        done([learn(0, 10), learn(0, 8000), learn(300000, 10), learn(300000, 30000), learn(-60000, 6000), learn(0, 10)]);\
        }).catch(error => done(String(error)))";
    let found = browser.run_async(script).await;
    let ahead: Vec<f64> =
        found.as_array().unwrap_or_else(|| panic!("{found}")).iter().filter_map(serde_json::Value::as_f64).collect();
    let expected = [0.0, 0.0, 300.0, 300.0, -60.0, 0.0];
    let uncertain = [0.0, 0.0, 1.0, 1.0, 4.0, 0.0];
    for ((ahead, expected), uncertain) in ahead.iter().zip(expected).zip(uncertain) {
        assert!((ahead - expected).abs() <= uncertain, "{found} are not {expected:?}");
    }
    assert_eq!(ahead.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cards_stay_smooth() {
    let world = World::start("dashboard-crowd").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let owner = user(&world, "app");
    may_have(&world, &owner, 300).await;
    for n in 0..200 {
        world
            .apply(
                &format!("line-{n}"),
                json!({"name": format!("Line {n}"), "owner": owner, "desiredState": "Disconnected"}),
            )
            .await;
    }
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser
        .until_within(
            SOON * 2,
            "all are shown",
            "document.querySelectorAll('.card.is-off[data-id]').length === 200",
            &[],
        )
        .await;
    browser
        .until("so many may be", "document.querySelector('.summary-count').textContent.includes('200/300')", &[])
        .await;

    // One of them changes: what it takes to draw that, from the event to the page as it is then.
    let measure = "const done = arguments[arguments.length - 1];\
        const version = document.querySelector('link[rel=icon]').href.split('/').at(-2);\
        import(`/dashboard/assets/${version}/store.js`).then(async store => {\
            const sessions = [...store.current().sessions.values()]; const times = [];\
            for (let n = 0; n < 20; n += 1) {\
                const began = performance.now();\
                store.told('session', {session: {...sessions[n], phase: n % 2 ? 'Connected' : 'Reconnecting'}});\
                await new Promise(resolve => setTimeout(resolve, 0));\
                document.body.getBoundingClientRect();\
                times.push(performance.now() - began);\
                await new Promise(resolve => setTimeout(resolve, 20));\
            }\
            done(times.sort((a, b) => a - b));\
        })";
    let times = browser.run_async(measure).await;
    // The goal is 16 ms on a machine that does nothing else. Whatever else runs only adds to it, so the quickest counts, and
    // the limit is for a machine at its worst.
    let (quick, slowest) = (times[0].as_f64().unwrap(), times[19].as_f64().unwrap());
    println!("among 200 cards one is drawn anew within {quick:.1} ms (slowest {slowest:.1} ms)");
    assert!(quick < 50.0, "{times}");
    browser.press_button(".segments", "Table").await;
    browser.inspect("crowd-table").await;
    browser.close().await;
}
