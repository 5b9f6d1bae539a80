//! Who may do what through the REST API: Kubernetes says so, and what is not the caller's looks like nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use whatsapp_operator::api::{Phase, WhatsAppInstance, labels};

use crate::{
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, Answer, READ_VERBS, Rest, account, answered, token_for, token_that_lasts, user},
        world::{SOON, Wishes, World, cluster, create_namespace},
    },
};

/// Every operation on the session `id`, with a body that is good where one is needed.
fn operations(id: &str) -> Vec<(&'static str, String, Value, bool)> {
    let path = |verb: &str| format!("/api/v1/sessions/{verb}/{id}/");
    vec![
        ("GET", path("status"), Value::Null, false),
        ("GET", path("qr"), Value::Null, false),
        ("POST", path("connect"), Value::Null, true),
        ("POST", path("disconnect"), Value::Null, true),
        ("POST", path("refresh-qr"), Value::Null, true),
        ("POST", path("set-primary"), Value::Null, true),
        ("PATCH", format!("/api/v1/sessions/{id}/"), json!({"name": "Mine"}), true),
        ("DELETE", path("delete"), Value::Null, true),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_whose_the_token_is() {
    let world = World::start("gateway-tokens").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let genuine = token_that_lasts(&world, "app", 3600).await;
    rest.get(&genuine, "/api/v1/sessions/list/").await.data(200);
    let expired = token_that_lasts(&world, "app", -5).await;
    let for_others = token_for(&world, "app", "somebody-else").await;
    let mut routes = operations("some-session");
    routes.push(("POST", "/api/v1/sessions/init/".to_owned(), json!({"name": "A"}), true));
    routes.push(("GET", "/api/v1/sessions/list/".to_owned(), Value::Null, false));
    routes.push(("GET", "/api/v1/events".to_owned(), Value::Null, false));
    let refused = |answer: Answer| {
        answer.refused(401, "Unauthorized");
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer "));
    };
    let cut = &token[..token.len() - 2];
    for (method, path, body, _) in &routes {
        for bad in ["garbage", "e30.e30.e30", cut, &expired, &for_others] {
            refused(rest.call(bad, method, path, body.clone()).await);
        }
        refused(answered(rest.request(method, path)).await);
        for header in ["Basic YTpi", "Bearer", "Bearer a b", &format!("Token {token}")] {
            refused(answered(rest.request(method, path).header("authorization", header)).await);
        }
        let twice = rest.request(method, path).bearer_auth(&token).header("authorization", format!("Bearer {token}"));
        refused(answered(twice).await);
    }
    rest.nothing_leaked(&world, &[], &[&token, &expired, &for_others, &genuine]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_yours_looks_like_nothing() {
    let world = World::start("gateway-others").await;
    let rest = Rest::start(&world, &[]).await;
    let (app, viewer) = (account(&world, "app", ALL_VERBS).await, account(&world, "viewer", READ_VERBS).await);
    let nobody = account(&world, "nobody", &[]).await;
    let body = json!({"name": "Secret Name", "bridge": world.name});
    let made = rest.call(&app, "POST", "/api/v1/sessions/init/?wait=30", body.clone()).await.data(201).clone();
    let (id, object) = (made["id"].as_str().unwrap(), made["object"].as_str().unwrap());
    let nothing = "00000000-0000-0000-0000-000000000000";
    for (there, missing) in [(id, nothing), (object, "missing")] {
        for ((method, path, body, _), (_, missing, _, _)) in operations(there).into_iter().zip(operations(missing)) {
            let answer = rest.call(&nobody, method, &path, body.clone()).await;
            let said = answer.refused(404, "NotFound").to_owned();
            let nothing = rest.call(&nobody, method, &missing, body).await;
            assert_eq!(nothing.refused(404, "NotFound"), said, "{method} {path}");
            let whole = format!("{} {:?}", answer.body, answer.headers);
            assert!(!whole.contains("Secret Name") && !whole.contains(object), "{whole}");
        }
    }
    // What is not about one session tells nothing either; it names the verb that is missing.
    for (method, path, body) in [
        ("POST", "/api/v1/sessions/init/", body),
        ("GET", "/api/v1/sessions/list/", Value::Null),
        ("GET", "/api/v1/sessions/list/?owner=*", Value::Null),
        ("GET", "/api/v1/sessions/list/?namespace=*", Value::Null),
        ("GET", "/api/v1/events", Value::Null),
    ] {
        rest.call(&nobody, method, path, body).await.refused(404, "NotAllowed");
    }
    // Who may only look sees it, its code too, and changes nothing.
    for (method, path, body, writes) in operations(id) {
        let answer = rest.call(&viewer, method, &path, body).await;
        match (writes, method) {
            (false, _) => drop(answer.data(200)),
            (true, "POST") if path.contains("set-primary") => drop(answer.refused(422, "NotConnected")),
            (true, _) => assert!(answer.refused(404, "NotAllowed").contains("you may not")),
        }
    }
    assert_eq!(
        rest.get(&viewer, "/api/v1/sessions/list/").await.data(200)["total_count"],
        0,
        "those of others are asked for"
    );
    let theirs = format!("/api/v1/sessions/list/?owner={}", user(&world, "app"));
    assert_eq!(rest.get(&viewer, &theirs).await.data(200)["total_count"], 1);
    // It is as it was.
    let now = rest.get(&app, &format!("/api/v1/sessions/status/{id}/")).await.data(200).clone();
    assert_eq!((&now["instance_name"], &now["phase"]), (&json!("Secret Name"), &json!("AwaitingPairing")));
    rest.nothing_leaked(&world, &[], &[&app, &viewer, &nobody]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_asks_too_often_waits_and_nobody_else_does() {
    let world = World::start("gateway-rate").await;
    let rest = Rest::start(&world, &["--rate-limit", "2"]).await;
    let (eager, calm) = (account(&world, "eager", READ_VERBS).await, account(&world, "calm", READ_VERBS).await);
    let mut refused = None;
    // Four at once, then two a second: a machine that is slower than that between two requests must not matter.
    let all = (0..40).map(|_| rest.get(&eager, "/api/v1/sessions/list/"));
    for answer in futures::future::join_all(all).await {
        if answer.status != 200 {
            answer.refused(429, "RateLimited");
            refused = Some(answer);
        }
    }
    let refused = refused.expect("forty at once are too many");
    assert_eq!(refused.headers["retry-after"], "1");
    rest.get(&calm, "/api/v1/sessions/list/").await.data(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_tls_and_takes_a_new_certificate_while_it_runs() {
    let world = World::start("gateway-tls").await;
    let dir = world.dir.join("tls");
    std::fs::create_dir_all(&dir).unwrap();
    let (chain, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    let renew = || {
        let signing = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&signing).unwrap().pem();
        std::fs::write(&key, signing.serialize_pem()).unwrap();
        std::fs::write(&chain, &certificate).unwrap();
        reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap()
    };
    let first = renew();
    let rest =
        Rest::start(&world, &["--tls-certificate", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]).await;
    assert!(rest.url.starts_with("https://"));
    let trusting = |authority| reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
    let document = format!("{}/api/v1/openapi.json", rest.url);
    let answer = trusting(first.clone()).get(&document).send().await.unwrap();
    assert!(answer.headers().contains_key("strict-transport-security"));
    let second = renew();
    let taken = async {
        while trusting(second.clone()).get(&document).send().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, taken).await.expect("the new certificate is shown");
    assert!(trusting(first).get(&document).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_speaks_tls_is_trusted_by_the_authority_in_its_secret() {
    let name = "gateway-bridge-tls";
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (chain, key) = (file("tls.crt", made.cert.pem()), file("tls.key", made.signing_key.serialize_pem()));
    // The Secret has it before the token comes, which the world writes.
    let (client, _) = cluster().await;
    create_namespace(&client, name).await;
    let secrets: Api<Secret> = Api::namespaced(client, name);
    let authority = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"ca.crt": STANDARD.encode(made.cert.pem())}});
    secrets.patch(name, &PatchParams::apply("authority"), &Patch::Apply(authority)).await.unwrap();
    let bridge = vec!["--tls-cert".to_owned(), chain, "--tls-key".to_owned(), key];
    let world = World::start_with(name, Wishes { webhooks: true, bridge, ..Wishes::default() }).await;
    assert!(world.bridge_address.http.starts_with("https://"), "{}", world.bridge_address.http);

    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", "+15550208041").await;
    until_primary(&rest, &token, &session).await;
    let body = json!({"recipient": "+15550208994", "message": "Hello"});
    let sent = send(&rest, &token, "/api/v1/messages/send/?wait=30", &body, Some("tls-1")).await.data(200).clone();
    let seen = rest.get(&token, &format!("/api/v1/messages/{}/", sent["id"].as_str().unwrap())).await;
    assert_eq!(seen.data(200)["sent_at"], sent["sent_at"]);
    assert_eq!(world.whatsapp.inbox("+15550208994").await.len(), 1);
    rest.nothing_leaked(&world, &["+15550208041", "+15550208994"], &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sigterm_whoever_waits_is_answered() {
    let world = World::start("gateway-stop").await;
    let mut rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    world.apply("one", json!({"owner": user(&world, "app")})).await;
    world.qr("one").await;
    let mut events = rest.follow(&token, "", None).await;
    events.until("ready", |event| event.kind == "ready").await;
    // Nothing will make it primary, since nobody scans: it would wait for a minute.
    world.patch_spec("one", json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase("one", Phase::Disconnected, SOON).await;
    let waiting = answered(rest.request("POST", "/api/v1/sessions/refresh-qr/one/?wait=60").bearer_auth(&token));
    let told = async {
        // Written by the request, which therefore is under way.
        let asked = |one: &WhatsAppInstance| one.annotations().contains_key(labels::REFRESH_QR);
        world.history.until("one", "asked for a code", SOON, asked).await;
        rest.program.terminate();
        events.until("the end", |event| event.kind == "end").await.1
    };
    let (answer, end) = tokio::join!(waiting, told);
    assert_eq!(end.data["reason"], "Stopping");
    answer.data(202);
    rest.program.wait();
}
