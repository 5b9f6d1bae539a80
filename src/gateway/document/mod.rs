//! The OpenAPI document: what the routes say of themselves, and what is the same for all of them, refusals above all.

mod codes;
mod schemas;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::{
    codes::codes,
    schemas::{example, example_of, failure_schema, only_its_type, only_itself},
};
use super::{code::Code, server::described};

const ABOUT: &str = "Sessions of WhatsApp as applications use them. Every request carries a bearer token that the Kubernetes API \
    server accepts, and is made there as that user: Kubernetes says who may do what. Every path is answered with a slash at \
    its end and without. Every answer has the header X-Request-Id; a caller may name its request by the same header. \
    Refusals are a closed list of codes: docs/reference/errors.md.";

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
