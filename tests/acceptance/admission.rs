//! The rules at admission: real API server, three real webhook processes, requests by the hundred.
//!
//! The API server is shared with the other tests, so the configurations match only this test's namespace, and each of the
//! three processes is asked about the objects labelled with its number.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::Status,
};
use serde::Deserialize;
use serde_json::{Value, json};
use whatsapp_operator::{
    admission::configuration::{Reach, Wanted, mutating, validating},
    api::{WhatsAppInstance, WhatsAppOwner, labels::PRIMARY_SINCE},
    rules::{self, InstanceFacts, owner::object_name},
};

use super::support::{
    program::Program,
    world::{SOON, client, cluster, create_namespace, target_dir},
};

const REPLICAS: usize = 3;
/// When a client stops to ask.
const ANSWER: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Addresses {
    webhook: String,
}

/// Three webhook processes and a namespace that they watch over.
struct Gate {
    name: &'static str,
    client: Client,
    kubeconfig: PathBuf,
    replicas: Vec<Program>,
}

impl Gate {
    async fn start(name: &'static str, more: &[&str]) -> Self {
        let (client, kubeconfig) = cluster().await;
        create_namespace(&client, name).await;
        let dir = target_dir().join("acceptance").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let mut replicas: Vec<Program> = (0..REPLICAS)
            .map(|i| {
                let own = format!("{name}-{i}");
                Program::new("whatsapp-operator", &dir.join(&own))
                    .args([
                        "webhook",
                        "--webhook-listen",
                        "127.0.0.1:0",
                        "--admin-listen",
                        "127.0.0.1:0",
                        "--log",
                        "debug",
                    ])
                    .args(["--webhook-hosts", "127.0.0.1", "--lease-namespace", name, "--lease-name", &own])
                    .args(["--webhook-configuration", &own])
                    .args(more.to_vec())
                    .args([PathBuf::from("--kubeconfig"), kubeconfig.clone()])
            })
            .collect();
        for (i, replica) in replicas.iter_mut().enumerate() {
            let addresses: Addresses = replica.start().await;
            // So that a restarted one is found where it was.
            replica.set("--webhook-listen", addresses.webhook.trim_start_matches("https://"));
            install(&client, name, i, addresses.webhook).await;
        }
        let gate = Self { name, client, kubeconfig, replicas };
        gate.until_trusted().await;
        gate
    }

    /// Until the API server has heard of the configurations, and trusts the replicas.
    async fn until_trusted(&self) {
        for i in 0..REPLICAS {
            let trusted = async {
                loop {
                    let probe = self.object(&format!("probe-{i}"), i, "Probe", "probe");
                    match self.instances().create(&PostParams { dry_run: true, ..PostParams::default() }, &probe).await
                    {
                        // The stamp tells that the mutating webhook was there, the refusal that the validating one was.
                        Ok(created) if created.annotations().contains_key(PRIMARY_SINCE) => return,
                        _ => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
            };
            tokio::time::timeout(SOON, trusted)
                .await
                .unwrap_or_else(|_| panic!("replica {i}: {}", self.replicas[i].log()));
        }
    }

    fn instances(&self) -> Api<WhatsAppInstance> {
        Api::namespaced(self.client.clone(), self.name)
    }

    fn owners(&self) -> Api<WhatsAppOwner> {
        Api::all(self.client.clone())
    }

    /// An owner that no other test has.
    fn owner(&self, who: &str) -> String {
        format!("{who}@{}", self.name)
    }

    fn object(&self, name: &str, replica: usize, display: &str, owner: &str) -> WhatsAppInstance {
        serde_json::from_value(json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
            "metadata": {"name": name, "namespace": self.name, "labels": {"replica": replica.to_string()}},
            "spec": {"name": display, "owner": self.owner(owner), "primary": owner == "probe"},
        }))
        .unwrap()
    }

