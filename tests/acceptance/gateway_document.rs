//! Every operation of the OpenAPI document against somebody else's sessions: driven from the document, so that a new one
//! cannot be forgotten.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    gateway::world,
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, READ_VERBS, Rest, account, let_message, token_for, token_that_lasts, user},
        world::{SOON, World},
    },
};

const FRIEND: &str = "+15550205901";
const PHONE: &str = "+15550205001";
const TEXT: &str = "The vault opens at nine";

/// What is somebody else's.
struct Victim {
    owner: String,
    session: String,
    object: String,
    message: String,
    /// Words that no answer to others may hold.
    secrets: Vec<String>,
}

/// One request that an operation of the document describes.
#[derive(Debug)]
struct Operation {
    name: String,
    method: String,
    path: String,
    body: Value,
    streams: bool,
}

/// All operations, each aimed at the victim as well as its parameters allow.
fn operations(document: &Value, victim: &Victim) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            // Without a token, and about nobody's sessions: signing in and out. The tests of the dashboard do that.
            if operation["security"] == json!([{}]) {
                continue;
            }
            let mut path = path.clone();
            let mut query = Vec::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let (place, parameter) = (parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap());
                let of_messages = path.contains("/messages/");
                let value = match (place, parameter) {
                    ("path", "id") if of_messages => victim.message.clone(),
                    ("path", "id") => victim.session.clone(),
                    ("query", "owner") => victim.owner.clone(),
                    ("query", "session_id") => victim.session.clone(),
                    ("query", "wait") => "0".to_owned(),
                    ("query", "namespace" | "limit" | "cursor" | "messages" | "lastEventId") | ("header", _) => {
                        continue;
                    }
                    (place, name) => panic!("say what {place} parameter {name} of {method} {path} is to be here"),
                };
                if place == "path" {
                    path = path.replace(&format!("{{{parameter}}}"), &value);
                } else {
                    query.push(format!("{parameter}={value}"));
                }
            }
            assert!(!path.contains('{'), "{path}");
            if !query.is_empty() {
                path = format!("{path}?{}", query.join("&"));
            }
            let mut body =
                operation.pointer("/requestBody/content/application~1json/example").cloned().unwrap_or_default();
            match name.as_str() {
                "send" => body["session_id"] = victim.session.clone().into(),
                "init" => body["owner"] = victim.owner.clone().into(),
                "bulk" => body["session_ids"] = json!([victim.session]),
                _ => {}
            }
            let streams = operation["responses"]["200"]["content"].get("text/event-stream").is_some();
            found.push(Operation { name, method: method.to_uppercase(), path, body, streams });
        }
    }
    found
}

/// What a caller hears: status, code and everything that is said, of a stream up to `ready` and a moment more.
async fn heard(rest: &Rest, token: Option<&str>, operation: &Operation) -> (u16, String, String) {
    let mut request = rest.request(&operation.method, &operation.path);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if !operation.body.is_null() {
        request = request.json(&operation.body);
    }
    let mut response = request.send().await.unwrap();
    let (status, mut text) = (response.status().as_u16(), format!("{:?}", response.headers()));
    let reading = async {
        while let Some(part) = response.chunk().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&part));
            if operation.streams && text.contains("event: ready") {
                return;
            }
        }
    };
    timeout(SOON, reading).await.unwrap_or_else(|_| panic!("{} says nothing", operation.name));
    let code = text.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
    (status, code, text)
}

/// Whether the answer is the one about what is not there; in a bulk request each session has its own, and of what waits there is an
/// empty list.
fn is_nothing(operation: &Operation, status: u16, code: &str) -> bool {
    match operation.name.as_str() {
        "bulk" => (status, code) == (200, "NotFound"),
        "waiting" => (status, code) == (200, ""),
        _ => status == 404 || code == "OwnerNotAllowed",
    }
}

