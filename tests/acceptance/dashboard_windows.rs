//! The dashboard in several windows and by several people, and while somebody is at work in it.

use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use browser::Browser;

use crate::{
    dashboard::{card, sign_in, start_browser, with_module},
    gateway::{named, world},
    support::{
        gateway::{ALL_VERBS, READ_VERBS, Rest, account, user},
        world::{SOON, World},
    },
};

/// An instance of whoever has this token; its id and its object.
async fn made(world: &World, rest: &Rest, token: &str, name: &str) -> (String, String) {
    let made = rest.call(token, "POST", "/api/v1/sessions/init/?wait=30", named(world, name)).await.data(201).clone();
    (made["id"].as_str().unwrap().to_owned(), made["object"].as_str().unwrap().to_owned())
}

/// The page shows the instances of one of them, and none of the other's.
async fn shows(browser: &Browser, whose: &str, not: &str) {
    let only = "document.querySelector(arguments[0]) && !document.querySelector(arguments[1])";
    browser.until(&format!("{whose} is shown, and not {not}"), only, &[whose.into(), not.into()]).await;
}

/// A browser in which the next frame takes seconds, as on a machine that is busy or in a window behind others. Effects that wait for a
/// frame come that late then: the page's library sees to them 35 ms later where none comes.
const LATE_FRAMES: &str = "const soon = window.setTimeout; window.requestAnimationFrame = () => 0;\
    window.late = 0; window.setTimeout = (what, after, ...rest) => soon(what, after === 35 ? (window.late += 1, 3000) : after, ...rest);";

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_before_the_first_frame_is_shown() {
    let world = world("dashboard-frames").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": LATE_FRAMES})).await;
    // The gateway says within milliseconds that nobody is signed in.
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser.open(&format!("{}/dashboard", rest.url)).await;
    browser.find(".summary").await;
    assert!(
        browser.run("return window.late", &[]).await.as_u64().unwrap() > 0,
        "no effect was late: the library has another time"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_windows_are_of_whoever_is_signed_in() {
    let world = world("dashboard-people").await;
    let mut rest = Rest::start(&world, &[]).await;
    let tokens = (account(&world, "alice", ALL_VERBS).await, account(&world, "bob", ALL_VERBS).await);
    let (id, _) = made(&world, &rest, &tokens.0, "Alice's line").await;
    let alices = format!(".card[data-id='{id}']");
    let (id, _) = made(&world, &rest, &tokens.1, "Bob's line").await;
    let bobs = format!(".card[data-id='{id}']");
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &tokens.0, "/dashboard").await;
    let first = browser.new_tab().await;
    browser.open(&format!("{}/dashboard", rest.url)).await;
    shows(&browser, &alices, &bobs).await;

    // Alice leaves in one window, and has left in both; so it is with Bob, who comes.
    let second = browser.use_tab(first.clone()).await;
    browser.press_button(".menu", "Settings").await;
    browser.press_button(".menu", "Sign out").await;
    browser.find(".sign-in-card").await;
    browser.use_tab(second.clone()).await;
    browser.find(".sign-in-card").await;
    browser.use_tab(first.clone()).await;
    browser.paste_into("[name=token]", &tokens.1).await;
    browser.press("[type=submit]").await;
    shows(&browser, &bobs, &alices).await;
    browser.use_tab(second).await;
    shows(&browser, &bobs, &alices).await;
    assert!(!browser.run("return document.body.textContent", &[]).await.to_string().contains("Alice"));

    // What changes something says whose page asks for it.
    let asked = "window.asked = []; const really = window.fetch;\
        window.fetch = (to, how) => (window.asked.push(how?.headers?.['X-Dashboard-User']), really(to, how))";
    browser.run(asked, &[]).await;
    browser.press(&format!("{bobs} [data-verb='disconnect']")).await;
    browser.find(&format!("{bobs}.is-off")).await;
    let said = browser.run("return window.asked.find(Boolean) ?? ''", &[]).await;
    assert_eq!(said.as_str().unwrap().replace("%3A", ":"), user(&world, "bob"));

    // Signed in behind the page's back: it learns so when its stream begins again.
    let behind = "return fetch('/api/v1/sign-in', {method: 'POST', headers: {'Content-Type': 'application/json'}, \
        body: JSON.stringify({token: arguments[0]})}).then(answer => answer.status)";
    assert_eq!(browser.run(behind, &[tokens.0.clone().into()]).await, 200);
    rest.program.kill();
    browser.find(".banner").await;
    browser.nothing_serious("a page that is old").await;
    rest.restart().await;
    shows(&browser, &alices, &bobs).await;
    browser.until("it is live", "document.querySelector('.live.live')", &[]).await;
    browser.close().await;
    rest.nothing_leaked(&world, &[], &[&tokens.0, &tokens.1]).await;
}

/// The focus is within the element.
async fn focus_is_in(browser: &Browser, css: &str) {
    let there = "document.activeElement.closest(arguments[0])";
    browser.until(&format!("the focus is in {css}"), there, &[css.into()]).await;
}

async fn focus(browser: &Browser, css: &str) {
    browser.find(css).await;
    browser.run("document.querySelector(arguments[0]).focus()", &[css.into()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_take_neither_the_focus_nor_what_is_typed() {
    let (phone, friend) = ("+15550400051", "+15550400097");
    let world = world("dashboard-focus").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let (shop, object) = made(&world, &rest, &token, "Shop").await;
    let (other, _) = made(&world, &rest, &token, "Other").await;
    world.scan(&object, phone).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let (id, shop) = (shop, card(&rest, &token, "Shop").await);
    browser.find(&format!("{shop}.is-good")).await;

    // The button that was pressed gives way to another, and the focus stays with the instance.
    focus(&browser, &format!("{shop} [data-verb='disconnect']")).await;
    browser.key("\u{e007}").await;
    browser.find(&format!("{shop}.is-off")).await;
    browser.until_gone(&format!("{shop} [data-verb='disconnect']")).await;
    focus_is_in(&browser, &shop).await;
    // One that is deleted leaves it to its neighbour.
    focus(&browser, &format!("[data-id='{other}'] [data-verb='delete']")).await;
    let delete = format!("/api/v1/sessions/delete/{other}/?wait=0");
    rest.call(&token, "DELETE", &delete, Value::Null).await;
    browser.until_gone(&format!("[data-id='{other}']")).await;
    focus_is_in(&browser, &shop).await;

    // The device is unlinked while somebody writes.
    browser.press(&format!("{shop} [data-verb='messages']")).await;
    browser.type_into("[name=recipient]", friend).await;
    browser.paste_into("[name=text]", "A long letter").await;
    rest.post(&token, &format!("/api/v1/sessions/unlink/{id}/?wait=0")).await;
    world.history.until_phase(&object, Phase::Unlinked, SOON).await;
    browser.find("dialog [type=button].primary:disabled").await;
    let written = "document.activeElement.name === 'text' && document.activeElement.value === 'A long letter'\
        && document.querySelector('[name=recipient]').value === arguments[0]";
    browser.until("what was written is there, with the focus", written, &[friend.into()]).await;
    browser.inspect("messages-unlinked").await;
    // The window was opened by a button that is not there any more; what was written is there when it is opened again.
    browser.escape().await;
    browser.until_gone("dialog").await;
    focus_is_in(&browser, &shop).await;
    rest.post(&token, &format!("/api/v1/sessions/connect/{id}/?wait=0")).await.data(202);
    world.scan(&object, phone).await;
    browser.press(&format!("{shop} [data-verb='messages']")).await;
    browser.find("[name=text]").await;
    browser.until("it is still there", "document.querySelector('[name=text]').value === 'A long letter'", &[]).await;
    browser.escape().await;
    browser.until_gone("dialog").await;
    a_new_problem_outlives_a_window_that_opens(&browser).await;
    browser.close().await;
    rest.nothing_leaked(&world, &[phone, friend], &[&token]).await;
}

/// Windows open by themselves too: what was refused just before is said in them, what was done is not; of two words about one thing the
/// later is.
async fn a_new_problem_outlives_a_window_that_opens(browser: &Browser) {
    let open = "module.toast('It is done.'); module.toast('First.', true, 'one thing'); module.toast('Refused.', true, 'one thing');\
        (await import(`/dashboard/assets/${version}/store.js`)).openDialog('help'); return true";
    assert_eq!(with_module(browser, "parts/toasts.js", open).await, true);
    let said = "[...document.querySelectorAll('dialog .toast p')].map(one => one.textContent).join() === 'Refused.'";
    browser.until("the refusal is said in the window", said, &[]).await;
    browser.escape().await;
    browser.until_gone("dialog").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_shown_a_page_at_a_time_and_no_more_are_kept() {
    let (phone, friend) = ("+15550400052", "+15550400096");
    let world = world("dashboard-thread").await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let (id, object) = made(&world, &rest, &token, "Shop").await;
    world.scan(&object, phone).await;
    world.history.until_phase(&object, Phase::Connected, SOON).await;
    world.patch_spec(&object, json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase(&object, Phase::Disconnected, SOON).await;
    let send = async |n: usize| {
        let message = json!({"recipient": friend, "message": format!("Number {n}"), "session_id": id});
        rest.call(&token, "POST", "/api/v1/messages/send/?wait=0", message).await.data(202);
    };
    for n in 1..=60 {
        send(n).await;
    }
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser.press(&format!("[data-id='{id}'] [data-verb='messages']")).await;
    let shown = async |first: usize, last: usize| {
        let page = "(all => all.length === arguments[0] && all[0] === arguments[1] && all.at(-1) === arguments[2])\
            ([...document.querySelectorAll('.message-text')].map(one => one.textContent))";
        let numbers = [(first - last + 1).into(), format!("Number {first}").into(), format!("Number {last}").into()];
        browser.until(&format!("{first} to {last} are shown"), page, &numbers).await;
    };
    shown(60, 11).await;
    // A new one takes the place of the oldest, which is then on the next page.
    send(61).await;
    shown(61, 12).await;
    browser.inspect("messages-many").await;
    browser.press_button("dialog", "Show older ones").await;
    shown(11, 1).await;
    browser.inspect("messages-older").await;
    browser.press_button("dialog", "Show the newest").await;
    shown(61, 12).await;
    an_older_answer_takes_nothing_back(&browser).await;

    // Who may see the instance and not its messages hears so; an empty list would be another thing.
    let viewer = account(&world, "viewer", READ_VERBS).await;
    let other = "return fetch('/api/v1/sign-in', {method: 'POST', headers: {'Content-Type': 'application/json'}, \
        body: JSON.stringify({token: arguments[0]})}).then(answer => answer.status)";
    assert_eq!(browser.run(other, &[viewer.clone().into()]).await, 200);
    browser.open(&format!("{}/dashboard?owner={}", rest.url, user(&world, "app"))).await;
    browser.press(&format!("[data-id='{id}'] [data-verb='messages']")).await;
    browser.find("dialog .problem").await;
    assert_eq!(browser.run("return document.querySelectorAll('.quiet-text').length", &[]).await, 0);
    browser.close().await;
    rest.nothing_leaked(&world, &[phone, friend], &[&token, &viewer]).await;
}

/// Of a message only news are taken: a failure is newer than that it was sent, as is that a linked device of the recipient has it.
async fn an_older_answer_takes_nothing_back(browser: &Browser) {
    let script = "const taken = (...steps) => { const known = new Map();\
            for (const step of steps) module.put(known, {id: '1', accepted_at: '2026-01-01T00:00:00Z', ...step}, true);\
            return known.get('1'); };\
        const sent = {status: 'sent'}; const there = {...sent, companion_delivered_at: '2026-01-01T00:00:01Z'};\
        return [taken({status: 'failed'}, sent).status, taken(sent, {status: 'failed'}, {status: 'delivered'}).status,\
            Boolean(taken(there, sent).companion_delivered_at), Boolean(taken(sent, there).companion_delivered_at)]";
    let found = with_module(browser, "dialogs/thread.js", script).await;
    assert_eq!(found, json!(["failed", "delivered", true, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_for_somebody_else_is_shown_among_theirs() {
    let world = world("dashboard-others").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "platform", &["assign-owner", "get", "list", "watch", "create"]).await;
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser.press(".button.add").await;
    browser.paste_into("dialog .field input", "Theirs").await;
    browser.press_button("dialog", "More options").await;
    browser.type_into("dialog [name=bridge]", &world.name).await;
    browser.type_into("dialog [name=owner]", "carol@windows.example").await;
    browser.press("dialog [type=submit]").await;
    browser.find("dialog.qr .qr-picture").await;
    browser
        .until(
            "the page is about Carol",
            "document.querySelector('.scope select').value === 'carol@windows.example'",
            &[],
        )
        .await;
    browser.find(&card(&rest, &token, "Theirs").await).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_read_ends_no_linking_page() {
    let world = world("dashboard-unreadable").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let (id, _) = made(&world, &rest, &token, "Shop").await;
    let link = rest.call(&token, "POST", &format!("/api/v1/sessions/link/{id}/"), json!({})).await.data(201)["link"]
        .as_str()
        .unwrap()
        .to_owned();
    let browser = start_browser(&world.dir).await;
    let (path, secret) = link.rsplit_once('#').unwrap();
    let path = path.strip_prefix(&rest.url).unwrap_or(path);
    browser.open(&format!("{}{path}#{secret}", rest.url)).await;
    browser.find(".link .button").await;
    // The page of something in between, then an answer that breaks off, then the gateway's.
    let odd = "const really = window.fetch; const broken = new ReadableStream({pull(way) { way.error(new TypeError('gone')); }});\
        const odd = [new Response('<html>Welcome</html>'), new Response(broken)];\
        window.fetch = (...asked) => odd.length ? Promise.resolve(odd.shift()) : really(...asked); window.odd = odd";
    browser.run(odd, &[]).await;
    browser.press(".link .button").await;
    browser.until("it says so", "document.querySelector('.qr-over')?.textContent.includes('Reconnecting')", &[]).await;
    browser.find(".qr-picture").await;
    assert_eq!(browser.run("return window.odd.length", &[]).await, 0);
    browser.close().await;
}