    /// A create by a client that asks again when it got no answer, as every controller does: a machine that is busy with
    /// much else may take longer than the 5 s an API server waits.
    async fn create(&self, name: &str, replica: usize, display: &str, owner: &str) -> Result<(), Status> {
        let object = self.object(name, replica, display, owner);
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.instances().create(&PostParams::default(), &object).await.map_err(status) {
                Err(unanswered) if unanswered.code >= 500 && Instant::now() < deadline => {}
                answer => return answer.map(drop),
            }
        }
    }

    async fn owned(&self, owner: &str) -> Vec<WhatsAppInstance> {
        let params = ListParams::default().fields(&format!("spec.owner={}", self.owner(owner)));
        self.instances().list(&params).await.unwrap().items
    }

    /// What the controller does when it sees the instances.
    async fn settle(&self, owner: &str) {
        let name = object_name(&self.owner(owner));
        let found = self.owners().get(&name).await.unwrap();
        let facts: Vec<InstanceFacts> = self.owned(owner).await.iter().map(InstanceFacts::from).collect();
        let settled = rules::settle(found.status.as_ref(), &facts, 10, Timestamp::now());
        let object = WhatsAppOwner { status: Some(settled.status), ..found };
        self.owners().replace_status(&name, &PostParams::default(), &object).await.unwrap();
    }

    /// A client that is `user`, of `groups`.
    async fn acting_as(&self, user: &str, groups: &[&str]) -> Api<WhatsAppInstance> {
        let config = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.to_owned()).collect());
        Api::namespaced(Client::try_from(config).unwrap(), self.name)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // What fails closed must not outlive its test: the namespace's other users would be refused.
        let (name, kubeconfig) = (self.name, self.kubeconfig.clone());
        let cleanup = async move {
            let client = client(&kubeconfig).await;
            for i in 0..REPLICAS {
                let name = format!("{name}-{i}");
                let parameters = DeleteParams::default();
                let _ = Api::<MutatingWebhookConfiguration>::all(client.clone()).delete(&name, &parameters).await;
                let _ = Api::<ValidatingWebhookConfiguration>::all(client.clone()).delete(&name, &parameters).await;
            }
        };
        std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(cleanup)).join().unwrap();
    }
}

fn status(error: kube::Error) -> Status {
    match error {
        kube::Error::Api(status) => *status,
        other => panic!("{other}"),
    }
}

async fn install(client: &Client, name: &str, replica: usize, url: String) {
    let selector = |key: &str, value: String| LabelSelector {
        match_labels: Some([(key.to_owned(), value)].into()),
        ..LabelSelector::default()
    };
    let wanted = Wanted {
        name: format!("{name}-{replica}"),
        reach: Reach::Url(url),
        ca_bundle: None,
        namespaces: Some(selector("world", name.to_owned())),
    };
    let (mut mutating, mut validating) = (mutating(&wanted), validating(&wanted));
    for webhook in mutating.webhooks.iter_mut().flatten() {
        webhook.object_selector = Some(selector("replica", replica.to_string()));
    }
    for webhook in validating.webhooks.iter_mut().flatten() {
        webhook.object_selector = Some(selector("replica", replica.to_string()));
    }
    let apply = PatchParams::apply("test").force();
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(&wanted.name, &apply, &Patch::Apply(mutating)).await.unwrap();
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(&wanted.name, &apply, &Patch::Apply(validating)).await.unwrap();
}

fn admitted(answers: &[Result<(), Status>]) -> usize {
    answers.iter().filter(|answer| answer.is_ok()).count()
}

fn all_say(answers: &[Result<(), Status>], sentence: &str) {
    for refusal in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(refusal.message.contains(sentence), "{refusal:?}");
    }
}

#[tokio::test]
async fn of_500_concurrent_creates_through_three_processes_exactly_ten_exist() {
    let gate = Gate::start("admission-limit", &[]).await;
    let creates = (0..500).map(|i| {
        let gate = &gate;
        async move { gate.create(&format!("i{i}"), i % REPLICAS, &format!("Instance {i}"), "alice").await }
    });
    let answers = join_all(creates).await;
    let mut said: Vec<_> =
        answers.iter().filter_map(|answer| answer.as_ref().err()).map(|s| s.message.clone()).collect();
    said.sort();
    said.dedup();
    assert_eq!((admitted(&answers), gate.owned("alice").await.len()), (10, 10), "{said:#?}");
    all_say(&answers, "has 10 of 10 instances; delete one, or have an administrator raise spec.maxInstances");
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(|refusal| refusal.code == 403));

    // Three go, five come.
    gate.settle("alice").await;
    for instance in gate.owned("alice").await.iter().take(3) {
        gate.instances().delete(&instance.name_any(), &DeleteParams::default()).await.unwrap();
    }
    let creates = (0..5).map(|i| {
        let gate = &gate;
        async move { gate.create(&format!("more{i}"), i % REPLICAS, &format!("More {i}"), "alice").await }
    });
    let answers = join_all(creates).await;
    assert_eq!((admitted(&answers), gate.owned("alice").await.len()), (3, 10));
}

#[tokio::test]
async fn a_process_killed_and_restarted_between_neither_lets_more_in_nor_loses_places() {
    let mut gate = Gate::start("admission-killed", &[]).await;
    let mut killed = gate.replicas.remove(1);
    let creates = stream::iter(0..300).map(|i| {
        let gate = &gate;
        async move { gate.create(&format!("i{i}"), i % REPLICAS, &format!("Instance {i}"), "alice").await }
    });
    let (answers, ()) = tokio::join!(creates.buffer_unordered(60).collect::<Vec<_>>(), async {
        // In the middle of the first reservations.
        while gate.owned("alice").await.is_empty() {}
        killed.kill();
        let _: Addresses = killed.start().await;
    });
    assert_eq!((admitted(&answers), gate.owned("alice").await.len()), (10, 10));
    all_say(&answers, "has 10 of 10 instances");
    let ledger = gate.owners().get(&object_name(&gate.owner("alice"))).await.unwrap().status.unwrap();
    assert_eq!((ledger.used, ledger.instances.len()), (10, 10), "no place is lost");
}

