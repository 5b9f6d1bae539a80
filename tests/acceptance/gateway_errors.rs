//! Refusals that other tests do not meet by the way, each provoked for real.

use axum::http::Method;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use whatsapp_operator::rules::owner::object_name;

use crate::{
    gateway::{named, world},
    gateway_messages::{connected, send, until_primary},
    support::{
        bad_disk::{BadDisk, FULL, READ_ONLY},
        gateway::{ALL_VERBS, Rest, account, apply, make_account, token_of, until, user},
        ledger::owners,
        program::Program,
        relay::{Fate, Relay},
        world::{Wishes, World},
    },
};

const FRIEND: &str = "+15550208991";
const SEND: &str = "/api/v1/messages/send/";

async fn begun(world: &World, rest: &Rest, token: &str, name: &str) -> Value {
    rest.call(token, "POST", "/api/v1/sessions/init/?wait=30", named(world, name)).await.data(201).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_cannot_do_now_has_a_code_each() {
    let world = world("gateway-errors").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let text = |value: &Value, field: &str| value[field].as_str().unwrap().to_owned();
    let first = begun(&world, &rest, &token, "First").await;
    let id = text(&first, "id");
    until_primary(&rest, &token, &id).await;
    let body = json!({"recipient": FRIEND, "message": "Hello"});
    send(&rest, &token, SEND, &body, Some("key-1")).await.refused(409, "NotPaired");
    let balanced = json!({"recipient": FRIEND, "message": "Hello", "routing": "balanced"});
    send(&rest, &token, SEND, &balanced, None).await.refused(409, "NoneReady");
    rest.post(&token, &format!("/api/v1/sessions/disconnect/{id}/?wait=30")).await.data(200);
    rest.get(&token, &format!("/api/v1/sessions/qr/{id}/")).await.refused(409, "NoCode");

    // A key stands for the session that it was used with, also when that is gone.
    rest.call(&token, "DELETE", &format!("/api/v1/sessions/delete/{id}/?wait=30"), Value::Null).await.data(200);
    let second = begun(&world, &rest, &token, "Second").await;
    until_primary(&rest, &token, &text(&second, "id")).await;
    send(&rest, &token, SEND, &body, Some("key-1")).await.refused(409, "SessionGone");

    // What is being deleted, while its bridge does not answer.
    let id = text(&second, "id");
    world.bridge.freeze();
    rest.call(&token, "DELETE", &format!("/api/v1/sessions/delete/{id}/?wait=0"), Value::Null).await.data(202);
    rest.post(&token, &format!("/api/v1/sessions/connect/{id}/?wait=0")).await.refused(409, "Terminating");

    // A quota of the namespace. Nobody counts here but us.
    let name = json!({"name": "few", "namespace": world.name});
    let hard = json!({"count/whatsappinstances.whatsapp-operator.dev": "1"});
    let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> = Api::namespaced(world.client.clone(), &world.name);
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": name, "spec": {"hard": hard}});
    quotas.patch("few", &PatchParams::apply("test").force(), &Patch::Apply(&quota)).await.unwrap();
    let counted = json!({"status": {"hard": hard, "used": hard}});
    quotas.patch_status("few", &PatchParams::default(), &Patch::Merge(&counted)).await.unwrap();
    let third = async || rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, "Third")).await;
    // The first that is refused: it keeps the name for a minute, as any that may be on its way.
    let full = async || {
        let answer = third().await;
        let refused = answer.status == 403;
        if refused {
            answer.refused(403, "QuotaExceeded");
        }
        refused
    };
    until("over the quota", full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_told_when_to_come_back_and_a_lower_bound_loses_nothing() {
    let (friend, phone) = ("+15550208992", "+15550208021");
    let bound = ["--max-waiting-per-session", "3"];
    let wishes = Wishes { webhooks: true, bridge: bound.map(str::to_owned).to_vec(), ..Wishes::default() };
    let mut world = World::start_with("gateway-errors-full", wishes).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "First", phone).await;
    let body = |text: &str| json!({"recipient": friend, "message": text, "session_id": id});
    rest.post(&token, &format!("/api/v1/sessions/disconnect/{id}/?wait=30")).await.data(200);
    let mut message = String::new();
    for text in ["Parcel one", "Parcel two", "Parcel three"] {
        let waiting = send(&rest, &token, SEND, &body(text), None).await.data(202).clone();
        message = format!("/api/v1/messages/{}/", waiting["id"].as_str().unwrap());
    }
    let full = send(&rest, &token, SEND, &body("Parcel four"), None).await;
    assert!(full.refused(429, "QueueFull").contains("send it again"));
    assert!(full.body["error"]["retryAfter"].is_u64(), "{}", full.body);

    // With less room than is taken already, what was accepted stays so.
    world.bridge.set("--max-waiting-per-session", "1");
    world.bridge.kill();
    world.restart_bridge().await;
    until("is the bridge back", async || rest.get(&token, &message).await.status == 200).await;
    send(&rest, &token, SEND, &body("Parcel five"), None).await.refused(429, "QueueFull");
    rest.post(&token, &format!("/api/v1/sessions/connect/{id}/?wait=30")).await.data(200);
    let sent = async || rest.get(&token, &message).await.data(200)["status"] == "delivered";
    until("is the last one delivered", sent).await;
    let inbox = async || world.whatsapp.inbox(friend).await.into_iter().map(|line| line.text).collect::<Vec<_>>();
    assert_eq!(inbox().await, ["Parcel one", "Parcel two", "Parcel three"]);

    // One that would expire before its turn, while there is room: some are let through until the bridge knows of the pace.
    world.bridge.set("--max-waiting-per-session", "3");
    world.bridge.kill();
    world.restart_bridge().await;
    until("is the bridge back", async || rest.get(&token, &message).await.status == 200).await;
    let object = rest.get(&token, &format!("/api/v1/sessions/status/{id}/")).await.data(200)["object"].clone();
    world.patch_spec(object.as_str().unwrap(), json!({"sending": {"perMinute": 1, "burst": 1}})).await;
    let mut soon = body("Soon");
    soon["expires_in"] = 5.into();
    let paced = async || send(&rest, &token, SEND, &soon, None).await.status == 429;
    until("is it paced", paced).await;
    let late = send(&rest, &token, SEND, &soon, None).await;
    late.refused(429, "QueueFull");
    assert!(late.body["error"]["retryAfter"].as_u64().is_some_and(|seconds| seconds > 5), "{}", late.body);
    rest.nothing_leaked(&world, &[friend, phone, "Parcel "], &[&token]).await;
    world.nothing_leaked(&[friend, phone, "Parcel "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_decided_has_a_code_each() {
    let world = world("gateway-errors-others").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let init = "/api/v1/sessions/init/?wait=0";
    let made = rest.call(&token, "POST", init, named(&world, "First")).await.data(201).clone();
    let (id, owner) = (made["id"].as_str().unwrap(), user(&world, "app"));

    // Another name was promised to it a moment ago, and nobody knows yet what came of that.
    let entered = async || {
        let found = owners(&world).get(&object_name(&owner)).await.ok().and_then(|owner| owner.status);
        found.is_some_and(|status| status.instances.iter().any(|entry| entry.reserved_at.is_none()))
    };
    until("is it entered", entered).await;
    let status = owners(&world).get(&object_name(&owner)).await.unwrap().status.unwrap();
    let mut entries = serde_json::to_value(&status.instances).unwrap();
    entries[0]["renamingTo"] = "second".into();
    entries[0]["reservedAt"] = jiff::Timestamp::now().to_string().into();
    let promised = Patch::Merge(json!({"status": {"instances": entries}}));
    owners(&world).patch_status(&object_name(&owner), &PatchParams::default(), &promised).await.unwrap();
    let rename = rest.call(&token, "PATCH", &format!("/api/v1/sessions/{id}/"), json!({"name": "Third"})).await;
    assert!(rename.refused(409, "ChangeUnderWay").contains("try again in a minute"));

    // A rule of the cluster that is none of ours.
    let meta = json!({"name": world.name});
    let api = "admissionregistration.k8s.io/v1";
    let rules = json!([{"apiGroups": ["whatsapp-operator.dev"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["whatsappinstances"]}]);
    let freeze = json!({"expression": "!object.spec.name.startsWith('Frozen')", "message": "no such sessions during the freeze", "reason": "Forbidden"});
    // Without a reason the API server answers 422, as for an object that its schema does not take.
    let closed = json!({"expression": "!object.spec.name.startsWith('Closed')", "message": "closed on Sundays"});
    let policy =
        json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules}, "validations": [freeze, closed]});
    apply(
        &world.client,
        &json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": policy}),
    )
    .await;
    let here = json!({"namespaceSelector": {"matchLabels": {"world": world.name}}});
    let binding = json!({"policyName": world.name, "validationActions": ["Deny"], "matchResources": here});
    apply(
        &world.client,
        &json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": meta, "spec": binding}),
    )
    .await;
    let asked = async || {
        let mut probe = world.probe();
        "Frozen".clone_into(&mut probe.spec.name);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        world.instances().create(&dry, &probe).await.is_err_and(|error| error.to_string().contains("freeze"))
    };
    until("is the policy asked", asked).await;
    let frozen = rest.call(&token, "POST", init, named(&world, "Frozen")).await;
    assert!(frozen.refused(403, "Refused").contains("no such sessions during the freeze"));
    let closed = rest.call(&token, "POST", init, named(&world, "Closed")).await;
    assert_eq!(closed.refused(403, "Refused"), "closed on Sundays");

    // The owner's object is somebody else's, who was there before the webhooks were.
    let bob = account(&world, "bob", ALL_VERBS).await;
    let foreign = json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwner", "metadata": {"name": object_name(&user(&world, "bob"))}, "spec": {"owner": "mallory@gateway-errors-others"}});
    apply(&world.client, &foreign).await;
    let refused = rest.call(&bob, "POST", init, named(&world, "Bob's")).await;
    assert!(!refused.refused(409, "OwnerObjectForeign").contains("mallory"));

    // An API server that does not answer the gateway.
    let (relay, kubeconfig) = Relay::of_api_server(&world.kubeconfig, &world.dir).await;
    let selector = format!("world={}", world.name);
    let cut_off =
        Rest::start_as(&world.dir.join("cut-off"), &kubeconfig, &world.name, &["--bridge-selector", &selector]).await;
    cut_off.get(&token, "/api/v1/sessions/list/").await.data(200);
    relay.now(|method, path| {
        let create = method == Method::POST && path.ends_with("/whatsappinstances");
        if create { Fate::AnswerLost } else { Fate::Passed }
    });
    cut_off.call(&token, "POST", init, named(&world, "Unheard")).await.refused(503, "Unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_taken_without_a_word_is_given_again() {
    let mut world = world("gateway-errors-slot").await;
    world.operator.stop();
    let (relay, kubeconfig) = Relay::of_api_server(&world.kubeconfig, &world.dir).await;
    world.operator.set("--kubeconfig", kubeconfig);
    world.restart_operator().await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let owner = user(&world, "app");
    let object = object_name(&owner);
    let one = json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwner", "metadata": {"name": object}, "spec": {"owner": owner, "maxInstances": 1}});
    apply(&world.client, &one).await;
    // The owner's only slot is written, and admission does not learn it in time.
    relay.now(|method, path| {
        let ledger = method == Method::PUT && path.contains("/whatsappowners/");
        if ledger { Fate::AnswerHeld } else { Fate::Passed }
    });
    let asked = rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, "First"));
    let heals = async {
        relay.until_lost(1).await;
        relay.now(|_, _| Fate::Passed);
    };
    let (answer, ()) = tokio::join!(asked, heals);
    answer.data(201);
    rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, "Second"))
        .await
        .refused(403, "LimitExceeded");
    // And of another owner's ledger it learns nothing at all.
    let other = account(&world, "other", ALL_VERBS).await;
    relay.now(|method, path| {
        let ledger = method != Method::GET && path.contains("/whatsappowners");
        if ledger { Fate::AnswerLost } else { Fate::Passed }
    });
    let unknown = rest.call(&other, "POST", "/api/v1/sessions/init/?wait=0", named(&world, "Third")).await;
    unknown.refused(503, "LedgerUnavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_has_a_code_each() {
    let mut world = world("gateway-errors-away").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", "+15550208001").await;
    until_primary(&rest, &token, &session).await;
    let body = json!({"recipient": FRIEND, "message": "Hello"});
    let sent = send(&rest, &token, &format!("{SEND}?wait=30"), &body, None).await.data(200).clone();
    let message = format!("/api/v1/messages/{}/", sent["id"].as_str().unwrap());

    // A gateway that may not ask who may: nobody else gets anything by that.
    let name = format!("{}-deaf", world.name);
    make_account(&world.client, &world.name, &name).await;
    let group = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    let rules = [
        group("whatsapp-operator.dev", "whatsappinstances", &["list", "watch"]),
        group("whatsapp-operator.dev", "whatsappbridges", &["get", "list"]),
        group("authentication.k8s.io", "tokenreviews", &["create"]),
    ];
    let version = "rbac.authorization.k8s.io/v1";
    apply(
        &world.client,
        &json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
    )
    .await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": world.name});
    apply(&world.client, &json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": [subject]})).await;
    let kubeconfig = world.dir.join("deaf.kubeconfig");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    config["users"][0]["user"] = json!({"token": token_of(&world.client, &world.name, &name, None).await});
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let allowed = async || {
        let client = crate::support::world::client(&kubeconfig).await;
        let bridges: Api<whatsapp_operator::api::WhatsAppBridge> = Api::all(client);
        bridges.list(&Default::default()).await.is_ok()
    };
    until("may the deaf one start", allowed).await;
    let deaf = Rest::start_as(&world.dir.join("deaf"), &kubeconfig, &world.name, &[]).await;
    let other = account(&world, "other", &[]).await;
    deaf.get(&other, &message).await.refused(503, "AccessUnknown");
    assert!(!deaf.get(&other, &message).await.body.to_string().contains("Hello"));

    // A full disk.
    let disk = BadDisk::new(&world.dir.join("bad-disk"));
    let unused = Program::new("whatsapp-bridge", &world.dir.join("unused"));
    let mut bridge = std::mem::replace(&mut world.bridge, unused);
    bridge.kill();
    for (name, value) in disk.environment(std::path::Path::new("bridge.db")) {
        bridge = bridge.env(name, value);
    }
    world.bridge = bridge;
    world.restart_bridge().await;
    let back = async || rest.get(&token, &message).await.status == 200;
    until("is the bridge back", back).await;
    disk.fails(FULL);
    let refused = send(&rest, &token, SEND, &body, None).await;
    let said = refused.refused(507, "StorageFull");
    assert!(said.contains("disk"), "{said}");
    assert_eq!(refused.headers["retry-after"], "60", "it takes messages again by itself");
    // One that can only be read. The bridge answers, so nobody says that it does not.
    disk.fails(READ_ONLY);
    let told = async || {
        let refused = send(&rest, &token, SEND, &body, None).await;
        let said = refused.body["error"]["message"].as_str().unwrap_or_default();
        refused.status == 503 && refused.body["error"]["code"] == "BridgeUnavailable" && said.contains("disk")
    };
    until("told of a disk that can only be read", told).await;
    disk.is_good();

    // One that hangs: whether it has the message, nobody knows.
    world.bridge.freeze();
    send(&rest, &token, SEND, &body, None).await.refused(504, "Timeout");

    // No bridge at all. Without its word on a key nothing is sent.
    world.bridge.kill();
    rest.get(&token, &message).await.refused(503, "BridgeUnavailable");
    // It was waited for, in case it restarts. Who comes now is refused at once.
    let begun = std::time::Instant::now();
    send(&rest, &token, SEND, &body, None).await.refused(503, "BridgeUnavailable");
    send(&rest, &token, SEND, &body, Some("key-2")).await.refused(503, "KeysUnavailable");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());

    // No operator: nothing may be written without the rules' word.
    world.operator.kill();
    let answer = rest.call(&token, "POST", "/api/v1/sessions/init/?wait=0", named(&world, "Second")).await;
    answer.refused(503, "AdmissionUnavailable");
    assert_eq!(world.whatsapp.inbox(FRIEND).await.len(), 1, "what was refused was not sent");
    // Whose metrics are gone with them; what they said is there.
    for log in [world.bridge.log(), world.operator.log()] {
        assert!(world.secrets(&[FRIEND, "+15550208001"]).iter().all(|secret| !log.contains(secret)));
    }
    rest.nothing_leaked(&world, &[FRIEND, "+15550208001"], &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_nobody_cannot_be_primary() {
    // Without webhooks there is nobody who would have said whose it is.
    let world = World::start("gateway-errors-nobodys").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    world.connected("stray", "+15550208011").await;
    let path = format!("/api/v1/sessions/set-primary/stray/?namespace={}&wait=0", world.name);
    rest.post(&token, &path).await.refused(422, "OwnerMissing");
    rest.get(&token, &format!("/api/v1/sessions/list/?owner={}", user(&world, "app"))).await.data(200);
}
