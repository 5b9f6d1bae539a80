//! `kubectl whatsapp dashboard`: signed in with the kubeconfig's own credentials, and no token in the browser.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    dashboard::{add, card, drawn, start_browser},
    gateway::world,
    plugin_messages::{ended, kubeconfig, plugin, text},
    support::{
        gateway::{ALL_VERBS, Rest, account, token_that_lasts, user},
        world::{SOON, World},
    },
};

/// The verb, running.
struct Serving {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The address that it prints.
    async fn address(&mut self) -> String {
        timeout(SOON, self.lines.next_line()).await.expect("it says its address").unwrap().expect("it says its address")
    }

    /// As Ctrl-C; what it complained of.
    async fn interrupt(self) -> String {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
        let output = timeout(SOON, self.child.wait_with_output()).await.expect("it ends").unwrap();
        text(&output, 0).1
    }
}

/// A program that notes which address it was given to open; where it notes it.
fn opener(world: &World) -> (PathBuf, PathBuf) {
    let (programs, opened) = (world.dir.join("programs"), world.dir.join("opened"));
    std::fs::create_dir_all(&programs).unwrap();
    let program = programs.join(if cfg!(target_os = "macos") { "open" } else { "xdg-open" });
    std::fs::write(&program, format!("#!/bin/sh\nprintf %s \"$1\" > {0}.new && mv {0}.new {0}\n", opened.display()))
        .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (programs, opened)
}

fn with_path(mut command: Command, first: &Path) -> Command {
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", first.display()));
    command
}

