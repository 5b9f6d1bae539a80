//! The OpenAPI document: what the routes say of themselves, and what is the same for all of them, refusals above all.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    code::{ALL, Code},
    server::described,
};

const ABOUT: &str = "Sessions of WhatsApp as applications use them. Every request carries a bearer token that the Kubernetes API \
    server accepts, and is made there as that user: Kubernetes says who may do what. Every path is answered with a slash at \
    its end and without. Every answer has the header X-Request-Id; a caller may name its request by the same header. \
    Refusals are a closed list of codes: docs/reference/errors.md.";

/// Refusals that any operation may meet.
const ANY: &[Code] = &[
    Code::BadRequest,
    Code::Unauthorized,
    Code::NotFound,
    Code::NotAllowed,
    Code::RateLimited,
    Code::Internal,
    Code::Unavailable,
    Code::NotInstalled,
    Code::Timeout,
];
/// Refusals of operations that read a body.
const BODY: &[Code] = &[Code::TooLarge, Code::UnsupportedMediaType];
/// Refusals of operations that write.
const WRITE: &[Code] = &[
    Code::CrossSite,
    Code::AnotherUser,
    Code::Refused,
    Code::Terminating,
    Code::Conflict,
    Code::Invalid,
    Code::AdmissionUnavailable,
    Code::LedgerUnavailable,
    Code::AccessUnknown,
];
/// Refusals that depend on names and owners.
const NAMES: &[Code] = &[
    Code::OwnerNotAllowed,
    Code::NameTaken,
    Code::ChangeUnderWay,
    Code::OwnerObjectForeign,
    Code::NameBlank,
    Code::NameUnprintable,
];

/// Refusals of operations that ask a bridge.
const BRIDGE: &[Code] = &[Code::MessageNotFound, Code::AccessUnknown, Code::BridgeUnavailable, Code::NotSupported];
/// Refusals of sending.
const SEND: &[Code] = &[
    Code::CrossSite,
    Code::AnotherUser,
    Code::Invalid,
    Code::NoPrimary,
    Code::NotPaired,
    Code::NoneReady,
    Code::SessionGone,
    Code::Terminating,
    Code::KeyReused,
    Code::KeysUnavailable,
    Code::QueueFull,
    Code::StorageFull,
];

fn codes(operation: &str) -> Vec<Code> {
    let own: &[&[Code]] = match operation {
        "init" => &[
            BODY,
            WRITE,
            NAMES,
            &[Code::LimitExceeded, Code::QuotaExceeded, Code::OwnerUnprintable, Code::OwnerMissing],
        ],
        "rename" => &[BODY, WRITE, NAMES],
        "set-primary" => &[BODY, WRITE, &[Code::NotConnected, Code::OwnerMissing]],
        "link" => &[BODY, WRITE, &[Code::AlreadyConnected, Code::NoCode]],
        "linking-code" => &[
            BODY,
            &[
                Code::Invalid,
                Code::LinkTaken,
                Code::LinkOver,
                Code::TooManyStreams,
                Code::BridgeUnavailable,
                Code::NotSupported,
            ],
        ],
        "refresh-qr" => &[BODY, WRITE, &[Code::AlreadyConnected]],
        "connect" | "disconnect" | "unlink" | "delete" | "revoke-link" => &[BODY, WRITE],
        "qr" => &[&[Code::NotAcceptable, Code::AlreadyConnected, Code::NoCode]],
        "events" => &[&[Code::TooManyStreams]],
        "send" => &[BODY, BRIDGE, SEND],
        "message" | "messages" => &[BRIDGE],
        "waiting" => &[&[Code::AccessUnknown]],
        "cancel" => &[BODY, BRIDGE, &[Code::TooLate, Code::StorageFull, Code::CrossSite, Code::AnotherUser]],
        // What is refused for one of many stands in its outcome.
        "bulk" => &[BODY, &[Code::CrossSite, Code::AnotherUser, Code::Invalid]],
        "sign-in" => &[BODY, &[Code::CrossSite, Code::Invalid]],
        "sign-out" => &[BODY, &[Code::CrossSite]],
        _ => &[],
    };
    [ANY].iter().chain(own).flat_map(|codes| codes.iter().copied()).collect()
}

