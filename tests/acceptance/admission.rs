//! The rules at admission, one request at a time: real API server, three real webhook processes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::http::Request;
use futures::future::join_all;
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    client::Body,
};
use serde_json::{Value, json};
use whatsapp_operator::{
    api::{WhatsAppOwner, labels::PRIMARY_SINCE},
    rules::owner::object_name,
};

use crate::{
    gate::{Gate, REPLICAS},
    support::{
        control_plane::ControlPlane,
        webhooks::status,
        world::{SOON, is_late},
    },
};

/// What the controller writes when it is.
async fn connect(gate: &Gate, name: &str) {
    let connected = json!({"status": {"conditions": [{"type": "Connected", "status": "True", "reason": "Connected",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    gate.instances().patch_status(name, &PatchParams::default(), &Patch::Merge(connected)).await.unwrap();
}

#[tokio::test]
async fn whose_is_whose() {
    let gate = Gate::start("admission-whose", &[]).await;
    let (everybody, assigners) = ("admission-whose:everybody", "admission-whose:assigners");
    let edit = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "admission-whose-edit"},
        "rules": [{"apiGroups": ["whatsapp-operator.dev"], "resources": ["whatsappinstances"],
            "verbs": ["create", "get", "update", "patch"]}]});
    // The role that users are given to copy.
    let shipped = include_str!("../../examples/gitops-role.yaml");
    let shipped: Vec<Value> = serde_saphyr::from_multiple(shipped).unwrap();
    for (role, group) in [(edit, everybody), (shipped[0].clone(), assigners)] {
        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
        let name = name.as_str();
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]});
        let apply = PatchParams::apply("test").force();
        let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(gate.client.clone());
        roles.patch(name, &apply, &Patch::Apply(role)).await.unwrap();
        let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(gate.client.clone());
        bindings.patch(name, &apply, &Patch::Apply(binding)).await.unwrap();
    }
    let object = |name: &str, owner: Option<String>| {
        let mut object = gate.object(name, 0, name, "x");
        object.spec.owner = owner;
        object.annotations_mut().insert(PRIMARY_SINCE.into(), "2099-01-01T00:00:00Z".into());
        object
    };
    let create = PostParams::default();

    let alice = gate.owner("alice");
    let as_alice = gate.acting_as(&alice, &[everybody]).await;
    let made = async {
        loop {
            // The API server learns of a binding by a watch.
            match as_alice.create(&create, &object("defaulted", None)).await.map_err(status) {
                Err(early) if early.reason == "Forbidden" => tokio::time::sleep(Duration::from_millis(50)).await,
                made => return made.unwrap(),
            }
        }
    };
    let made = tokio::time::timeout(SOON, made).await.expect("the role is known");
    assert_eq!(made.spec.owner.as_ref(), Some(&alice));
    assert!(!made.annotations().contains_key(PRIMARY_SINCE), "nobody but the operator sets the stamp");
    let stamp = json!({"metadata": {"annotations": {PRIMARY_SINCE: "2099-01-01T00:00:00Z"}}});
    let patched = as_alice.patch("defaulted", &PatchParams::default(), &Patch::Merge(stamp)).await.unwrap();
    assert!(!patched.annotations().contains_key(PRIMARY_SINCE), "not by a write of metadata alone either");

    // Templates write an empty owner, or null, where they know of none, and their files are applied again and again.
    for owner in [json!(""), Value::Null] {
        let again = Patch::Merge(json!({"spec": {"owner": owner}}));
        let patched = as_alice.patch("defaulted", &PatchParams::default(), &again).await.unwrap();
        assert_eq!(patched.spec.owner.as_ref(), Some(&alice), "{owner}");
    }

    let as_mallory = gate.acting_as("mallory", &[everybody]).await;
    let mut texts = Vec::new();
    for owner in [&alice, &gate.owner("nobody")] {
        let refusal = status(as_mallory.create(&create, &object("defaulted2", Some(owner.clone()))).await.unwrap_err());
        assert_eq!((refusal.code, refusal.reason.as_str()), (403, "OwnerNotAllowed"));
        texts.push(refusal.message);
    }
    assert_eq!(texts[0], texts[1], "a refusal tells nothing of other owners");

    let as_gitops = gate.acting_as("system:serviceaccount:flux:kustomize", &[assigners]).await;
    let made = as_gitops.create(&create, &object("from-git", Some(alice.clone()))).await.unwrap();
    assert_eq!(made.spec.owner.as_ref(), Some(&alice));

    // Which rule decided stands in the API server's audit log.
    let log = ControlPlane::shared().await.audit_log().unwrap();
    let decided = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let about = &event["objectRef"];
        about["namespace"] == gate.name
            && about["name"] == "from-git"
            && event["annotations"]["validate.whatsappinstances.whatsapp-operator.dev/decided-by"] == "ledger"
    };
    let written = async {
        // An event is written a moment after the answer; the last line may be half there.
        while !std::fs::read_to_string(&log).unwrap().lines().any(|line| line.contains("from-git") && decided(line)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, written).await.expect("an audit annotation");

    // Who may change an instance of nobody's may not make it somebody's.
    let mut orphan = gate.object("orphan", 0, "Orphan", "x");
    // Without its label nobody is asked about it.
    (orphan.spec.owner, orphan.metadata.labels) = (None, None);
    gate.instances().create(&create, &orphan).await.unwrap();
    let give = Patch::Merge(json!({"metadata": {"labels": {"replica": "0"}}, "spec": {"owner": alice}}));
    let refusal = status(as_mallory.patch("orphan", &PatchParams::default(), &give).await.unwrap_err());
    assert_eq!((refusal.code, refusal.reason.as_str()), (403, "OwnerNotAllowed"));
}

