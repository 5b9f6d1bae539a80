//! What callers send wrong, each with the field and the rule; nothing half done.

use serde_json::{Value, json};

use crate::support::{
    gateway::{ALL_VERBS, Answer, Rest, account, answered},
    world::{Wishes, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_wrong_is_refused_by_its_field_and_rule() {
    let world = World::start_with("gateway-bodies", Wishes { webhooks: true, ..Wishes::default() }).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let send = async |method: &str, path: &str, kind: Option<&str>, body: Vec<u8>| -> Answer {
        let mut request = rest.request(method, path).bearer_auth(&token).body(body);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        answered(request).await
    };
    let json_kind = Some("application/json");
    let init = "/api/v1/sessions/init/?wait=0";
    for (body, status, code, says) in [
        ("", 400, "BadRequest", "the body is missing"),
        ("{", 400, "BadRequest", "no valid JSON (line 1, column 1)"),
        ("[]", 400, "BadRequest", "must be a JSON object"),
        ("null", 400, "BadRequest", "must be a JSON object"),
        ("{}", 422, "Invalid", "field \"name\" is missing"),
        (r#"{"name":7}"#, 422, "Invalid", "field \"name\" must be a string"),
        (r#"{"name":null}"#, 422, "Invalid", "field \"name\" must be a string"),
        (r#"{"name":""}"#, 422, "Invalid", "1 to 100 characters"),
        (r#"{"name":" "}"#, 422, "NameBlank", "must not be blank"),
        (r#"{"name":"a\u001b[2J"}"#, 422, "NameUnprintable", "U+001B"),
        (r#"{"name":"A","name":"B"}"#, 400, "BadRequest", "field \"name\" is given twice"),
        (r#"{"name":"A","nmae":"B"}"#, 400, "BadRequest", "unknown field \"nmae\""),
        (r#"{"name":"A","owner":5}"#, 422, "Invalid", "field \"owner\" must be a string"),
        (r#"{"name":"A","owner":" x"}"#, 422, "OwnerUnprintable", "white space"),
        (r#"{"name":"A","namespace":"Not A Namespace"}"#, 422, "Invalid", "field \"namespace\""),
        (r#"{"name":"A","namespace":true}"#, 422, "Invalid", "field \"namespace\" must be a string"),
        (r#"{"name":"A","primary":"yes"}"#, 422, "Invalid", "field \"primary\" must be true or false"),
        (r#"{"name":"A","bridge":"A_B"}"#, 422, "Invalid", "field \"bridge\""),
        (r#"{"name":"A","pairing":"QR"}"#, 422, "Invalid", "field \"pairing\" must be a JSON object"),
        (r#"{"name":"A","pairing":{"method":"Fax"}}"#, 422, "Invalid", "must be QR or Code"),
        (r#"{"name":"A","pairing":{"method":"Code"}}"#, 422, "Invalid", "\"pairing.phone_number\" is missing"),
        (r#"{"name":"A","pairing":{"phone_number":"12"}}"#, 422, "Invalid", "international form"),
        (
            r#"{"name":"A","pairing":{"auto_refresh":1}}"#,
            422,
            "Invalid",
            "\"pairing.auto_refresh\" must be true or false",
        ),
        (r#"{"name":"A","pairing":{"metod":"QR"}}"#, 400, "BadRequest", "unknown field \"metod\""),
    ] {
        let answer = send("POST", init, json_kind, body.as_bytes().to_vec()).await;
        let said = answer.refused(status, code);
        assert!(said.contains(says), "{body}: {said}");
    }
    let long = json!({"name": "x".repeat(101)}).to_string();
    send("POST", init, json_kind, long.into()).await.refused(422, "Invalid");
    let huge = json!({"name": "x".repeat(1 << 20)}).to_string();
    send("POST", init, json_kind, huge.into()).await.refused(413, "TooLarge");
    let deep = format!("{{\"name\":{}", "[".repeat(60_000));
    send("POST", init, json_kind, deep.into()).await.refused(400, "BadRequest");
    send("POST", init, json_kind, b"{\"name\":\"\xff\"}".to_vec()).await.refused(400, "BadRequest");
    send("POST", init, json_kind, "{\"name\":\"A\"}".encode_utf16().flat_map(u16::to_le_bytes).collect())
        .await
        .refused(400, "BadRequest");
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        send("POST", init, kind, br#"{"name":"A"}"#.to_vec()).await.refused(415, "UnsupportedMediaType");
    }
    for query in ["?wait=61", "?wait=-1", "?wait=x", "?wait=1&wait=1", "?wiat=1", "?wait=%FF"] {
        let path = format!("/api/v1/sessions/init/{query}");
        send("POST", &path, json_kind, br#"{"name":"A"}"#.to_vec()).await.refused(400, "BadRequest");
    }
    let there = rest.get(&token, "/api/v1/sessions/list/?owner=*").await.data(200).clone();
    assert_eq!(there["total_count"], 0, "nothing of it was done: {there}");

    // Routes that say everything by their path.
    let made = json!({"name": "A", "bridge": world.name});
    let made = rest.call(&token, "POST", init, made).await.data(201).clone();
    let id = made["id"].as_str().unwrap();
    for verb in ["connect", "disconnect", "refresh-qr", "set-primary"] {
        let path = format!("/api/v1/sessions/{verb}/{id}/?wait=0");
        send("POST", &path, json_kind, br#"{"wait":1}"#.to_vec()).await.refused(400, "BadRequest");
        send("POST", &format!("{path}&wait=0"), None, Vec::new()).await.refused(400, "BadRequest");
    }
    let rename = format!("/api/v1/sessions/{id}/");
    send("PATCH", &rename, json_kind, Vec::new()).await.refused(400, "BadRequest");
    send("PATCH", &rename, json_kind, b"{}".to_vec()).await.refused(422, "Invalid");
    send("PATCH", &rename, json_kind, br#"{"name":"B","owner":"x"}"#.to_vec()).await.refused(400, "BadRequest");
    send("PATCH", &rename, json_kind, br#"{"name":"\u200b"}"#.to_vec()).await.refused(422, "NameBlank");
    for (path, code) in [
        ("/api/v1/sessions/status/%FF/", "BadRequest"),
        ("/api/v1/sessions/list/?owner=", "BadRequest"),
        ("/api/v1/sessions/list/?namespace=A_b", "BadRequest"),
        ("/api/v1/events?since=1", "BadRequest"),
    ] {
        rest.get(&token, path).await.refused(400, code);
    }
    for odd in ["%2F..%2F..%2Fsecrets", "..%2Fa", "a%00b", "A_B", &"x".repeat(300), "%E2%80%8B"] {
        rest.get(&token, &format!("/api/v1/sessions/status/{odd}/")).await.refused(404, "NotFound");
    }
    assert_eq!(
        rest.get(&token, &format!("/api/v1/sessions/status/{id}/")).await.data(200)["instance_name"],
        json!("A")
    );

    // A request's name is kept when it is harmless, and made up else.
    let id_of = async |given: &str| {
        let request = rest.request("GET", "/api/v1/sessions/list/").bearer_auth(&token).header("x-request-id", given);
        answered(request).await.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id_of("order-17").await, "order-17");
    assert_ne!(id_of("a b").await, "a b");
    assert_eq!(there["connected_count"], Value::from(0));
}
