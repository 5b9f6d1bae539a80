//! What the client makes of answers, good and bad.

use futures::StreamExt;

use super::{
    BridgeClient, BridgeError, Deletion, ErrorCode, Event, Session, SessionPhase, SessionSpec, scripted_bridge,
};
use crate::{api::conditions::reason, controller::fixtures, model::Sensitive, platform::lock};

async fn bridge_and_client() -> (scripted_bridge::Scripted, BridgeClient) {
    let bridge = scripted_bridge::start().await;
    let client = BridgeClient::new(&bridge.url, scripted_bridge::token(), None).unwrap();
    (bridge, client)
}

#[tokio::test]
async fn each_kind_of_answer_is_its_own_error_with_its_own_reason() {
    let (bridge, client) = bridge_and_client().await;
    let refusal = |code: &str| format!(r#"{{"error": {{"code": "{code}", "message": "+15550001 says no"}}}}"#);
    for (status, body, error, why) in [
        (
            503,
            refusal("Full"),
            BridgeError::Refused { code: ErrorCode::Full.into(), retry_after: None },
            reason::BRIDGE_FULL,
        ),
        (
            400,
            refusal("Invalid"),
            BridgeError::Refused { code: ErrorCode::Invalid.into(), retry_after: None },
            reason::BRIDGE_REFUSED,
        ),
        (
            503,
            r#"{"error": {"code": "Internal", "message": "no +1555", "closing": true}}"#.to_owned(),
            BridgeError::Closing,
            reason::BRIDGE_UNREACHABLE,
        ),
        (
            500,
            refusal("SessionUnreadable"),
            BridgeError::Refused { code: ErrorCode::SessionUnreadable.into(), retry_after: None },
            reason::BRIDGE_REFUSED,
        ),
        (404, refusal("NotFound"), BridgeError::NotFound, reason::BRIDGE_MALFORMED_ANSWER),
        (403, String::new(), BridgeError::Unauthorized, reason::BRIDGE_UNAUTHORIZED),
        (502, "<html>".into(), BridgeError::Malformed { status: 502 }, reason::BRIDGE_MALFORMED_ANSWER),
        (200, "{}".into(), BridgeError::Malformed { status: 200 }, reason::BRIDGE_MALFORMED_ANSWER),
    ] {
        lock(&bridge.script).answer = (status, body);
        let seen = client.put("id", &SessionSpec::default()).await.unwrap_err();
        assert_eq!((&seen, seen.reason()), (&error, why));
        assert!(!seen.to_string().contains("+1555"), "{seen}");
    }
}

#[test]
fn a_session_that_the_bridge_cannot_read_is_told_with_what_to_do() {
    let error = BridgeError::Refused { code: ErrorCode::SessionUnreadable.into(), retry_after: None };
    assert!(error.to_string().contains("delete the instance"), "{error}");
    let error = BridgeError::Refused { code: ErrorCode::Full.into(), retry_after: None };
    assert_eq!(error.to_string(), "the bridge refused: Full");
}

#[tokio::test]
async fn a_wrong_token_a_closed_port_and_a_bad_address_are_told_apart() {
    let (bridge, _) = bridge_and_client().await;
    let wrong = BridgeClient::new(&bridge.url, Sensitive::new("wrong"), None).unwrap();
    assert_eq!(wrong.info().await.unwrap_err(), BridgeError::Unauthorized);
    assert!(!format!("{wrong:?}").contains("wrong"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let closed = BridgeClient::new(&url, scripted_bridge::token(), None).unwrap().info().await.unwrap_err();
    assert!(matches!(closed, BridgeError::Unreachable { .. }) && closed.may_be_brief(), "{closed:?}");
    assert!(!closed.leaves_open(), "nothing was asked");
    for address in
        ["nonsense", "ftp://host", "mailto:somebody", "http://user@host", "https://user:pass@host", "http://:pass@host"]
    {
        assert_eq!(BridgeClient::new(address, scripted_bridge::token(), None).unwrap_err(), BridgeError::Address);
    }
    assert_eq!(BridgeClient::new(&url, scripted_bridge::token(), Some("no pem")).unwrap_err(), BridgeError::CaBundle);
}

#[tokio::test]
async fn a_deletion_is_gone_or_under_way() {
    let (bridge, client) = bridge_and_client().await;
    assert_eq!(client.delete("id", true).await, Ok(Deletion::Gone));
    let deleting = serde_json::to_string(&fixtures::session(SessionPhase::Deleting)).unwrap();
    lock(&bridge.script).answer = (202, deleting);
    assert_eq!(client.delete("id", true).await, Ok(Deletion::UnderWay));
}

#[tokio::test]
async fn events_come_with_their_resume_point_and_a_closed_stream_is_an_error() {
    let (mut bridge, client) = bridge_and_client().await;
    let mut events = client.events(&"run-7".parse().unwrap()).await.unwrap();
    let follower = bridge.followers.next().await.unwrap();
    assert_eq!(follower.since, "run-7");
    let deleted = Event::Deleted { id: "one".into() };
    follower.say("id: run-8\nevent: novelty\ndata: {\"type\":\"novelty\"}\n\n");
    follower.send("run-8", &deleted);
    assert_eq!(events.next().await.unwrap().unwrap(), (Some("run-8".parse().unwrap()), deleted));
    drop(follower);
    assert_eq!(events.next().await.unwrap().unwrap_err(), BridgeError::StreamEnded);
}

#[tokio::test]
async fn a_bridge_that_never_stops_talking_is_not_listened_to() {
    let (mut bridge, client) = bridge_and_client().await;
    let endless = BridgeError::Malformed { status: 200 };
    // What would be a good answer without the padding.
    let session = fixtures::session(SessionPhase::Connected);
    let padded = serde_json::to_string(&session).unwrap() + &" ".repeat(1_000_000);
    lock(&bridge.script).answer = (200, padded.clone());
    assert_eq!(client.put("id", &SessionSpec::default()).await.unwrap_err(), endless);
    lock(&bridge.script).answer =
        (503, r#"{"error": {"code": "Full", "message": "full"}}"#.to_owned() + &" ".repeat(1_000_000));
    let refusal = client.put("id", &SessionSpec::default()).await.unwrap_err();
    assert_eq!(refusal, BridgeError::Malformed { status: 503 });

    let mut events = client.events(&"run-0".parse().unwrap()).await.unwrap();
    let follower = bridge.followers.next().await.unwrap();
    follower.say("event: session\ndata: ");
    follower.say(&padded);
    assert_eq!(events.next().await.unwrap().unwrap_err(), endless);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_list_may_be_as_long_as_any_shard_can_be_and_no_longer() {
    let (bridge, client) = bridge_and_client().await;
    let session = Session {
        push_name: Some(Sensitive::new("Alice".repeat(50))),
        ..fixtures::session(SessionPhase::AwaitingPairing)
    };
    assert!(serde_json::to_string(&session).unwrap().len() > 500);
    // Written down before the client begins to count the time.
    let one = serde_json::to_string(&session).unwrap();
    let list =
        |count: usize| format!("{{\"items\": [{}], \"cursor\": \"run-0\"}}", vec![one.as_str(); count].join(","));
    lock(&bridge.script).list = Some(list(10_000));
    assert_eq!(client.sessions().await.unwrap().items.len(), 10_000);
    lock(&bridge.script).list = Some(list(1) + &" ".repeat(33 << 20));
    assert_eq!(client.sessions().await.unwrap_err(), BridgeError::Malformed { status: 200 });
}

#[tokio::test]
async fn a_bridge_that_dies_before_its_answer_is_whole_may_have_done_what_it_was_asked() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        BridgeClient::new(&format!("http://{}", listener.local_addr().unwrap()), scripted_bridge::token(), None);
    let client = client.unwrap();
    for begun in ["HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"items\": [", ""]
    {
        let dying = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0, "it was asked");
            connection.write_all(begun.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(client.sessions(), dying);
        let error = answer.unwrap_err();
        assert!(matches!(error, BridgeError::Broken { .. }) && error.leaves_open(), "{error:?}");
        assert!(error.may_be_brief() && error.reason() == reason::BRIDGE_UNREACHABLE);
    }
}

#[tokio::test]
async fn a_page_instead_of_a_stream_is_malformed() {
    let (bridge, client) = bridge_and_client().await;
    lock(&bridge.script).nonsense = true;
    let error = client.events(&"run-0".parse().unwrap()).await.err().unwrap();
    assert_eq!(error, BridgeError::Malformed { status: 200 });
}