#[tokio::test]
async fn of_200_concurrent_creates_of_one_name_exactly_one_exists() {
    let gate = Gate::start("admission-names", &[]).await;
    for (owner, spellings) in [
        ("sales", ["Sales", " sales ", "SALES", "Ｓales"]),
        ("street", ["Straße", "STRASSE", "strasse", "straẞe"]),
        ("city", ["İstanbul", "ISTANBUL", "ıstanbul", "istanbul"]),
        ("cafe", ["Café", "CAFE\u{301}", "cafe\u{301} ", "CAFÉ"]),
    ] {
        let creates = (0..50).map(|i| {
            let gate = &gate;
            async move { gate.create(&format!("{owner}{i}"), i % REPLICAS, spellings[i % 4], owner).await }
        });
        let answers = join_all(creates).await;
        assert_eq!((admitted(&answers), gate.owned(owner).await.len()), (1, 1), "{owner}");
        all_say(&answers, "instance name already exists");
    }
}

#[tokio::test]
async fn a_hundred_owners_of_thirty_creates_each_have_ten() {
    let gate = Gate::start("admission-owners", &[]).await;
    let creates = stream::iter(0..3000_usize).map(|i| {
        let gate = &gate;
        async move {
            let (owner, n) = (i % 100, i / 100);
            gate.create(&format!("o{owner}-{n}"), i % REPLICAS, &format!("Instance {n}"), &format!("o{owner}")).await
        }
    });
    let answers: Vec<_> = creates.buffer_unordered(60).collect().await;
    all_say(&answers, "has 10 of 10 instances");
    assert_eq!(admitted(&answers), 1000);
    for owner in 0..100 {
        assert_eq!(gate.owned(&format!("o{owner}")).await.len(), 10, "owner {owner}");
    }
}

#[tokio::test]
async fn whose_is_whose() {
    let gate = Gate::start("admission-whose", &[]).await;
    let (everybody, assigners) = ("admission-whose:everybody", "admission-whose:assigners");
    for (name, group, verbs) in [
        ("admission-whose-edit", everybody, json!(["create", "get", "update", "patch"])),
        ("admission-whose-assign", assigners, json!(["assign-owner"])),
    ] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": ["whatsapp-operator.dev"], "resources": ["whatsappinstances"], "verbs": verbs}]});
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
    let made = as_alice.create(&create, &object("defaulted", None)).await.unwrap();
    assert_eq!(made.spec.owner.as_ref(), Some(&alice));
    assert!(!made.annotations().contains_key(PRIMARY_SINCE), "nobody but the operator sets the stamp");
    let stamp = json!({"metadata": {"annotations": {PRIMARY_SINCE: "2099-01-01T00:00:00Z"}}});
    let patched = as_alice.patch("defaulted", &PatchParams::default(), &Patch::Merge(stamp)).await.unwrap();
    assert!(!patched.annotations().contains_key(PRIMARY_SINCE), "not by a write of metadata alone either");

    let as_mallory = gate.acting_as("mallory", &[everybody]).await;
    let mut texts = Vec::new();
    for owner in [&alice, &gate.owner("nobody")] {
        let refusal = status(as_mallory.create(&create, &object("defaulted2", Some(owner.clone()))).await.unwrap_err());
        assert_eq!((refusal.code, refusal.reason.as_str()), (403, "OwnerNotAllowed"));
        texts.push(refusal.message);
    }
    assert_eq!(texts[0], texts[1], "a refusal tells nothing of other owners");

    let as_gitops = gate.acting_as("system:serviceaccount:flux:kustomize", &[everybody, assigners]).await;
    let made = as_gitops.create(&create, &object("from-git", Some(alice.clone()))).await.unwrap();
    assert_eq!(made.spec.owner.as_ref(), Some(&alice));
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

    for replica in &mut gate.replicas {
        replica.stop();
    }
    let patch = async |name: &str, patch: Value| {
        gate.instances().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop).map_err(status)
    };
    patch("a", json!({"metadata": {"labels": {"team": "shop"}}})).await.unwrap();
    patch("a", json!({"spec": {"desiredState": "Disconnected"}})).await.unwrap();
    let connected = json!({"status": {"conditions": [{"type": "Connected", "status": "True", "reason": "Connected",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    gate.instances().patch_status("a", &PatchParams::default(), &Patch::Merge(connected)).await.unwrap();
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
    let connected = json!({"status": {"conditions": [{"type": "Connected", "status": "True", "reason": "Connected",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    gate.instances().patch_status("a", &PatchParams::default(), &Patch::Merge(connected)).await.unwrap();
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
                Err(slow) if slow.message.contains("deadline exceeded") || slow.reason == "Timeout" => {}
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
