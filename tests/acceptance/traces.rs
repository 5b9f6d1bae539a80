//! One trace from a caller over the gateway to the bridge: the same id in both logs.

use serde_json::{Value, json};

use crate::{
    gateway::world,
    gateway_messages::{connected, until_primary},
    support::gateway::{ALL_VERBS, Rest, account, answered},
};

/// The lines of a log that are about this request and answered.
fn line<'a>(log: &'a str, part: &str) -> &'a str {
    log.lines()
        .find(|line| line.contains(part) && line.contains("answered"))
        .unwrap_or_else(|| panic!("no line with {part}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_is_in_the_logs_of_gateway_and_bridge() {
    let phone = "+15550480001";
    let world = world("traces").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &session).await;
    let send = async |trace: Option<&str>, id: &str| {
        let body = json!({"session_id": session, "recipient": "+15550480009", "message": "Hello"});
        let mut request = rest.request("POST", "/api/v1/messages/send/?wait=20").bearer_auth(&token).json(&body);
        request = request.header("x-request-id", id);
        if let Some(trace) = trace {
            request = request.header("traceparent", trace);
        }
        answered(request).await.data(200);
    };
    let field = |line: &str, name: &str| -> String {
        let line: Value = serde_json::from_str(line).unwrap();
        line[name].as_str().unwrap_or_else(|| panic!("{name}: {line}")).to_owned()
    };

    let id = "0af7651916cd43dd8448eb211c80319c";
    send(Some(&format!("00-{id}-b7ad6b7169203331-01")), "traced").await;
    let gateway = rest.program.log();
    let own = line(&gateway, "\"traced\"");
    assert_eq!(field(own, "trace"), id);
    let span = field(own, "span");
    assert_ne!(span, "b7ad6b7169203331", "a step of its own");
    // The bridge logs as text, and what was asked to be recorded at level info.
    let bridge = world.bridge.log();
    let theirs = line(&bridge, id);
    assert!(theirs.contains("INFO") && !theirs.contains(&span), "{theirs}");

    // Without one, or with one that cannot be read, a trace begins at the gateway.
    send(None, "untraced").await;
    send(Some(&format!("00-{id}-b7ad6b7169203331")), "unreadable").await;
    let (gateway, bridge) = (rest.program.log(), world.bridge.log());
    for request in ["untraced", "unreadable"] {
        let trace = field(line(&gateway, &format!("\"{request}\"")), "trace");
        assert!(trace.len() == 32 && trace != id, "{request}: {trace}");
        assert!(line(&bridge, &trace).contains("DEBUG"), "{request}");
    }
    world.nothing_leaked(&[phone, "+15550480009"]).await;
    rest.nothing_leaked(&world, &[phone, "+15550480009"], &[&token]).await;
}
