//! The dashboard where something is in the way, or there is much of it.

use jiff::Timestamp;
use serde_json::json;
use whatsapp_operator::api::Phase;

use browser::{Browser, LOOKS, Look};

use crate::{
    dashboard::{add, card, drawn, sign_in, start_browser, with_module},
    gateway::{named, world},
    support::{
        gateway::{ALL_VERBS, Rest, account, token_that_lasts, user},
        world::{SOON, host},
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
    let init = async |name: &str| {
        rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, name)).await.data(201);
    };
    let (last, first_nine) = names.split_last().unwrap();
    for name in first_nine {
        init(name).await;
    }
    world
        .apply("theirs", json!({"owner": "bob@example.com", "name": "Bob's line", "desiredState": "Disconnected"}))
        .await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    nothing_moves_for_whoever_wants_that(&browser, &rest).await;

    // What the page cannot know the server says in the window, which keeps what was typed: a name that is the same one to it, and
    // that somebody else has taken the last place meanwhile.
    let is_refused = async |typed: &str, says: &str| {
        browser.press("dialog [type=submit]").await;
        let refused = "document.querySelector('dialog .problem')?.textContent.includes(arguments[1])\
            && document.querySelector('dialog .field input').value === arguments[0]";
        browser.until(&format!("it is refused: {says}"), refused, &[typed.into(), says.into()]).await;
    };
    browser.press(".button.add").await;
    browser.paste_into("dialog .field input", "Lıne 9").await;
    browser.press_button("dialog", "More options").await;
    browser.type_into("dialog [name=bridge]", &world.name).await;
    is_refused("Lıne 9", "nstance name already exists").await;
    browser.type_into("dialog .field input", "Line 11").await;
    init(last).await;
    is_refused("Line 11", "All 10 instances are in use").await;
    browser.inspect("add-refused").await;
    browser.escape().await;
    browser.until_gone("dialog").await;

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
            "document.querySelector('.toasts').textContent.includes('All 10 instances are in use')",
            &[],
        )
        .await;
    browser.inspect("full").await;
    as_wide_as_the_screen(&browser).await;

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
    // The owners and the bridges that are known are offered to whoever adds one.
    browser.press(".button.add").await;
    browser.press_button("dialog", "More options").await;
    let offered = "const of = name => [...document.querySelector(`dialog [name=${name}]`).list.options].map(one => one.value);\
        return [of('owner'), of('bridge')]";
    let [owners, bridges] = [[&user(&world, "app"), "bob@example.com"].as_slice(), &[&world.name]].map(|all| {
        let mut all = all.to_vec();
        all.sort_unstable();
        json!(all)
    });
    assert_eq!(browser.run(offered, &[]).await, json!([owners, bridges]));
    browser.escape().await;
    browser.until_gone("dialog").await;
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

    // Where the caller has no rights there is nothing to see, whoever's it is: the address of another namespace, and of all.
    for scope in ["namespace=default", "namespace=default&owner=bob@example.com", "namespace=*&owner=*"] {
        browser.open(&format!("{}/dashboard?{scope}", rest.url)).await;
        shows_why_and_nothing_else(&browser).await;
    }

    // Whoever may not list here sees why, and nothing else; no more at the address of another owner's page.
    let stranger = account(&world, "stranger", &[]).await;
    let other = start_browser(&world.dir.join("stranger")).await;
    sign_in_refused(&other, &rest, &stranger).await;
    other.inspect("not-allowed").await;
    shows_why_and_nothing_else(&other).await;
    for scope in ["owner=bob@example.com", "owner=*"] {
        other.open(&format!("{}/dashboard?{scope}", rest.url)).await;
        shows_why_and_nothing_else(&other).await;
    }
    // The page to try the API, where the menu leads.
    other.open(&format!("{}/api/v1/docs", rest.url)).await;
    other.find("#operations details").await;
    other.nothing_serious("api-docs").await;

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
    let same_keys = "const keys = (words, path = '') => Object.entries(words).flatMap(([key, value]) =>\
            typeof value === 'object' && !Array.isArray(value) ? keys(value, path + key + '.') : [path + key]);\
        return keys(module.default).sort()";
    let keys = async |file: &str| with_module(&browser, &format!("words/{file}.js"), same_keys).await;
    for [english, german] in [["en", "de"], ["en_more", "de_more"]] {
        let of_english = keys(english).await;
        assert!(of_english.is_array(), "{of_english}");
        assert_eq!(of_english, keys(german).await, "both languages say the same things");
    }
    for one in [browser, other] {
        one.close().await;
    }
}