async fn victim(world: &World, rest: &Rest) -> (Victim, String) {
    let token = account(world, "victim", ALL_VERBS).await;
    let session = connected(world, rest, &token, "Vault", PHONE).await;
    until_primary(rest, &token, &session).await;
    let body = json!({"recipient": FRIEND, "message": TEXT});
    let sent = send(rest, &token, "/api/v1/messages/send/?wait=30", &body, None).await.data(200).clone();
    let object = rest.get(&token, &format!("/api/v1/sessions/status/{session}/")).await.data(200)["object"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let digits = |number: &str| number.trim_start_matches('+').to_owned();
    let victim = Victim {
        owner: user(world, "victim"),
        object: text(&object),
        message: text(&sent["id"]),
        secrets: vec![digits(PHONE), digits(FRIEND), TEXT.to_owned(), "Vault".to_owned(), text(&sent["whatsapp_id"])],
        session,
    };
    (victim, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_at_anothers_sessions_by_any_operation_there_is() {
    let world = world("gateway-document").await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let (victim, owner) = victim(&world, &rest).await;
    let document = rest.get(&owner, "/api/v1/openapi.json").await.body;
    let operations = operations(&document, &victim);
    assert!(operations.len() >= 15, "{operations:?}");

    // Whom the API server does not know gets nowhere, whatever is asked.
    let (expired, for_others) =
        (token_that_lasts(&world, "victim", -5).await, token_for(&world, "victim", "else").await);
    let cut = &owner[..owner.len() - 2];
    for operation in &operations {
        for token in
            [None, Some(""), Some("garbage"), Some("e30.e30.e30"), Some(cut), Some(&expired), Some(&for_others)]
        {
            let (status, code, text) = heard(&rest, token, operation).await;
            assert_eq!((status, code.as_str()), (401, "Unauthorized"), "{operation:?}");
            silent(&victim, operation, &text);
        }
    }

    // Of themselves everybody may know.
    let operations: Vec<Operation> = operations.into_iter().filter(|operation| operation.name != "me").collect();

    // Whom it knows: without any right, with every right elsewhere, with a right that is not enough.
    let nobody = account(&world, "nobody", &[]).await;
    let creator = account(&world, "creator", &["create"]).await;
    for token in [&nobody, &creator] {
        for operation in &operations {
            let (status, code, text) = heard(&rest, Some(token), operation).await;
            let refused = match operation.name.as_str() {
                // Beginning one is allowed, for oneself; for another owner it takes a verb more.
                "init" => code == "OwnerNotAllowed" || (code == "NotAllowed" && token == &nobody),
                _ => is_nothing(operation, status, &code),
            };
            assert!(refused, "{status} {code} {operation:?}");
            silent(&victim, operation, &text);
        }
    }

    // A viewer sees sessions, as kubectl shows them, and can neither change one nor read or send a message.
    let viewer = account(&world, "viewer", READ_VERBS).await;
    for operation in &operations {
        let (status, code, text) = heard(&rest, Some(&viewer), operation).await;
        match operation.name.as_str() {
            "list" | "status" | "events" => assert_eq!(status, 200, "{code} {operation:?}"),
            // Nothing that this one may read.
            "waiting" => assert!(status == 200 && text.contains(r#"{"sessions":[]}"#), "{text}"),
            // Connected: there is no code.
            "qr" => assert_eq!((status, code.as_str()), (409, "AlreadyConnected")),
            _ => {
                assert!(
                    matches!(
                        code.as_str(),
                        "NotAllowed" | "OwnerNotAllowed" | "NotFound" | "MessageNotFound" | "AlreadyConnected"
                    ),
                    "{status} {code} {operation:?}"
                );
                silent(&victim, operation, &text);
            }
        }
        for secret in [TEXT, FRIEND.trim_start_matches('+')] {
            assert!(!text.contains(secret), "{operation:?}");
        }
    }

    // The right to read is not the right to send or call back, nor the other way round.
    let (reader, sender) = (account(&world, "reader", &[]).await, account(&world, "sender", &[]).await);
    let_message(&world, "reader", "get").await;
    let_message(&world, "sender", "create").await;
    let of = |name: &str| operations.iter().find(|operation| operation.name == name).unwrap();
    let known = async {
        while heard(&rest, Some(&reader), of("message")).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(SOON, known).await.expect("the reader may read");
    for operation in &operations {
        let (status, code, text) = heard(&rest, Some(&reader), operation).await;
        if !matches!(operation.name.as_str(), "message" | "messages" | "waiting") {
            assert!(is_nothing(operation, status, &code), "{status} {code} {operation:?}");
            silent(&victim, operation, &text);
        }
    }
    for operation in operations.iter().filter(|operation| !matches!(operation.name.as_str(), "send" | "cancel")) {
        let (status, code, text) = heard(&rest, Some(&sender), operation).await;
        assert!(is_nothing(operation, status, &code), "{status} {code} {operation:?}");
        silent(&victim, operation, &text);
    }

    // Nothing of it did anything.
    let now = rest.get(&owner, &format!("/api/v1/sessions/status/{}/", victim.session)).await.data(200).clone();
    assert_eq!(
        (&now["instance_name"], &now["phase"], &now["object"]),
        (&json!("Vault"), &json!("Connected"), &json!(victim.object))
    );
    let list = rest.get(&owner, "/api/v1/sessions/list/?owner=*").await.data(200).clone();
    assert_eq!(list["total_count"], 1, "{list}");
    let inbox: Vec<String> = world.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.text).collect();
    assert_eq!(inbox, [TEXT]);
    let tokens = [owner.as_str(), &nobody, &creator, &viewer, &reader, &sender, &expired, &for_others];
    rest.nothing_leaked(&world, &[PHONE, FRIEND, TEXT], &tokens).await;
    world.nothing_leaked(&[PHONE, FRIEND, TEXT]).await;
}

/// Nothing of the victim's stands in what somebody else heard.
fn silent(victim: &Victim, operation: &Operation, text: &str) {
    // The request does not name it.
    assert!(operation.name != "waiting" || !text.contains(&victim.session), "{operation:?}: {text}");
    for secret in &victim.secrets {
        assert!(!text.contains(secret.as_str()), "{operation:?} tells others {secret:?}: {text}");
    }
}
