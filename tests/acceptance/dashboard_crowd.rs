//! The dashboard with 200 instances.

use browser::Browser;

use crate::{
    dashboard::{sign_in, start_browser, two_hundred, with_module},
    support::{
        gateway::{ALL_VERBS, Rest, account, user},
        world::{SOON, World},
    },
    turns::calm,
};

/// Somebody reads in the middle of the page and has selected a name, while others change and one above it is deleted.
async fn others_move_and_what_is_read_stays(browser: &Browser) {
    let move_others = "const {current, told} = module;\
        const frames = () => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));\
        const cards = [...document.querySelectorAll('.card[data-id]')];\
        const read = cards[100]; read.scrollIntoView({block: 'center'});\
        await frames();\
        const name = read.querySelector('h3'); getSelection().selectAllChildren(name);\
        const is = () => [Math.round(read.getBoundingClientRect().top), getSelection().toString().trim()];\
        const before = is();\
        for (const card of cards.slice(90, 111).filter(one => one !== read)) {\
            const session = current().sessions.get(card.dataset.id);\
            told('session', {session: {...session, phase: 'Connecting'}});\
        }\
        told('deleted', {session: current().sessions.get(cards[1].dataset.id)});\
        told('deleted', {session: current().sessions.get(cards[0].dataset.id)});\
        while (document.querySelectorAll('.card[data-id]').length !== 198) await frames();\
        await frames();\
        return {before, after: is(), name: name.textContent, moved: read.isConnected && cards[99].matches('.is-busy')}";
    let found = with_module(browser, "store.js", move_others).await;
    assert_eq!(found["moved"], true, "{found}");
    assert_eq!((&found["before"][1], &found["after"][1]), (&found["name"], &found["name"]), "the selection: {found}");
    let at = |when: &str| found[when][0].as_i64().unwrap();
    // Cards that were never on the screen are as high as they are taken to be, and a row may turn out to be some pixels higher.
    assert!((at("before") - at("after")).abs() < 100, "what is read has moved: {found}");
    browser.run("getSelection().removeAllRanges()", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cards_stay_smooth() {
    let world = World::start("dashboard-crowd").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let owner = user(&world, "app");
    two_hundred(&world, &owner).await;
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

    // One of them that is on the screen changes: what it takes until the page is so. The page draws a moment later what follows
    // something else closely, so a round in which something else moved is none.
    let measure = "const {current, told} = module;\
        const pause = time => new Promise(resolve => setTimeout(resolve, time));\
        const task = () => new Promise(resolve => { const way = new MessageChannel(); way.port1.onmessage = resolve; way.port2.postMessage(0); });\
        const seen = [...document.querySelectorAll('.card[data-id]')].filter(card => {\
            const place = card.getBoundingClientRect(); return place.top >= 0 && place.bottom <= innerHeight; });\
        const times = [];\
        for (let tried = 0; seen.length && times.length < 15 && tried < 60; tried += 1) {\
            await pause(150);\
            const card = seen[tried % seen.length]; const online = !card.matches('.is-good');\
            const session = current().sessions.get(card.dataset.id);\
            const began = performance.now();\
            told('session', {session: {...session, phase: online ? 'Connected' : 'Disconnected'}});\
            await task();\
            card.getBoundingClientRect();\
            const took = performance.now() - began;\
            if (card.isConnected && card.matches('.is-good') === online) times.push(took);\
        }\
        return times.length === 15 ? times.sort((a, b) => a - b) : `${seen.length} are on the screen, ${times.length} drawn at once`";
    // Each of these rounds has drawn. Whatever else runs only adds to it, so the quickest of them counts.
    let (mut best, mut slowest) = (f64::MAX, 0_f64);
    for _ in 0..8 {
        let quiet = calm().await;
        let times = with_module(&browser, "store.js", measure).await;
        drop(quiet);
        let times: Vec<f64> = times
            .as_array()
            .unwrap_or_else(|| panic!("{times}"))
            .iter()
            .filter_map(serde_json::Value::as_f64)
            .collect();
        (best, slowest) = (best.min(times[0]), slowest.max(times[times.len() - 1]));
        if best < 16.0 {
            break;
        }
    }
    println!("among 200 cards one is drawn anew within {best:.1} ms (slowest {slowest:.1} ms)");
    assert!(best < 16.0, "a card is drawn anew within {best:.1} ms (slowest {slowest:.1} ms)");
    others_move_and_what_is_read_stays(&browser).await;
    // By WebDriver's own scrolling it is not reached: what it scrolls past turns out to be higher or lower than taken to be.
    browser.run("document.querySelector('.segments button').focus()", &[]).await;
    browser.press_button(".segments", "Table").await;
    browser.inspect("crowd-table").await;
    browser.close().await;
}