/// The instances are refused in words, none are counted, and of Bob's nothing is there.
async fn shows_why_and_nothing_else(browser: &Browser) {
    browser.find("main .problem").await;
    let shown = "return [document.querySelectorAll('[data-id], .summary-count').length, document.body.textContent.includes('Bob')]";
    assert_eq!(browser.run(shown, &[]).await, json!([0, false]));
}

/// One column on a phone, two on a desk, more where there is room; and never wider than the screen.
async fn as_wide_as_the_screen(browser: &Browser) {
    for (size, columns) in [((390, 844), 1), ((1280, 860), 2), ((1920, 1080), 3), ((3840, 2160), 4)] {
        browser.look(Look { name: "wide", size, scheme: "light" }).await;
        let is_so = "getComputedStyle(document.querySelector('.cards')).gridTemplateColumns.split(' ').length === arguments[0]\
            && document.documentElement.scrollWidth <= arguments[1]";
        browser.until(&format!("{columns} columns at {size:?}"), is_so, &[columns.into(), size.0.into()]).await;
    }
    browser.keep_picture("cards-4k").await;
    browser.look(LOOKS[0]).await;
}

/// The lights of those that wait breathe, unless the system asks for less motion.
async fn nothing_moves_for_whoever_wants_that(browser: &Browser, rest: &Rest) {
    for (wish, moves) in [("no-preference", true), ("reduce", false)] {
        let features = json!([{"name": "prefers-reduced-motion", "value": wish}]);
        browser.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        browser.open(&format!("{}/dashboard", rest.url)).await;
        let is_so =
            "document.querySelector('.status.busy .light') && arguments[0] === document.getAnimations().length > 0";
        browser.until(&format!("something moves: {moves}"), is_so, &[moves.into()]).await;
    }
    browser.look(LOOKS[0]).await;
}

async fn sign_in_refused(browser: &Browser, rest: &Rest, token: &str) {
    browser.open(&format!("{}/dashboard", rest.url)).await;
    browser.paste_into("[name=token]", token).await;
    browser.press("[type=submit]").await;
    browser.find("main .problem").await;
}