#[tokio::test]
async fn what_rules_do_not_speak_of_gets_through_while_nobody_answers() {
    let mut gate = Gate::start("admission-narrow", &[]).await;
    gate.create("a", 0, "A", "alice").await.unwrap();

    // A dry run reserves nothing, the same file again changes nothing.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    gate.instances().create(&dry, &gate.object("dry", 1, "Dry", "alice")).await.unwrap();
    let ledger =
        async || gate.owners().get(&object_name(&gate.owner("alice"))).await.unwrap().status.unwrap().instances;
    assert_eq!(ledger().await.len(), 1);
    let file = json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": "applied", "labels": {"replica": "2"}}, "spec": {"name": "Applied", "primary": true}});
    let apply = async || {
        let patch = Patch::Apply(file.clone());
        gate.instances().patch("applied", &PatchParams::apply("git").force(), &patch).await.unwrap().resource_version()
    };
    let first = apply().await;
    for _ in 0..20 {
        assert_eq!(apply().await, first);
    }

    // One of nobody's; without its label nobody is asked about it.
    let mut orphan = gate.object("orphan", 0, "Orphan", "x");
    (orphan.spec.owner, orphan.metadata.labels) = (None, None);
    orphan.finalizers_mut().push("example.com/keeps-it".into());
    gate.instances().create(&PostParams::default(), &orphan).await.unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"replica": "0"}}}));
    gate.instances().patch("orphan", &PatchParams::default(), &label).await.unwrap();

    for replica in &mut gate.replicas {
        replica.stop();
    }
    let patch = async |name: &str, patch: Value| {
        gate.instances().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop).map_err(status)
    };
    patch("a", json!({"metadata": {"labels": {"team": "shop"}}})).await.unwrap();
    patch("a", json!({"spec": {"desiredState": "Disconnected"}})).await.unwrap();
    connect(&gate, "a").await;
    patch("orphan", json!({"metadata": {"annotations": {"team": "shop"}}})).await.unwrap();
    gate.instances().delete("orphan", &DeleteParams::default()).await.unwrap();
    patch("orphan", json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(gate.instances().get_opt("orphan").await.unwrap().is_none(), "nothing holds up its deletion");
    assert_eq!(
        gate.instances()
            .patch("applied", &PatchParams::apply("git").force(), &Patch::Apply(file.clone()))
            .await
            .unwrap()
            .resource_version(),
        first
    );
    // What they do speak of, does not.
    for closed in [json!({"spec": {"name": "B"}}), json!({"spec": {"primary": true}})] {
        assert!(patch("a", closed).await.unwrap_err().message.contains("failed calling webhook"));
    }
    let closed = gate.instances().create(&PostParams::default(), &gate.object("b", 1, "B", "alice")).await;
    assert!(status(closed.unwrap_err()).message.contains("failed calling webhook"));
}