/// The document as it is served and committed.
pub fn document() -> String {
    let mut document = serde_json::to_value(described()).unwrap_or_default();
    document["info"]["description"] = ABOUT.into();
    document["info"]["license"] = json!({"name": "Apache-2.0", "identifier": "Apache-2.0"});
    document["security"] = json!([{"bearer": []}, {"cookie": []}]);
    document["servers"] = json!([{"url": "/"}]);
    document["tags"] = json!([
        {"name": "sessions", "description": "Sessions of WhatsApp: begin, link, connect, choose, delete."},
        {"name": "messages", "description": "Send messages, and see what became of them."},
        {"name": "events", "description": "What becomes of them, as it happens."},
        {"name": "account", "description": "Who the caller is, what they may have, and how a browser signs in."},
    ]);
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "A token that the Kubernetes API server accepts: of a service account, or by OIDC.",
        },
        "cookie": {
            "type": "apiKey", "in": "cookie", "name": "__Host-whatsapp-operator",
            "description": "For browsers, by `sign-in`. On another port than TLS's own the name ends with `-` and the port; \
                without TLS it begins without `__Host-`. What changes something is taken with it from the gateway's own pages only.",
        },
    });
    let schemas = &mut document["components"]["schemas"];
    schemas["Failure"] = failure_schema();
    for sent in ["NewSession", "NewPairing", "Changes", "NewMessage", "SignIn", "NewLink", "Opened"] {
        without_null(&mut schemas[sent]);
    }
    // Of the items of a list the macros cannot say it.
    let sessions = &mut schemas["Bulk"]["properties"]["session_ids"];
    sessions["uniqueItems"] = true.into();
    sessions["items"] = json!({"type": "string", "minLength": 1, "maxLength": 253});
    let schemas = document["components"]["schemas"].clone();
    if let Some(paths) = document["paths"].as_object_mut() {
        for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
            complete(operation, &schemas);
        }
    }
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// Adds to one operation what all have in common.
fn complete(operation: &mut Value, schemas: &Value) {
    let request_id = json!({"description": "Names the request, in logs too.", "schema": {"type": "string"}});
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    // A body that need not be sent is left out, not null.
    if let Some(body) = operation.pointer_mut("/requestBody/content/application~1json/schema") {
        only_itself(body);
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        only_its_type(&mut parameter["schema"]);
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, response) in responses.iter_mut() {
        response["headers"]["X-Request-Id"] = request_id.clone();
        if let Some((name, header)) = own_header(&id, status) {
            response["headers"][name] = header;
        }
        if let Some(content) = response.pointer_mut("/content/application~1json") {
            content["example"] = example_of(&content["schema"], schemas);
        }
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes(&id) {
        by_status.entry(code.entry().status).or_default().push(code);
    }
    for (status, codes) in by_status {
        let words: Vec<&str> = codes.iter().map(|code| code.entry().word).collect();
        let examples: Map<String, Value> =
            codes.iter().map(|code| (code.entry().word.to_owned(), example(*code))).collect();
        let mut headers = json!({"X-Request-Id": request_id});
        if codes.iter().any(|code| code.entry().retryable) {
            headers["Retry-After"] = json!({"description": "Seconds to wait.", "schema": {"type": "integer"}});
        }
        responses.insert(
            status.to_string(),
            json!({"description": words.join(", "), "headers": headers, "content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Failure"}, "examples": examples,
            }}}),
        );
    }
}

/// The header that an answer of this operation has besides.
fn own_header(operation: &str, status: &str) -> Option<(&'static str, Value)> {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let header = match (operation, status) {
        ("init", "201") => ("Location", text("Where the session's status is told.")),
        ("send", "200" | "202") => (
            "Idempotent-Replayed",
            json!({
                "description": "There when the message was asked for before, with this Idempotency-Key.",
                "schema": {"type": "string", "enum": ["true"]},
            }),
        ),
        ("sign-in", "200") => ("Set-Cookie", text("Signs the browser in.")),
        ("sign-out", "200") => ("Set-Cookie", text("Signs the browser out.")),
        _ => return None,
    };
    Some(header)
}

/// An example of a schema, put together from those of its fields.
fn example_of(schema: &Value, schemas: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return example_of(&schemas[name], schemas);
    }
    if let Some(given) = schema.get("example") {
        return given.clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|words| words.first()) {
        return first.clone();
    }
    if let Some(properties) = schema["properties"].as_object() {
        return properties.iter().map(|(name, field)| (name.clone(), example_of(field, schemas))).collect();
    }
    match schema["type"].as_str() {
        Some("array") => json!([example_of(&schema["items"], schemas)]),
        Some("boolean") => json!(true),
        _ => Value::Null,
    }
}