/// What happens is told by the stream; the page asks for nothing by the clock.
async fn nothing_is_asked_for_while_nothing_happens(browser: &Browser) {
    let asked = "const done = arguments[arguments.length - 1]; const all = () => performance.getEntriesByType('resource');\
        const quiet = (before, tries) => setTimeout(() => { const more = all().slice(before).map(one => new URL(one.name).pathname);\
            if (!more.length || tries === 0) done(more); else quiet(all().length, tries - 1); }, 5000);\
        quiet(all().length, 2)";
    let asked = browser.run_async(asked).await;
    assert_eq!(asked, json!([]), "the page asks by the clock");
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
    nothing_is_asked_for_while_nothing_happens(&browser).await;

    // The gateway goes away with the window open, something happens meanwhile, and the page is as it was when it is back.
    let url = rest.url.clone();
    rest.program.set("--listen", host(&url));
    rest.program.kill();
    let lost = Timestamp::now();
    browser.find(".banner").await;
    let said = browser.text(".banner").await;
    let (_, said) = said.split_once("You see the state of ").unwrap_or_else(|| panic!("{said}"));
    // The gateway says something every 15 s at least, which the page has heard of since, if late; and nothing after its end. Without a
    // day: it may be another one by now.
    let late = "return (arguments[1] - Date.parse(`${new Date(arguments[1]).toDateString()} ${arguments[0].replace(/\\.$/, '').replace(/\\s/g, ' ')}`)) / 1000";
    let late = browser.run(late, &[said.into(), lost.as_millisecond().into()]).await;
    let late = late.as_f64().map(|late| (late + 1.0).rem_euclid(86_400.0) - 1.0);
    assert!(late.is_some_and(|late| late < 60.0), "{said} is {late:?} s before the end");
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
    let typed_on = "document.activeElement === document.querySelector('dialog .field input')";
    browser.until("the focus is where it was", typed_on, &[]).await;
    assert!(browser.run("return location.search", &[]).await.as_str().unwrap().contains("namespace="));
    browser.until("it is live", "document.querySelector('.live.live')", &[]).await;
    browser.close().await;
    rest.nothing_leaked(&world, &[], &[&token, &short]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_sent_cancelled_and_seen_to_arrive() {
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

    the_card_tells_and_is_found(&browser, &rest, &token, &shop, phone).await;

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
    // It is seen to arrive, and to be read, where it stands.
    browser.find(".message.is-delivered").await;
    assert!(browser.text(".message-text").await.contains("Hello 👋 <b>there</b>"));
    let arrived = world.whatsapp.inbox(friend).await;
    assert_eq!((arrived.len(), arrived[0].text.as_str()), (1, "Hello 👋 <b>there</b>"));
    world.whatsapp.read(friend).await;
    browser.find(".message.is-read").await;

    // Without a connection it waits, says for what, and can be cancelled; connecting is one press away.
    world.patch_spec(&object, json!({"desiredState": "Disconnected"})).await;
    browser.find("dialog .note [data-verb='connect']").await;
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
    browser.press_button(".message.is-queued", "Cancel").await;
    browser.find(".message.is-cancelled").await;
    browser.escape().await;
    browser
        .until(
            "one waits",
            "document.querySelector(arguments[0] + ' .chip')?.textContent.includes('1 message waiting')",
            &[shop.clone().into()],
        )
        .await;
    browser.inspect("cards-waiting").await;
    browser.close().await;
    rest.nothing_leaked(&world, &[phone, friend], &[&token]).await;
}

/// The day it was created, and its session's id, which is copied when it is pressed; and whatever it is looked for by finds it.
async fn the_card_tells_and_is_found(browser: &Browser, rest: &Rest, token: &str, card: &str, phone: &str) {
    let session = rest.get(token, "/api/v1/sessions/list/").await.data(200)["sessions"][0].clone();
    let text = |field: &str| session[field].as_str().unwrap_or_else(|| panic!("no {field} in {session}")).to_owned();
    let created = "const [time] = document.querySelectorAll(`${arguments[0]} .facts time`);\
        return [time.dateTime, time.textContent === new Intl.DateTimeFormat('en', {dateStyle: 'medium'}).format(new Date(time.dateTime))]";
    assert_eq!(browser.run(created, &[card.into()]).await, json!([text("created_at"), true]));
    let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    browser.devtools("Browser.grantPermissions", permissions).await;
    browser.press(&format!("{card} .copy")).await;
    browser.until("it says so", "document.querySelector('.copy [role=status]').textContent === 'Copied'", &[]).await;
    let copied = browser.run("return navigator.clipboard.readText()", &[]).await;
    assert_eq!(copied, text("session_id"));
    for word in [&phone[5..], &text("session_id")[..8], &text("object"), "shop", &text("user")] {
        browser.type_into("#search", "nothing like it").await;
        browser.until_gone(card).await;
        browser.type_into("#search", word).await;
        browser.find(card).await;
    }
    browser.type_into("#search", "").await;
}
