//! A server that refuses what a device asks of it after its login.

use serde_json::{Value, json};

use crate::bridge::Bench;

impl Bench {
    /// Connects this session anew, while the server refuses these questions of its account.
    async fn connects_refused(&self, session: &str, account: &str, refused: Value) {
        self.put(session, json!({"desiredState": "Disconnected"})).await;
        self.until(session, "Stopped", None).await;
        self.whatsapp.rules(account, json!({"refused": refused})).await;
        self.put(session, json!({"sending": {"perMinute": 0}})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_let_out_of_the_passive_mode_asks_again_and_is_not_called_connected() {
    let (account, friend) = ("+15550003051", "+15550003951");
    let bench = Bench::start("refused-passive", &[]).await;
    bench.sender("a", account).await;
    let passive = |times: Value| json!([{"iq": {"xmlns": "passive"}, "code": 503, "times": times}]);
    bench.connects_refused("a", account, passive(json!(2))).await;
    bench.until("a", "Connected", None).await;
    assert_eq!(bench.whatsapp.logins(account).await.len(), 2, "on the same connection");
    bench.whatsapp.is_heard(friend, account).await;

    bench.connects_refused("a", account, passive(Value::Null)).await;
    bench.until_it("a", |session| session["reason"] == "ServerRefused" && session["phase"] != "Connected").await;
    bench.whatsapp.rules(account, json!({})).await;
    bench.until("a", "Connected", None).await;
    bench.whatsapp.is_heard(friend, account).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_that_is_refused_keeps_a_session_from_sending_and_receiving() {
    let (account, friend) = ("+15550003052", "+15550003952");
    let bench = Bench::start("refused-questions", &[]).await;
    bench.sender("a", account).await;
    // Linked is not all: its keys are with the server some moments later, and from then on it is not asked whether it may give more.
    bench.whatsapp.is_heard(friend, account).await;
    let kinds = [
        ("encrypt", "set"),
        ("w:sync:app:state", "set"),
        ("abt", "get"),
        ("privacy", "get"),
        ("urn:xmpp:whatsapp:dirty", "set"),
        ("blocklist", "get"),
        ("w:mex", "get"),
        ("w:g2", "get"),
        ("w", "get"),
        ("w:p", "get"),
    ];
    for (number, code) in [400, 403, 429, 503].into_iter().enumerate() {
        let refused = kinds.map(|(xmlns, kind)| json!({"iq": {"xmlns": xmlns, "type": kind}, "code": code}));
        bench.connects_refused("a", account, json!(refused)).await;
        bench.until("a", "Connected", None).await;
        let id = format!("3EB0{number:018}");
        bench.accepted("a", &id, friend, "Hello").await;
        bench.until_message("a", &id, &["Delivered"]).await;
        bench.whatsapp.is_heard(friend, account).await;
    }
    assert_eq!(bench.whatsapp.logins(account).await.len(), 5, "none ended a connection");
}
