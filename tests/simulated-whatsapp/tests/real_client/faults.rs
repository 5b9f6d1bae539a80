//! What goes wrong on purpose, as a real client sees it.

use crate::companion::Companion;
use crate::{Scene, disconnected};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use wacore::store::InMemoryBackend;
use whatsapp_rust::types::events::{ConnectFailureReason, Event};

impl Scene {
    async fn newcomers(&self, rules: serde_json::Value) {
        self.call("/v1/newcomers", Some(rules)).await.unwrap();
    }

    /// Whether Alice's device was let in, for each try after the first `before`. After a link whatsapp-rust 0.7.0 at
    /// times logs in twice (it takes the first `<success>` for a rest of the connection before), so tests count on.
    async fn admissions(&self, before: usize) -> Vec<bool> {
        let logins = self.call("/v1/logins", None).await.unwrap();
        logins.as_array().unwrap().iter().skip(before).map(|line| line["admitted"].as_bool().unwrap()).collect()
    }

    async fn is_answered(&self, companion: &Companion) -> bool {
        let answer = async { companion.client.mex().fetch_reachout_timelock().await.is_ok() };
        tokio::time::timeout(Duration::from_secs(2), answer).await.unwrap_or(false)
    }
}

fn failed(event: &Event) -> Option<ConnectFailureReason> {
    match event {
        Event::LoggedOut(out) => Some(out.reason),
        Event::ConnectFailure(failure) => Some(failure.reason),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_comes_back() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    for act in [json!({"act": "reset"}), json!({"act": "end", "code": 503}), json!({"act": "end", "code": 429})] {
        assert_eq!(scene.phone("act", act).await["connected"], 1);
        companion.wait("Disconnected", disconnected).await;
        companion.connected().await;
    }
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_answers_nothing() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    assert!(scene.is_answered(&companion).await);
    scene.phone("act", json!({"act": "silent", "about": "answers"})).await;
    assert!(!scene.is_answered(&companion).await);
    // What is not an answer still comes.
    scene.phone("restrict", json!({})).await;
    companion.wait("push", |event| matches!(event, Event::MexNotification(_)).then_some(())).await;
    scene.phone("act", json!({"act": "end"})).await;
    companion.wait("Disconnected", disconnected).await;
    companion.connected().await;
    assert!(scene.is_answered(&companion).await, "the silence must end with its connection");
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_kind_of_iq_is_never_answered() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.phone("rules", json!({"unanswered": [{"xmlns": "w:mex", "type": "set"}]})).await;
    assert!(scene.is_answered(&companion).await, "a get is another kind");
    scene.phone("rules", json!({"unanswered": [{"xmlns": "w:mex"}]})).await;
    assert!(!scene.is_answered(&companion).await);
    scene.phone("rules", json!({})).await;
    assert!(scene.is_answered(&companion).await);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_refused_as_often_as_the_rule_says() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    let before = scene.admissions(0).await.len();
    scene.phone("rules", json!({"refuse": {"reason": 503, "times": 1}})).await;
    scene.phone("drop", json!({})).await;
    companion.wait("Disconnected", disconnected).await;
    companion.connected().await;
    assert_eq!(scene.admissions(before).await, [false, true]);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_may_end_at_once_and_the_device_stays_linked() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    let before = scene.admissions(0).await.len();
    scene.phone("rules", json!({"endLogin": {"afterMs": 0, "with": {"failure": 401}, "times": 1}})).await;
    scene.phone("drop", json!({})).await;
    assert_eq!(companion.wait("LoggedOut", failed).await, ConnectFailureReason::LoggedOut);
    assert_eq!(scene.admissions(before).await, [true]);
    assert_eq!(scene.stats().await["registered"], 1);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_linked_may_be_refused() {
    let scene = Scene::new().await;
    scene.newcomers(json!({"refuse": {"reason": 403}})).await;
    let companion = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    companion.wait("failure", failed).await;
    companion.stop().await;
    scene.newcomers(json!({})).await;
    let again = Companion::start(scene.url(), Arc::new(InMemoryBackend::new())).await;
    again.qr().await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_may_be_followed_by_a_hang_up() {
    let scene = Scene::new().await;
    scene.newcomers(json!({"hello": "thenHangUp", "helloTimes": 1})).await;
    let companion = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    companion.qr().await;
    assert_eq!(scene.stats().await["connectionsAccepted"], 2);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_link_is_refused_by_the_client() {
    let scene = Scene::new().await;
    for (fault, code) in [("wrongHmac", "401"), ("wrongSignature", "401"), ("garbledIdentity", "500")] {
        let companion = Companion::start(scene.url(), Arc::new(InMemoryBackend::new())).await;
        let body = json!({"qr": companion.qr().await, "phone": crate::ALICE, "fault": fault});
        let refused = scene.call("/v1/scan", Some(body)).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("error {code}")), "{fault}: {refused}");
        companion.stop().await;
    }
    assert_eq!(scene.stats().await["registered"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_makes_the_shown_code_stale() {
    let scene = Scene::new().await;
    let companion = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    let stale = companion.qr().await;
    assert_eq!(scene.call("/v1/pairings/refresh", Some(json!({}))).await.unwrap()["clients"], 1);
    let fresh = companion.qr().await;
    assert_ne!(stale, fresh);
    let refused = scene.scan(&stale).await.unwrap_err().to_string();
    assert!(refused.contains("error 401"), "{refused}");
    companion.stop().await;
}
