//! The audit log, replayed against the roles that were given: every request of operator and gateway is allowed by a role, and
//! every right is used. Once with the rights in the whole cluster, once with those of a release that is limited to a namespace.

use std::collections::BTreeSet;

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{Api, api::PostParams};
use serde_json::json;
use whatsapp_operator::{api::Phase, platform::access::is_allowed};

use crate::{
    gateway_messages::until_primary,
    support::{
        control_plane::ControlPlane,
        gateway::{ALL_VERBS, Rest, account, let_message, user},
        ledger::{own, owner},
        rights::{self, Program, replay},
        webhooks::until_asked,
        world::{SOON, Wishes, World},
    },
};

/// Rights that this scenario does not come to use, each for its reason.
const RARE: &[(&str, &str)] = &[
    ("update whatsappinstances/finalizers", "asked by an admission plug-in of the API server, not as a request"),
    ("patch events", "an Event that is repeated within minutes"),
    ("create secrets", "where the chart does not make them; tried by the test of least privilege"),
    ("create whatsappbridges", "checked by the API server with the patch that makes it"),
];

async fn lives(name: &str, limited: bool) {
    let wishes = Wishes { webhooks: true, ..Wishes::of_operator(&["--max-instances-per-owner", "1"]) };
    let mut world = World::start_with(name, wishes).await;
    world.operator.stop();
    let roles = rights::committed(&world, Program::Operator, limited);
    let kubeconfig = rights::kubeconfig(&world, Program::Operator, &roles).await;
    // As at an installation: no Lease, and Secrets without content, as the chart makes them.
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), name);
    leases.delete("whatsapp-operator", &Default::default()).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), name);
    secrets.delete("whatsapp-operator-webhook", &Default::default()).await.unwrap();
    for secret in ["whatsapp-operator-webhook", "whatsapp-bridge-tls"] {
        let empty = serde_json::from_value(json!({"metadata": {"name": secret}})).unwrap();
        secrets.create(&PostParams::default(), &empty).await.unwrap();
    }
    // And a bridge of the installation, which nobody uses.
    let mut bridge = serde_json::to_value(world.bridges().get(&world.name).await.unwrap()).unwrap();
    bridge["metadata"] = json!({"name": format!("{name}-default"), "labels": {"world": format!("{name}-default")}});
    bridge.as_object_mut().unwrap().remove("status");
    let file = world.dir.join("default-bridge.yaml");
    std::fs::write(&file, bridge.to_string()).unwrap();
    world.operator.set("--kubeconfig", &kubeconfig);
    world.operator.add([
        "--bridge-token-secret",
        name,
        "--bridge-tls-secret",
        "whatsapp-bridge-tls",
        "--bridge-hosts",
        "*.shards.example",
    ]);
    world.operator.add(["--default-bridge".as_ref(), file.as_os_str()]);
    let before = world.operator.log().len();
    world.restart_operator().await;
    world.webhooks.as_ref().unwrap().install().await;
    until_asked(&world.instances(), &world.probe()).await;

    let gateway_roles = rights::committed(&world, Program::Gateway, limited);
    let gateway_kubeconfig = rights::kubeconfig(&world, Program::Gateway, &gateway_roles).await;
    let selector = format!("world={name}");
    let mut flags = vec!["--bridge-selector", &selector];
    // One of the namespaces is gone, and with it the rights there. It keeps nobody from the others.
    let gone = format!("{name}-gone");
    let watched = format!("{name},{gone}");
    if limited {
        flags.extend(["--watch-namespaces", &watched]);
    }
    let rest = Rest::start_as(&world.dir.join("gateway"), &gateway_kubeconfig, name, &flags).await;

    // What no account may have: a right on instances elsewhere.
    for program in [Program::Operator, Program::Gateway] {
        let asks = user(&world, &rights::account(&world, program));
        let everywhere = may_list(&world, &asks, None).await;
        assert_eq!((everywhere, may_list(&world, &asks, Some(name)).await), (!limited, true), "{program:?}");
    }

    // An instance lives and dies; its owner has one of one.
    own(&world, "first", json!({})).await;
    let phone = if limited { "+15550470002" } else { "+15550470001" };
    world.scan("first", phone).await;
    let first = world.history.until_phase("first", Phase::Connected, SOON).await;
    let second = json!({
        "metadata": {"name": "second"}, "spec": {"name": "second", "owner": owner(&world), "bridgeRef": {"name": world.name}},
    });
    let second = serde_json::from_value(second).unwrap();
    let refusal = world.instances().create(&PostParams::default(), &second).await.unwrap_err();
    assert!(refusal.to_string().contains("has 1 of 1 instances"), "{refusal}");

    // Somebody sends through it who is allowed to.
    let token = account(&world, "app", ALL_VERBS).await;
    let_message(&world, "app", "create").await;
    let_message(&world, "app", "get").await;
    let id = first.metadata.uid.clone().unwrap();
    until_primary(&rest, &token, &id).await;
    let body = json!({"session_id": id, "recipient": "+15550470009", "message": "Hello"});
    rest.call(&token, "POST", "/api/v1/messages/send/?wait=20", body).await.data(200);
    rest.get(&token, "/api/v1/owner").await.data(200);
    world.delete("first").await;
    world.history.until_gone("first", SOON).await;
    world.nothing_leaked(&[phone]).await;
    world.operator.stop();

    for log in [&world.operator.log()[before..], &rest.program.log()] {
        let forbidden = log.lines().filter(|line| line.contains("orbidden") && !line.contains(&gone));
        let forbidden: Vec<_> = forbidden.take(3).collect();
        assert!(forbidden.is_empty(), "a right is missing:\n{}", forbidden.join("\n"));
    }
    let log = ControlPlane::shared().await.audit_log().unwrap();
    for (program, roles) in [(Program::Operator, &roles), (Program::Gateway, &gateway_roles)] {
        let found = replay(&log, &user(&world, &rights::account(&world, program)), roles);
        assert!(found.requests > 5, "{program:?}: {}", found.requests);
        let in_vain = "list whatsappinstances.whatsapp-operator.dev in its namespace".to_owned();
        let in_the_gone = (program == Program::Gateway && limited).then_some(in_vain);
        assert_eq!(found.missing, BTreeSet::from_iter(in_the_gone), "{program:?}: requests that no role allows");
        // A gateway of all namespaces asks after none.
        let asks_after_none = program == Program::Gateway && !limited;
        let is_rare = |right: &String| {
            RARE.iter().any(|(rare, _)| right.starts_with(rare))
                || (asks_after_none && right.starts_with("list namespaces"))
        };
        let unused: Vec<&String> = found.unused.iter().filter(|right| !is_rare(right)).collect();
        assert!(unused.is_empty(), "{program:?}: rights that nobody uses: {unused:#?}");
    }
    world.bridges().delete(&format!("{name}-default"), &Default::default()).await.unwrap();
}

async fn may_list(world: &World, user: &str, namespace: Option<&str>) -> bool {
    let attributes = k8s_openapi::api::authorization::v1::ResourceAttributes {
        group: Some("whatsapp-operator.dev".into()),
        resource: Some("whatsappinstances".into()),
        verb: Some("list".into()),
        namespace: namespace.map(str::to_owned),
        ..Default::default()
    };
    let asks = k8s_openapi::api::authentication::v1::UserInfo { username: Some(user.to_owned()), ..Default::default() };
    is_allowed(&world.client, asks, attributes, SOON).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_allowed_and_every_right_is_used() {
    lives("audit", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_limited_to_a_namespace_needs_no_right_on_instances_elsewhere() {
    lives("audit-limited", true).await;
}