async fn once_written(file: &Path) -> String {
    let written = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(file) {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, written).await.expect("the browser is started")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_opens_the_dashboard_signed_in_once_and_no_token_is_in_the_browser() {
    let world = world("dashboard-plugin").await;
    let rest = Rest::start(&world, &[]).await;
    account(&world, "app", ALL_VERBS).await;
    // The first token ends soon; what is in the file by then takes its place.
    let first = token_that_lasts(&world, "app", 30).await;
    let later = token_that_lasts(&world, "app", 3600).await;
    let file = world.dir.join("app.token");
    std::fs::write(&file, &first).unwrap();
    let own = kubeconfig(&world, "dashboard", json!({ "tokenFile": file }));
    let (programs, opened) = opener(&world);
    let mut serving = Serving::start(with_path(plugin(&world, &own, &rest.url, &["dashboard"]), &programs));
    let address = serving.address().await;
    std::fs::write(&file, &later).unwrap();
    assert_eq!(once_written(&opened).await, address, "the browser gets the address that is printed");
    let (origin, code) = address.split_once("/enter/").unwrap();

    let browser = start_browser(&world.dir).await;
    browser.open(&address).await;
    browser.find(".summary").await;
    browser.until("it is live", "document.querySelector('.live.live')", &[]).await;
    assert_eq!(browser.run("return location.href", &[]).await, format!("{origin}/dashboard"));
    let kept = "return document.cookie + JSON.stringify([localStorage, sessionStorage, performance.getEntries(), document.referrer])\
        + document.documentElement.outerHTML + history.length";
    let kept = browser.run(kept, &[]).await.to_string();
    let cookies = browser.devtools("Network.getAllCookies", json!({})).await;
    let history = browser.devtools("Page.getNavigationHistory", json!({})).await;
    let all = format!("{kept}{cookies}{history}");
    assert!(!all.contains(&first) && !all.contains(&later), "the token is not in the browser");
    // The code, which is of no use any more, is remembered as what was typed, and never as where one was.
    let places: Vec<&Value> = history["entries"].as_array().unwrap().iter().map(|entry| &entry["url"]).collect();
    assert!(!format!("{kept}{cookies}{places:?}").contains(code), "the code is not in the browser: {places:?}");
    let cookie = &cookies["cookies"][0];
    assert_eq!(
        (cookies["cookies"].as_array().unwrap().len(), &cookie["httpOnly"], &cookie["sameSite"]),
        (1, &json!(true), &json!("Strict"))
    );

    // It does what the page does anywhere: by requests that change something, and by its stream.
    add(&browser, &world, "By the plugin").await;
    drawn(&browser).await;
    browser.escape().await;
    let made = card(&rest, &later, "By the plugin").await;
    browser.find(&made).await;
    // Longer than the first token lasts: the stream ends with it, and goes on with the next one.
    let me = "return fetch('/api/v1/me').then(answer => answer.json()).then(answer => answer.data)";
    let shown = browser.run(me, &[]).await;
    assert_eq!((&shown["user"], &shown["signed_in_by"]), (&json!(user(&world, "app")), &json!("header")));
    let before: jiff::Timestamp = shown["expires_at"].as_str().unwrap().parse().unwrap();
    let script = format!(
        "const done = arguments[arguments.length - 1]; const ask = () => fetch('/api/v1/me').then(answer => answer.json())\
        .then(({{data}}) => data && Date.parse(data.expires_at) > {} ? done(data.expires_at) : setTimeout(ask, 500)); ask()",
        before.as_millisecond() + 60_000
    );
    browser.run_async(&script).await;
    browser.until("it is live", "document.querySelector('.live.live')", &[]).await;
    assert_eq!(browser.run("return document.querySelectorAll('[name=token]').length", &[]).await, 0);

    // A second time the address opens nothing, in this browser as in any other.
    let page = browser.new_tab().await;
    browser.open(&address).await;
    assert!(browser.text("h1").await.contains("works once"));
    browser.nothing_serious("the address was used").await;
    browser.use_tab(page).await;
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for (path, host, status) in [
        (format!("/enter/{code}"), None, 410),
        ("/dashboard".to_owned(), None, 401),
        ("/api/v1/sessions/list/".to_owned(), None, 401),
        ("/dashboard".to_owned(), Some("evil.example"), 421),
    ] {
        let request = http.get(format!("{origin}{path}"));
        let request = if let Some(host) = host { request.header("host", host) } else { request };
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{path} {host:?}");
    }
    browser.close().await;
    let said = serving.interrupt().await;
    assert!(said.contains(&user(&world, "app")) && !said.contains(code) && !said.contains(&later), "{said}");
    rest.nothing_leaked(&world, &[code], &[&first, &later]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_opens_the_dashboard_for_a_service_account_or_says_what_is_missing() {
    let world = world("dashboard-plugin-account").await;
    let rest = Rest::start(&world, &[]).await;
    account(&world, "app", ALL_VERBS).await;
    let admin = world.kubeconfig.clone();
    let arguments = ["dashboard", "--no-open", "--as-service-account", "app"];
    let mut serving = Serving::start(plugin(&world, &admin, &rest.url, &arguments));
    let address = serving.address().await;
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let entered = http.get(&address).send().await.unwrap();
    assert_eq!((entered.status().as_u16(), &entered.headers()["location"]), (303, &"/dashboard".parse().unwrap()));
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let origin = address.split_once("/enter/").unwrap().0;
    let asked =
        |method: reqwest::Method, path: &str| http.request(method, format!("{origin}{path}")).header("cookie", &cookie);
    let me: Value = asked(reqwest::Method::GET, "/api/v1/me").send().await.unwrap().json().await.unwrap();
    assert_eq!(me["data"]["user"], user(&world, "app"));
    // Another page of this machine has the cookie, and may change nothing with it.
    let init = asked(reqwest::Method::POST, "/api/v1/sessions/init/").header("sec-fetch-site", "same-site");
    assert_eq!(init.send().await.unwrap().status().as_u16(), 403);

    // A taken port, and a token that the gateway does not take.
    let port = origin.rsplit(':').next().unwrap();
    let taken = ["dashboard", "--no-open", "--as-service-account", "app", "--port", port];
    let (_, err) = text(&ended(plugin(&world, &admin, &rest.url, &taken)).await, 2);
    assert!(err.contains(port) && err.contains("--port"), "{err}");
    serving.interrupt().await;
    let nobodys = kubeconfig(&world, "nobodys", json!({"token": "nobodys"}));
    let (_, err) = text(&ended(plugin(&world, &nobodys, &rest.url, &["dashboard", "--no-open"])).await, 1);
    assert!(err.contains("Unauthorized"), "{err}");
}
