//! What callers send wrong, each with the field and the rule; nothing half done. And what is not wrong, only unusual.

use serde_json::{Value, json};

use crate::{
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, Answer, Rest, account, answered, until},
        world::{Wishes, World},
    },
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
        (r#"{"name":null}"#, 422, "Invalid", "field \"name\" must not be null"),
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
        ("/api/v1/sessions/list/?owner=%FF", "BadRequest"),
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

/// The longest text that a message may have.
const LONGEST: usize = 65_536;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_asked_for_wrongly_is_refused_by_its_field_and_rule() {
    let (friend, phone) = ("+15550208993", "+15550208031");
    let world = World::start_with("gateway-message-bodies", Wishes { webhooks: true, ..Wishes::default() }).await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &id).await;
    let send = "/api/v1/messages/send/";
    let good = json!({"recipient": friend, "message": "Hi"});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    let international = "international form";
    let seconds = "field \"expires_in\" must be a whole number from 1 to 2592000";
    for (body, status, code, says) in [
        (String::new(), 400, "BadRequest", "the body is missing"),
        ("{".to_owned(), 400, "BadRequest", "no valid JSON (line 1, column 1)"),
        ("[]".to_owned(), 400, "BadRequest", "must be a JSON object"),
        ("null".to_owned(), 400, "BadRequest", "must be a JSON object"),
        (json!({"message": "Hi"}).to_string(), 422, "Invalid", "field \"recipient\" is missing"),
        (json!({"recipient": friend}).to_string(), 422, "Invalid", "field \"message\" is missing"),
        (with("recipient", json!(15_550_208_993_u64)), 422, "Invalid", "field \"recipient\" must be a string"),
        (with("recipient", Value::Null), 422, "Invalid", "field \"recipient\" must not be null"),
        (with("recipient", json!("")), 422, "Invalid", "field \"recipient\" must be 1 to 64 characters long"),
        (with("recipient", json!("1".repeat(65))), 422, "Invalid", "field \"recipient\" must be 1 to 64 characters"),
        (with("recipient", json!("anna")), 422, "Invalid", international),
        (with("recipient", json!("1555@example.com")), 422, "Invalid", international),
        (with("recipient", json!("0170 1234567")), 422, "Invalid", "begin with the country code, not with 0"),
        (with("recipient", json!("+155512")), 422, "Invalid", "7 to 15 digits"),
        (with("recipient", json!("+49 (0)170 1234567")), 422, "Invalid", "leave out the (0)"),
        (with("recipient", json!("123-456@g.us")), 422, "Invalid", "to people only"),
        (with("message", json!(5)), 422, "Invalid", "field \"message\" must be a string"),
        (with("message", json!("")), 422, "Invalid", "field \"message\" must be 1 to 65536 characters long"),
        (with("message", json!("x".repeat(LONGEST + 1))), 422, "Invalid", "1 to 65536 characters long"),
        (with("message", json!(" \n\t")), 422, "Invalid", "field \"message\" must not be blank"),
        (with("message", json!("a\0b")), 422, "Invalid", "field \"message\" must not hold the character U+0000"),
        (with("session_id", json!(7)), 422, "Invalid", "field \"session_id\" must be a string"),
        (with("session_id", json!("")), 422, "Invalid", "field \"session_id\" must be 1 to 253 characters long"),
        (with("session_id", json!("nowhere")), 404, "NotFound", "there is no such session"),
        (with("routing", json!(1)), 422, "Invalid", "field \"routing\" must be a string"),
        (with("routing", json!("fast")), 422, "Invalid", "field \"routing\" must be primary or balanced"),
        (with("expires_in", json!(0)), 422, "Invalid", seconds),
        (with("expires_in", json!(2_592_001)), 422, "Invalid", seconds),
        (with("expires_in", json!(-1)), 422, "Invalid", seconds),
        (with("expires_in", json!(1.5)), 422, "Invalid", seconds),
        (with("expires_in", json!("60")), 422, "Invalid", seconds),
        (with("recipent", json!("x")), 400, "BadRequest", "unknown field \"recipent\""),
        (
            good.to_string().replace("\"message\"", "\"message\":\"A\",\"message\""),
            400,
            "BadRequest",
            "field \"message\" is given twice",
        ),
    ] {
        let request = rest.request("POST", send).bearer_auth(&token).header("content-type", "application/json");
        let answer = answered(request.body(body)).await;
        let said = answer.refused(status, code);
        assert!(said.contains(says), "{says}: {said}");
        assert!(!said.contains("208993") && !said.contains("Hi"), "it quotes nothing: {said}");
    }

    // The body as a whole, and what surrounds it.
    let post = async |path: &str, headers: &[(&str, &[u8])], body: Vec<u8>| -> Answer {
        let mut request = rest.request("POST", path).bearer_auth(&token).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answered(request).await
    };
    let kind = ("content-type", "application/json".as_bytes());
    let body = good.to_string().into_bytes();
    let wide: Vec<u8> = good.to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let huge = json!({"recipient": friend, "message": "x".repeat(13 * LONGEST)}).to_string().into_bytes();
    let long = "k".repeat(256);
    let gzip = ("content-encoding", "gzip".as_bytes());
    let key = |value: &'static [u8]| ("idempotency-key", value);
    for (headers, body, status, code, says) in [
        (vec![kind], wide, 400, "BadRequest", "no valid JSON"),
        (vec![kind], b"{\"recipient\":\"\xff\"}".to_vec(), 400, "BadRequest", "must be UTF-8"),
        (vec![kind], huge, 413, "TooLarge", "at most"),
        (vec![], body.clone(), 415, "UnsupportedMediaType", "must be JSON"),
        (vec![("content-type", "text/plain".as_bytes())], body.clone(), 415, "UnsupportedMediaType", "must be JSON"),
        (vec![kind, kind], body.clone(), 415, "UnsupportedMediaType", "must be JSON"),
        (vec![kind, gzip], body.clone(), 415, "UnsupportedMediaType", "must not be compressed"),
        (vec![kind, key(b"")], body.clone(), 400, "BadRequest", "1 to 255 visible ASCII characters"),
        (vec![kind, key(b"\"\"")], body.clone(), 400, "BadRequest", "1 to 255 visible ASCII characters"),
        (vec![kind, key(b"a b")], body.clone(), 400, "BadRequest", "1 to 255 visible ASCII characters"),
        (vec![kind, key(b"caf\xc3\xa9")], body.clone(), 400, "BadRequest", "1 to 255 visible ASCII characters"),
        (vec![kind, key(b"a"), key(b"a")], body.clone(), 400, "BadRequest", "must be there once"),
        (
            vec![kind, ("idempotency-key", long.as_bytes())],
            body.clone(),
            400,
            "BadRequest",
            "1 to 255 visible ASCII characters",
        ),
    ] {
        let answer = post(send, &headers, body).await;
        let said = answer.refused(status, code);
        assert!(said.contains(says), "{says}: {said}");
    }
    let far = format!("owner={}", "x".repeat(254));
    for (query, says) in [
        ("wait=61", "\"wait\" must be whole seconds from 0 to 60"),
        ("wait=x", "\"wait\" must be whole seconds"),
        ("wait=1&wait=1", "\"wait\" is given twice"),
        ("wiat=1", "unknown query parameter \"wiat\""),
        ("owner=", "\"owner\" must not be empty"),
        (far.as_str(), "\"owner\" must be at most 253 characters long"),
    ] {
        let answer = post(&format!("{send}?{query}"), &[kind], body.clone()).await;
        let said = answer.refused(400, "BadRequest");
        assert!(said.contains(says), "{query}: {said}");
    }

    // What only looks, and what calls back.
    let list = format!("list/?session_id={id}");
    for (path, says) in [
        ("list/".to_owned(), "\"session_id\" is missing"),
        ("list/?session_id=".to_owned(), "\"session_id\" is missing"),
        (format!("{list}&session_id={id}"), "\"session_id\" is given twice"),
        (format!("{list}&limit=0"), "\"limit\" must be a number from 1 to 50"),
        (format!("{list}&limit=51"), "\"limit\" must be a number from 1 to 50"),
        (format!("{list}&limit=x"), "\"limit\" must be a number that is not negative"),
        (format!("{list}&limit=-1"), "\"limit\" must be a number that is not negative"),
        (format!("{list}&cursor=x"), "\"cursor\" must be a number that is not negative"),
        (format!("{list}&page=2"), "unknown query parameter \"page\""),
        ("waiting/?owner=".to_owned(), "\"owner\" must not be empty"),
        ("waiting/?namespace=A_b".to_owned(), "\"namespace\" must be the name of a namespace"),
        ("waiting/?limit=1".to_owned(), "unknown query parameter \"limit\""),
        (format!("{id}.3EB0000000000001/?full=1"), "unknown query parameter \"full\""),
    ] {
        let said = rest.get(&token, &format!("/api/v1/messages/{path}")).await;
        let said = said.refused(400, "BadRequest");
        assert!(said.contains(says), "{path}: {said}");
    }
    for odd in ["x", "a.b.c", &format!("{id}."), &format!("{id}.3EB0000000000001"), &"x".repeat(300), "%2E%2E%2Fa.b"] {
        rest.get(&token, &format!("/api/v1/messages/{odd}/")).await.refused(404, "MessageNotFound");
        rest.post(&token, &format!("/api/v1/messages/cancel/{odd}/")).await.refused(404, "MessageNotFound");
    }
    let path = format!("/api/v1/messages/cancel/{id}.3EB0000000000001/?force=1");
    rest.post(&token, &path).await.refused(400, "BadRequest");
    for query in ["messages=perhaps", "messages=true&messages=true", "owner=", "since=1"] {
        rest.get(&token, &format!("/api/v1/events?{query}")).await.refused(400, "BadRequest");
    }

    // Nothing of it was done, and what is right at the edge is.
    let empty = rest.get(&token, &format!("/api/v1/messages/{list}")).await.data(200).clone();
    assert_eq!((&empty["messages"], &empty["next_cursor"]), (&json!([]), &Value::Null));
    assert!(world.whatsapp.inbox(friend).await.is_empty());
    let longest = json!({"recipient": friend, "message": "\u{1f600}".repeat(LONGEST), "expires_in": 2_592_000});
    let longest = longest.to_string().into_bytes();
    let key = "k".repeat(255);
    let headers = [kind, ("idempotency-key", key.as_bytes())];
    let sent = post(&format!("{send}?wait=60"), &headers, longest).await;
    assert!(["sent", "delivered"].contains(&sent.data(200)["status"].as_str().unwrap()), "{}", sent.status);
    assert_eq!(world.whatsapp.inbox(friend).await[0].text.chars().count(), LONGEST);
    rest.nothing_leaked(&world, &[friend, phone], &[&token]).await;
    world.nothing_leaked(&[friend, phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_write_in_ways_of_their_own_is_understood() {
    let (friend, phone) = ("+15550208995", "+15550208035");
    let world = World::start_with("gateway-own-ways", Wishes { webhooks: true, ..Wishes::default() }).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;

    // All the fields that a client knows, and null where there is nothing to say.
    let nulls = json!({"name": "Nulls", "owner": null, "namespace": null, "primary": null, "bridge": world.name, "pairing": {
        "method": null, "phone_number": null, "auto_refresh": null,
    }});
    let made = rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", nulls).await.data(201).clone();
    let no_pairing = json!({"name": "None", "bridge": world.name, "pairing": null});
    rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", no_pairing).await.data(201);
    let path = format!("/api/v1/sessions/disconnect/{}/?wait=0", made["id"].as_str().unwrap());
    let nothing = rest.request("POST", &path).bearer_auth(&token).json(&Value::Null);
    assert_eq!(answered(nothing).await.body["success"], true, "a body of null is none");

    // An address that ends with a slash, and a path that begins with one.
    let listed = rest.get(&token, "//api/v1//sessions/list//?owner=*").await;
    assert_eq!(listed.data(200)["total_count"], 2);

    // Where no operator looks, a session would wait for its code for ever.
    let elsewhere = Rest::beside(&world, "elsewhere", &["--watch-namespaces", "gateway-elsewhere"]).await;
    let unwatched = json!({"name": "Unwatched", "bridge": world.name});
    let refused = elsewhere.call(&token, "POST", "/api/v1/sessions/init/?wait=0", unwatched).await;
    let said = refused.refused(422, "Invalid");
    assert!(said.contains(&world.name) && said.ends_with("one of: gateway-elsewhere"), "{said}");
    assert_eq!(rest.get(&token, "/api/v1/sessions/list/?owner=*").await.data(200)["total_count"], 2);

    let id = connected(&world, &rest, &token, "First", phone).await;
    let digits = friend.trim_start_matches('+');
    let forms = [
        friend.to_owned(),
        format!("tel:{friend}"),
        format!("whatsapp:{friend}"),
        format!("(+1) {}", &digits[1..]),
        format!("{digits}:4@S.whatsapp.net"),
        digits.chars().map(|digit| char::from_u32(0x660 + digit.to_digit(10).unwrap()).unwrap()).collect(),
    ];
    let count = forms.len();
    for recipient in forms {
        let body = json!({
            "recipient": recipient, "message": "Hi", "session_id": id, "routing": null, "expires_in": 600.0,
        });
        send(&rest, &token, "/api/v1/messages/send/", &body, None).await.data(202);
    }
    until("does the friend have them all", async || world.whatsapp.inbox(friend).await.len() == count).await;
}
