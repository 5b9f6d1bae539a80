//! What a browser has to load before anything of the dashboard is seen.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use browser::Browser;

use crate::{
    dashboard::{sign_in, start_browser},
    gateway::world,
    support::{
        gateway::{ALL_VERBS, Rest, account},
        world::host,
    },
};

/// The promise, in bytes.
const LIMIT: u64 = 40_000;

/// Nothing is told of the instances: the stream of events is asked for, and never answered.
const NOTHING_TOLD: &str = "const really = window.fetch;\
    window.fetch = (to, how) => String(to).startsWith('/api/v1/events') ? new Promise(() => {}) : really(to, how)";

/// What had come when the page was first seen, as the browser counts it, and the paths.
const LOADED: &str = "const [paint] = performance.getEntriesByName('first-contentful-paint');\
    const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];\
    const before = all.filter(one => one.responseStart <= paint.startTime);\
    const sent = before.filter(one => one.transferSize > 0);\
    return {bytes: sent.reduce((sum, one) => sum + one.transferSize, 0), paths: sent.map(one => new URL(one.name).pathname),\
        kept: before.map(one => one.name).filter(name => !sent.some(one => one.name === name))}";

/// Bytes of an answer on the wire: everything from its first line to its last.
async fn on_the_wire(rest: &Rest, token: &str, path: &str) -> u64 {
    let mut connection = TcpStream::connect(host(&rest.url)).await.unwrap();
    let whose = if path.starts_with("/api/") { format!("Authorization: Bearer {token}\r\n") } else { String::new() };
    let asked = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\n{whose}Accept-Encoding: gzip, deflate\r\nConnection: close\r\n\r\n",
        host(&rest.url)
    );
    connection.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{path}: {}",
        String::from_utf8_lossy(&answer[..answer.len().min(200)])
    );
    // What little a file says of itself is what browsers go by; a page has its policy besides.
    let head = String::from_utf8_lossy(&answer).split("\r\n\r\n").next().unwrap().to_lowercase();
    let all = ["x-content-type-options: nosniff", "cross-origin-resource-policy: same-origin"];
    let of_pages =
        ["content-security-policy: default-src 'self'", "referrer-policy: no-referrer", "x-frame-options: deny"];
    for header in all.iter().chain(of_pages.iter().filter(|_| path == "/dashboard")) {
        assert!(head.contains(header), "{path} lacks {header}: {head}");
    }
    answer.len().try_into().unwrap()
}

/// All that came before the page was seen is little, as the browser counts it and as it is sent.
async fn is_small(browser: &Browser, rest: &Rest, token: &str, what: &str) {
    browser.until("it was painted", "performance.getEntriesByName('first-contentful-paint').length", &[]).await;
    let loaded = browser.run(LOADED, &[]).await;
    assert_eq!(loaded["kept"], json!([]), "{what}: some of it was in the cache");
    let mut paths: Vec<&str> = loaded["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    // It may come a moment later, and is sent all the same.
    let icon = browser.run("return new URL(document.querySelector('link[rel=icon]').href).pathname", &[]).await;
    let icon = icon.as_str().unwrap();
    if !paths.contains(&icon) {
        paths.push(icon);
    }
    let mut sent = 0;
    for path in &paths {
        sent += on_the_wire(rest, token, path).await;
    }
    let counted = &loaded["bytes"];
    println!("{what}: {counted} B as the browser counts, {sent} B as HTTP/1.1 sends, {} files", paths.len());
    let all_there = ["/dashboard", "/style.css", "/vendor/preact.js", "/start.js", "/page/home.js", "/api/v1/me"];
    for part in all_there {
        assert!(paths.iter().any(|path| path.ends_with(part)), "{what}: {part} is not counted: {paths:?}");
    }
    assert!(loaded["bytes"].as_u64().unwrap() < LIMIT, "{what}: {loaded}");
    assert!(sent < LIMIT, "{what}: {sent} B are sent: {paths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_paint_takes_less_than_40_kilobytes() {
    let world = world("dashboard-paint").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let browser = start_browser(&world.dir).await;
    let anew = async || {
        browser.open(&format!("{}/dashboard", rest.url)).await;
    };
    // Every visit is a first one.
    browser.devtools("Network.enable", json!({})).await;
    browser.devtools("Network.setCacheDisabled", json!({"cacheDisabled": true})).await;
    anew().await;
    for language in ["en", "de"] {
        browser.run("localStorage.setItem('dashboard.language', arguments[0])", &[language.into()]).await;
        anew().await;
        browser.find("[name=token]").await;
        is_small(&browser, &rest, &token, &format!("the form to sign in, {language}")).await;
    }
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let told = json!({"source": NOTHING_TOLD});
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", told).await;
    for language in ["en", "de"] {
        browser.run("localStorage.setItem('dashboard.language', arguments[0])", &[language.into()]).await;
        anew().await;
        // The outlines of what is coming are seen until it has come.
        browser.find(".summary").await;
        browser.find(".card.skeleton").await;
        is_small(&browser, &rest, &token, &format!("the instances, {language}")).await;
        browser.inspect(if language == "en" { "loading" } else { "loading-german" }).await;
    }
    browser.close().await;
}