#[tokio::test]
async fn only_a_connected_instance_can_be_set_as_primary_and_a_name_can_be_changed_to_a_free_one() {
    let gate = Gate::start("admission-update", &[]).await;
    gate.create("a", 0, "A", "alice").await.unwrap();
    gate.create("b", 1, "B", "alice").await.unwrap();
    let patch = async |name: &str, spec: Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        gate.instances().patch(name, &PatchParams::default(), &patch).await.map_err(status)
    };
    let refusal = patch("a", json!({"primary": true})).await.unwrap_err();
    assert!(refusal.message.contains("must be connected to be set as primary"), "{refusal:?}");
    connect(&gate, "a").await;
    let before = Timestamp::now();
    let stamp = patch("a", json!({"primary": true})).await.unwrap().annotations()[PRIMARY_SINCE].clone();
    assert!(stamp.parse::<Timestamp>().unwrap() >= before);
    assert!(!patch("a", json!({"primary": false})).await.unwrap().annotations().contains_key(PRIMARY_SINCE));

    assert_eq!(patch("a", json!({"name": " b "})).await.unwrap_err().reason, "NameTaken");
    patch("a", json!({"name": "C"})).await.unwrap();
    assert!(gate.create("c", 2, "c", "alice").await.unwrap_err().message.contains("instance name already exists"));
    // The old name is free once the change has been seen.
    gate.settle("alice").await;
    gate.create("c", 2, "a", "alice").await.unwrap();
}

#[tokio::test]
async fn taking_over_as_primary_is_answered_with_a_warning_that_names_the_one_before() {
    let gate = Gate::start("admission-takeover", &[]).await;
    for (replica, name) in ["first", "second"].into_iter().enumerate() {
        gate.create(name, replica, name, "alice").await.unwrap();
        connect(&gate, name).await;
        // Of two made within a second the oldest is whichever; the one that is primary stays it.
        gate.settle("alice").await;
    }
    let wish = json!({"spec": {"primary": true}});
    let warned = async {
        // A process knows the primary by its watch, a moment after the write.
        while warnings(&gate, "second", &wish).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, warned).await.unwrap();
    assert_eq!(
        warnings(&gate, "second", &wish).await,
        ["admission-takeover/second takes over as primary instance from admission-takeover/first"]
    );
    assert_eq!(warnings(&gate, "first", &wish).await, Vec::<String>::new(), "it is primary already");
}

