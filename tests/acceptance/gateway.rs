//! The life of sessions through the REST API, against everything real behind it.

use std::process::Command;

use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use crate::support::{
    gateway::{ALL_VERBS, Answer, Rest, account, until, user},
    world::{SOON, Wishes, World},
};

pub async fn world(name: &str) -> World {
    World::start_with(name, Wishes { webhooks: true, ..Wishes::default() }).await
}

/// A body for `init` that runs on this world's bridge.
pub fn named(world: &World, name: &str) -> Value {
    json!({"name": name, "bridge": world.name})
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// The phone scans the code that the REST API shows; the object is then connected.
async fn scan(world: &World, shown: &Value, phone: &str) {
    world.whatsapp.scan(text(shown, "qr_code"), phone, "Alice").await.unwrap();
    world.history.until_phase(text(shown, "object"), Phase::Connected, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lives_from_init_to_delete() {
    let world = world("gateway-life").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let phones = ["+15550200001", "+15550200002"];

    let answer = rest.call(&token, "POST", "/api/v1/sessions/init/?wait=30", named(&world, "Business Account")).await;
    let first = answer.data(201).clone();
    let id = text(&first, "id");
    assert_eq!(answer.headers["location"], format!("/api/v1/sessions/status/{id}/"));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!((text(&first, "status"), text(&first, "phase")), ("qr_pending", "AwaitingPairing"));
    assert_eq!(
        (text(&first, "instance_name"), text(&first, "user")),
        ("Business Account", user(&world, "app").as_str())
    );
    assert!(text(&first, "object").starts_with("business-account-") && text(&first, "session_id") == id);
    assert_eq!(first["actions"], json!(["qr", "refresh-qr", "disconnect", "rename", "delete"]));

    // The code as data, as a drawing and as pixels.
    let of = |verb: &str| format!("/api/v1/sessions/{verb}/{id}/");
    let qr = rest.get(&token, &of("qr")).await;
    assert_eq!((&qr.data(200)["qr_code"], &qr.data(200)["qr_attempt"]), (&first["qr_code"], &json!(1)));
    let picture = async |accept: &str| {
        let request = rest.request("GET", &of("qr")).bearer_auth(&token).header("accept", accept);
        crate::support::gateway::answered(request).await
    };
    assert!(picture("image/svg+xml").await.bytes.starts_with(b"<?xml"));
    assert!(picture("image/png").await.bytes.starts_with(b"\x89PNG"));
    picture("text/html").await.refused(406, "NotAcceptable");

    // A new window has another code.
    let refreshed = rest.post(&token, &format!("{}?wait=30", of("refresh-qr"))).await.data(200).clone();
    assert!(refreshed["qr_code"].is_string() && refreshed["qr_code"] != first["qr_code"]);
    rest.post(&token, &of("set-primary")).await.refused(422, "NotConnected");
    // Connecting needs a scan first, which the answer says at once.
    assert_eq!(text(rest.post(&token, &of("connect")).await.data(202), "status"), "qr_pending");

    scan(&world, &refreshed, phones[0]).await;
    let status = rest.get(&token, &of("status")).await.data(200).clone();
    assert_eq!((text(&status, "status"), text(&status, "phone_number")), ("connected", phones[0]));
    assert!(status["connected_at"].is_string() && status["qr_code"].is_null() && status["qr_expires_at"].is_null());
    rest.get(&token, &of("qr")).await.refused(409, "AlreadyConnected");
    rest.post(&token, &of("refresh-qr")).await.refused(409, "AlreadyConnected");

    // A second one, and the primary moves to it and back.
    let second =
        rest.call(&token, "POST", "/api/v1/sessions/init?wait=30", named(&world, "Personal")).await.data(201).clone();
    scan(&world, &second, phones[1]).await;
    let other = text(&second, "id");
    let primary = rest.post(&token, &format!("/api/v1/sessions/set-primary/{other}/?wait=30")).await.data(200).clone();
    assert_eq!(primary["is_primary"], true);
    // The owner has one primary at any time; what an instance says of it follows, each in a write of its own.
    let list = async || rest.get(&token, "/api/v1/sessions/list/").await.data(200).clone();
    let moved = async || {
        let list = list().await;
        let sessions = list["sessions"].as_array().unwrap().iter();
        let shown: Vec<_> = sessions.map(|one| (text(one, "instance_name"), &one["is_primary"])).collect();
        shown == [("Business Account", &json!(false)), ("Personal", &json!(true))]
    };
    until("has the primary moved", moved).await;
    let list = list().await;
    assert_eq!((&list["total_count"], &list["connected_count"]), (&json!(2), &json!(2)));
    assert!(list["sessions"][0].get("qr_code").is_none(), "a list holds no codes");
    assert_eq!(rest.post(&token, &format!("{}?wait=30", of("set-primary"))).await.data(200)["is_primary"], true);

    // Offline and online again, without a scan.
    assert_eq!(
        text(rest.post(&token, &format!("{}?wait=30", of("disconnect"))).await.data(200), "status"),
        "disconnected"
    );
    assert_eq!(
        text(rest.post(&token, &format!("{}?wait=30", of("disconnect"))).await.data(200), "phase"),
        "Disconnected"
    );
    assert_eq!(text(rest.post(&token, &format!("{}?wait=30", of("connect"))).await.data(200), "status"), "connected");

    // By its object's name, and another display name.
    let object = text(&first, "object");
    assert_eq!(text(rest.get(&token, &format!("/api/v1/sessions/status/{object}/")).await.data(200), "id"), id);
    let renamed = rest.call(&token, "PATCH", &format!("/api/v1/sessions/{id}/"), json!({"name": "Support"})).await;
    assert_eq!(text(renamed.data(200), "instance_name"), "Support");

    for gone in [id, other] {
        let deleted =
            rest.call(&token, "DELETE", &format!("/api/v1/sessions/delete/{gone}/?wait=60"), Value::Null).await;
        assert_eq!(deleted.data(200), &json!({"id": gone, "deleted": true}));
        rest.get(&token, &format!("/api/v1/sessions/status/{gone}/")).await.refused(404, "NotFound");
    }
    assert!(world.whatsapp.devices().await.is_empty(), "the devices are unlinked");
    let log = rest.program.log();
    assert!(
        log.contains(&user(&world, "app")) && log.contains(&format!("{}/{object}", world.name)),
        "who did what to which"
    );
    rest.nothing_leaked(&world, &phones, &[&token]).await;
    world.nothing_leaked(&phones).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_say_the_same_as_to_kubectl() {
    let world = world("gateway-rules").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let init = async |name: &str| rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, name)).await;
    let mut ids = Vec::new();
    for n in 1..=10 {
        ids.push(text(init(&format!("Line {n}")).await.data(201), "id").to_owned());
    }
    let said = init("Line 11").await;
    let said = said.refused(403, "LimitExceeded");
    assert!(said.starts_with("maximum instances reached") && said.contains("has 10 of 10 instances"), "{said}");
    let delete = format!("/api/v1/sessions/delete/{}/?wait=60", ids[9]);
    rest.call(&token, "DELETE", &delete, Value::Null).await.data(200);
    let taken = init(" LINE 1 ").await;
    assert!(taken.refused(409, "NameTaken").starts_with("instance name already exists"));
    let rename = rest.call(&token, "PATCH", &format!("/api/v1/sessions/{}/", ids[1]), json!({"name": "line 1"})).await;
    rename.refused(409, "NameTaken");
    init("\u{200b}").await.refused(422, "NameBlank");
    let foreign = json!({"name": "Theirs", "owner": "bob@example.com", "bridge": world.name});
    rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", foreign.clone()).await.refused(403, "OwnerNotAllowed");
    // Who may act for others does.
    let platform = account(&world, "platform", &["assign-owner", "get", "list", "watch", "create"]).await;
    let made = rest.call(&platform, "POST", "/api/v1/sessions/init/?wait=0", foreign).await.data(201).clone();
    assert_eq!(text(&made, "user"), "bob@example.com");
    let count = async |query: &str| {
        rest.get(&platform, &format!("/api/v1/sessions/list/{query}")).await.data(200)["total_count"].clone()
    };
    assert_eq!(
        (count("").await, count("?owner=bob@example.com").await, count("?owner=*").await),
        (json!(0), json!(1), json!(10))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_every_path_are_one_and_what_is_not_there_says_so() {
    let world = World::start("gateway-paths").await;
    let rest = Rest::start(&world, &["--cors-origins", "https://shop.example"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    world.apply("one", json!({"owner": user(&world, "app"), "desiredState": "Disconnected"})).await;
    world.history.until_phase("one", Phase::Disconnected, SOON).await;
    // After that nothing changes by itself any more.
    world.history.until("one", "primary", SOON, |i| i.status.as_ref().is_some_and(|status| status.primary)).await;
    for path in ["list", "status/one", "list/?owner=*", "status/one/?namespace=gateway-paths"] {
        let (path, query) =
            path.split_once('?').map_or((path, String::new()), |(path, query)| (path, format!("?{query}")));
        let path = path.trim_end_matches('/');
        let slashed = rest.get(&token, &format!("/api/v1/sessions/{path}/{query}")).await;
        assert_eq!(rest.get(&token, &format!("/api/v1/sessions/{path}{query}")).await.data(200), slashed.data(200));
    }
    for verb in ["connect", "disconnect", "refresh-qr"] {
        for end in ["", "/"] {
            let answer = rest.post(&token, &format!("/api/v1/sessions/{verb}/one{end}?wait=0")).await;
            answer.data(202);
        }
    }
    for end in ["", "/"] {
        rest.post(&token, &format!("/api/v1/sessions/set-primary/one{end}")).await.refused(422, "NotConnected");
        rest.call(&token, "PATCH", &format!("/api/v1/sessions/one{end}"), json!({"name": "One"})).await.data(200);
        rest.call(&token, "DELETE", &format!("/api/v1/sessions/delete/none{end}"), Value::Null)
            .await
            .refused(404, "NotFound");
        rest.get(&token, &format!("/api/v1/nothing{end}")).await.refused(404, "NoSuchRoute");
        rest.get("", &format!("/api/v1/docs{end}")).await;
        assert_eq!(rest.get("", &format!("/api/v1/openapi.json{end}")).await.body["openapi"], "3.1.0");
    }
    let wrong = rest.get(&token, "/api/v1/sessions/init/").await;
    wrong.refused(405, "MethodNotAllowed");
    assert_eq!(wrong.headers["allow"], "POST");

    // Security headers, and CORS for whom it is configured.
    let page = rest.get("", "/api/v1/docs").await;
    assert!(
        page.status == 200 && page.headers["content-security-policy"].to_str().unwrap().contains("script-src 'self'")
    );
    assert_eq!(
        (&page.headers["x-content-type-options"], &page.headers["x-frame-options"]),
        (&"nosniff".parse().unwrap(), &"DENY".parse().unwrap())
    );
    let from = async |origin: &str| {
        let preflight = rest
            .request("OPTIONS", "/api/v1/sessions/list/")
            .header("origin", origin)
            .header("access-control-request-method", "GET");
        let answer: Answer = crate::support::gateway::answered(preflight).await;
        (
            answer.status,
            answer.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned()),
        )
    };
    assert_eq!(from("https://shop.example").await, (204, Some("https://shop.example".to_owned())));
    assert_eq!(from("https://evil.example").await, (405, None));
    // And for nobody where it is not.
    let plain = Rest::beside(&world, "gateway-2", &[]).await;
    for method in ["OPTIONS", "GET"] {
        let asked = plain.request(method, "/api/v1/sessions/list/").bearer_auth(&token);
        let asked = asked.header("origin", "https://shop.example").header("access-control-request-method", "GET");
        let answer = crate::support::gateway::answered(asked).await;
        let told = answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
        assert_eq!(told.count(), 0, "{method} {:?}", answer.headers);
    }
}

/// The n-th block of commands in the README.
fn readme(n: usize) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    readme.split("```bash\n").nth(n).expect("the README has a quick start").split("```").next().unwrap().to_owned()
}

/// Runs commands as a person does; what they print.
fn run(dir: &std::path::Path, rest: &Rest, token: &str, block: &str) -> String {
    let script = format!("set -euo pipefail\n{block}");
    let environment = [("GATEWAY", rest.url.as_str()), ("TOKEN", token)];
    let run = Command::new("bash").arg("-c").arg(script).current_dir(dir).envs(environment).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    said
}

/// The commands of the README's quick starts, word for word, with curl.
#[tokio::test(flavor = "multi_thread")]
async fn the_quick_start_works_as_written() {
    let world = world("gateway-quick-start").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    // Its sessions run on the cluster's default bridge; on a cluster shared with other tests, that is named by patching the text.
    let block = readme(1);
    assert!(block.contains(r#"{"name": "Business Account"}"#), "{block}");
    let block = block.replace(r#"{"name": "Business Account"}"#, &named(&world, "Business Account").to_string());
    let out = world.dir.join("quick-start");
    std::fs::create_dir_all(&out).unwrap();
    let said = run(&out, &rest, &token, &block);
    assert!(said.contains("\"success\":true") && said.contains("\"total_count\":1"), "{said}");
    assert!(std::fs::read(out.join("qr.png")).unwrap().starts_with(b"\x89PNG"));

    let list = rest.get(&token, "/api/v1/sessions/list/").await.data(200).clone();
    let id = text(&list["sessions"][0], "id").to_owned();
    let shown = rest.get(&token, &format!("/api/v1/sessions/status/{id}/")).await.data(200).clone();
    scan(&world, &shown, "+15550200091").await;
    crate::gateway_messages::until_primary(&rest, &token, &id).await;
    let said = run(&out, &rest, &token, &readme(2));
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&said).into_iter().map(Result::unwrap).collect();
    assert!(answers.len() == 2 && answers[0]["data"]["sent_at"].is_string(), "{said}");
    assert_eq!(answers[0]["data"]["id"], answers[1]["data"]["id"]);
    assert!(run(&out, &rest, &token, &readme(2)).contains(text(&answers[0]["data"], "id")), "the same message");
    assert_eq!(world.whatsapp.inbox("+15551234567").await.len(), 1);
}