/// A field that need not be sent is left out, not null.
fn without_null(schema: &mut Value) {
    let Some(properties) = schema["properties"].as_object_mut() else { return };
    for property in properties.values_mut() {
        only_its_type(property);
        only_itself(property);
    }
}

/// Without null as its alternative.
fn only_itself(schema: &mut Value) {
    if let Some(only) = schema["oneOf"].as_array().and_then(|all| all.first()).cloned() {
        *schema = only;
    }
}

/// Without null beside it.
fn only_its_type(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array() {
        schema["type"] = types.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
    }
}

fn example(code: Code) -> Value {
    let entry = code.entry();
    json!({"summary": entry.meaning, "value": {"success": false, "error": {
        "code": entry.word, "message": entry.meaning, "retryable": entry.retryable, "retryAfter": entry.retry_after,
        "requestId": "6b1f0c9d2e7a4f35",
    }}})
}

fn failure_schema() -> Value {
    let words: Vec<&str> = ALL.iter().map(|entry| entry.word).collect();
    json!({
        "type": "object", "required": ["success", "error"], "description": "A refusal.",
        "properties": {
            "success": {"type": "boolean", "const": false, "description": "Always false."},
            "error": {
                "type": "object", "required": ["code", "message", "retryable", "retryAfter", "requestId"],
                "properties": {
                    "code": {"type": "string", "enum": words, "description": "Which of the closed list."},
                    "message": {"type": "string", "description": "One sentence for people."},
                    "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
                    "retryAfter": {"type": ["integer", "null"], "minimum": 1, "description": "Seconds to wait, when that is known."},
                    "requestId": {"type": "string", "description": "Names the request, in logs too."},
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == document(), "docs/reference/openapi.json is out of date: run `make generate`");
    }

    #[test]
    fn every_operation_says_what_may_become_of_it_with_an_example() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut count = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                count += 1;
                let what = format!("{method} {path}");
                assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{what}");
                let responses = operation["responses"].as_object().unwrap();
                let json = responses.values().filter_map(|answer| answer.pointer("/content/application~1json"));
                for answer in json {
                    let shown = answer.get("examples").is_some() || answer["example"]["data"].is_object();
                    assert!(shown, "{what} has no example: {answer}");
                }
                for status in ["400", "401", "404", "429", "500", "503", "504"] {
                    assert!(responses.contains_key(status), "{what} {status}");
                }
                if operation.get("requestBody").is_some() {
                    assert!(operation["requestBody"]["content"]["application/json"]["example"].is_object(), "{what}");
                }
            }
        }
        assert_eq!(count, 25);
    }

    #[test]
    fn what_is_refused_is_not_allowed_by_the_document() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut namespaces = 0;
        for operation in
            document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values())
        {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert!(body.is_null() || body["$ref"].is_string(), "{body}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if ["namespace", "cursor", "Idempotency-Key"].contains(&parameter["name"].as_str().unwrap()) {
                    assert!(parameter["schema"]["pattern"].is_string(), "{parameter}");
                    namespaces += usize::from(parameter["name"] == "namespace");
                }
            }
        }
        assert!(namespaces > 10, "{namespaces}");
        let link = &document["paths"]["/api/v1/sessions/link/{id}/"]["post"]["requestBody"];
        assert!(
            link["required"] != true && link["content"]["application/json"]["schema"]["$ref"].is_string(),
            "{link}"
        );
        let sessions = &document["components"]["schemas"]["Bulk"]["properties"]["session_ids"];
        assert_eq!((&sessions["uniqueItems"], &sessions["items"]["maxLength"]), (&json!(true), &json!(253)));
    }

    #[test]
    fn the_headers_that_answers_are_given_are_in_the_document() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        for (path, method, status, header) in [
            ("/api/v1/sessions/init/", "post", "201", "Location"),
            ("/api/v1/messages/send/", "post", "200", "Idempotent-Replayed"),
            ("/api/v1/messages/send/", "post", "202", "Idempotent-Replayed"),
            ("/api/v1/sign-in", "post", "200", "Set-Cookie"),
            ("/api/v1/sign-out", "post", "200", "Set-Cookie"),
        ] {
            let answer = &document["paths"][path][method]["responses"][status];
            assert!(answer["headers"][header]["schema"].is_object(), "{path} {status} {header}: {answer}");
        }
    }

    #[test]
    fn whatever_a_bridges_disk_refuses_is_in_the_document() {
        for writes in ["send", "cancel"] {
            assert!(codes(writes).contains(&Code::StorageFull), "{writes}");
        }
    }
}