/// What the API server answers a merge patch with beside the object; by a dry run.
async fn warnings(gate: &Gate, name: &str, patch: &Value) -> Vec<String> {
    let path = format!("/apis/whatsapp-operator.dev/v1alpha1/namespaces/{}/whatsappinstances/{name}", gate.name);
    let request = Request::patch(format!("{path}?dryRun=All")).header("content-type", "application/merge-patch+json");
    let response = gate.client.send(request.body(Body::from(patch.to_string().into_bytes())).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let warnings = response.headers().get_all("warning").iter().map(|warning| warning.to_str().unwrap().to_owned());
    warnings.map(|warning| warning.trim_start_matches("299 - ").trim_matches('"').to_owned()).collect()
}

#[tokio::test]
async fn an_owner_has_one_object_under_one_name() {
    let gate = Gate::start("admission-owner", &[]).await;
    let alice = gate.owner("alice");
    let object = |name: &str, owner: &str| -> WhatsAppOwner {
        serde_json::from_value(json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwner",
            "metadata": {"name": name, "labels": {"world": gate.name, "replica": "0"}},
            "spec": {"owner": owner, "maxInstances": 1},
        }))
        .unwrap()
    };
    let create =
        async |object: WhatsAppOwner| gate.owners().create(&PostParams::default(), &object).await.map_err(status);
    let refusal = create(object("admission-owner-alice", &alice)).await.unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (422, "WrongObjectName"));
    assert!(refusal.message.contains(&object_name(&alice)), "the right name is told: {refusal:?}");
    create(object(&object_name(&alice), &alice)).await.unwrap();
    gate.create("a", 0, "A", "alice").await.unwrap();
    assert!(gate.create("b", 1, "B", "alice").await.unwrap_err().message.contains("has 1 of 1 instances"));

    // With the object its limit would go, and the owner could have ten.
    let delete = async || gate.owners().delete(&object_name(&alice), &DeleteParams::default()).await.map_err(status);
    let refusal = delete().await.unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (409, "LimitInUse"));
    let limitless = Patch::Merge(json!({"spec": {"maxInstances": null}}));
    gate.owners().patch(&object_name(&alice), &PatchParams::default(), &limitless).await.unwrap();
    delete().await.unwrap();

    // One that was there before the webhooks were, in the place of another's.
    let mut foreign = object(&object_name(&gate.owner("bob")), &gate.owner("mallory"));
    foreign.metadata.labels = None;
    create(foreign).await.unwrap();
    let refusal = gate.create("c", 2, "C", "bob").await.unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (409, "OwnerObjectForeign"));
    assert!(!refusal.message.contains("mallory"), "whose it is, is nobody's business: {refusal:?}");
}

#[tokio::test]
async fn with_its_authority_given_only_the_api_server_is_answered() {
    let authority = ControlPlane::shared().await.webhook_client_ca();
    let gate = Gate::start("admission-clients", &["--webhook-client-ca", authority.to_str().unwrap()]).await;
    gate.create("a", 0, "A", "alice").await.unwrap();
    // Anybody else who can reach the port, and says to be alice's API server.
    let stranger = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let url = format!("{}{}", gate.address(0), whatsapp_operator::admission::VALIDATE_INSTANCES);
    let refused = stranger.post(url).body("{}").send().await.unwrap_err();
    assert!(format!("{refused:?}").contains("CertificateRequired"), "{refused:?}");
}

#[tokio::test]
async fn certificates_are_renewed_under_load_without_a_failed_review() {
    // Seconds instead of months: in half a minute every certificate changes several times, the authority at least once.
    let lives =
        ["--webhook-certificate-life", "12s", "--webhook-authority-life", "30s", "--webhook-authority-overlap", "4s"];
    let gate = Gate::start("admission-renewal", &lives).await;
    let secrets: Api<Secret> = Api::namespaced(gate.client.clone(), gate.name);
    let authority = async || {
        let secret = secrets.get("whatsapp-operator-webhook").await.unwrap().data.unwrap();
        let state: Value = serde_json::from_slice(&secret["certificates.json"].0).unwrap();
        (state["authority"]["certificate"].clone(), state["previous"].is_null() && state["next"].is_null())
    };
    let (first, _) = authority().await;
    let done = AtomicBool::new(false);
    let reviews = async |replica: usize| {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            let object = gate.object(&format!("load-{replica}"), replica, "Load", "alice");
            match gate.instances().create(&dry, &object).await.map_err(status) {
                Ok(_) => count += 1,
                // A busy machine, not a certificate.
                Err(slow) if is_late(&slow.message) || slow.reason == "LedgerUnavailable" => {}
                Err(failed) => panic!("review {count} failed: {failed:?}"),
            }
        }
        count
    };
    let changed = async {
        let whole_change = async {
            loop {
                let (now, settled) = authority().await;
                if now != first && settled {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(90), whole_change).await.expect("the authority was replaced");
        done.store(true, Ordering::Relaxed);
    };
    let (counts, ()) = tokio::join!(join_all((0..REPLICAS).map(reviews)), changed);
    assert!(counts.iter().all(|&count| count > 3), "{counts:?}");
}
