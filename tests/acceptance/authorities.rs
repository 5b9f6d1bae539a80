//! A tool that applies the webhook configurations again and again with a caBundle of its own idea: what is of no use is
//! mended at once, also while nobody leads. And an installation that goes over from another's certificates to the operator's:
//! the other's authority stays as long as somebody may show a certificate of its.

use std::time::{Duration, Instant};

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    program::{Program, tail},
    webhooks::{Configuration, start_webhook, until_asked, webhook_program},
    world::{SOON, cluster, create_namespace, target_dir},
};

/// For so long nobody takes the lease of a leader that has gone without a word.
const LEASE: Duration = Duration::from_secs(12);

/// What a webhook of ours trusts in each of the two configurations.
async fn trusted(client: &Client, name: &str) -> Vec<String> {
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone()).get(name).await.unwrap();
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone()).get(name).await.unwrap();
    let mutating = mutating.webhooks.unwrap().into_iter().map(|webhook| webhook.client_config);
    let validating = validating.webhooks.unwrap().into_iter().map(|webhook| webhook.client_config);
    let text = |bundle: Option<ByteString>| String::from_utf8(bundle.unwrap_or_default().0).unwrap();
    mutating.chain(validating).map(|config| text(config.ca_bundle)).collect()
}

/// Applies a caBundle to every webhook, as a tool does that owns the whole object.
async fn apply(client: &Client, name: &str, bundle: &str) {
    let value = serde_json::to_value(ByteString(bundle.as_bytes().to_vec())).unwrap();
    let patch = |webhooks: usize| -> Patch<Value> {
        let operation =
            |at| json!({"op": "add", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": value});
        Patch::Json(serde_json::from_value((0..webhooks).map(operation).collect()).unwrap())
    };
    let parameters = PatchParams::default();
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(name, &parameters, &patch(1)).await.unwrap();
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(name, &parameters, &patch(2)).await.unwrap();
}

/// Until every webhook's bundle is `good`; how long that took.
async fn until(client: &Client, name: &str, what: &str, good: impl Fn(&str) -> bool) -> Duration {
    let since = Instant::now();
    let all = async {
        while !trusted(client, name).await.iter().all(|one| good(one)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, all).await.unwrap_or_else(|_| panic!("not {what}"));
    since.elapsed()
}

/// Both configurations, with an annotation set or taken off.
async fn annotate(client: &Client, name: &str, annotation: &str, value: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation: value}}}));
    let parameters = PatchParams::default();
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    api.patch_metadata(name, &parameters, &patch).await.unwrap();
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    api.patch_metadata(name, &parameters, &patch).await.unwrap();
}

/// Until a program has said this, in all, so many times.
async fn until_said(program: &Program, what: &str, times: usize) {
    let said = async {
        while program.log().matches(what).count() < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, said).await.unwrap_or_else(|_| panic!("not said: {what}\n{}", tail(&program.log())));
}

/// What the operator keeps for the webhooks of a test: whom to trust, and the certificate.
async fn kept(client: &Client, namespace: &str) -> (String, String) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get("whatsapp-operator-webhook").await.unwrap().data.unwrap();
    let text = |key: &str| String::from_utf8(secret[key].0.clone()).unwrap();
    (text("ca.crt"), text("tls.crt"))
}

/// Some authority that is not ours.
fn foreign() -> String {
    rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().cert.pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_bundle_of_no_use_is_mended_at_once_also_while_the_leader_changes() {
    let (client, kubeconfig) = cluster().await;
    let name = format!("authorities-{:08x}", fastrand::u32(..));
    create_namespace(&client, &name).await;
    let dir = target_dir().join("acceptance/authorities");
    let _ = std::fs::remove_dir_all(&dir);
    let webhook = |which: &str| webhook_program(&dir.join(which), &kubeconfig, &name, &name);
    let (mut leader, mut standby) = (webhook("leader"), webhook("standby"));
    start_webhook(&mut leader).await;
    let url = start_webhook(&mut standby).await;
    let configuration =
        Configuration { name: name.clone(), namespace: name.clone(), url, label: None, kubeconfig: kubeconfig.clone() };
    configuration.install().await;
    let instances = Api::namespaced(client.clone(), &name);
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"name": "Probe", "owner": format!("probe@{name}")}});
    let probe = serde_json::from_value(probe).unwrap();
    until_asked(&instances, &probe).await;

    // Of a bundle that is no PEM, the API server says so itself; another's authority is all the same to it.
    let ((good, leaf), other) = (kept(&client, &name).await, foreign());
    let rounds = async || {
        let mut took = Vec::new();
        for bad in ["", &leaf, &other].into_iter().cycle().take(6) {
            apply(&client, &name, bad).await;
            // What was there stays beside it.
            let mended = |found: &str| found.starts_with(&good) && found.contains(bad.trim());
            took.push(until(&client, &name, "mended", mended).await);
        }
        took.sort();
        println!("a caBundle was mended after {took:.1?}");
        assert!(took[took.len() / 2] < Duration::from_secs(5), "at once, on the whole: {took:?}");
        took
    };
    rounds().await;
    until_asked(&instances, &probe).await;
    assert!(leader.log().contains("holding the lease"));

    // It does not give the lease back, so for a quarter of a minute nobody leads.
    leader.kill();
    let took = rounds().await;
    assert!(took.iter().all(|one| *one < LEASE), "not before there was a leader again: {took:?}");
    until_asked(&instances, &probe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_authority_stays_as_long_as_somebody_may_show_its_certificate_and_cert_manager_is_not_fought_with() {
    const INJECT: &str = "cert-manager.io/inject-ca-from";
    const LEFT: &str = "left the webhooks' caBundle to cert-manager's injector";
    let (client, kubeconfig) = cluster().await;
    let name = format!("authorities-{:08x}", fastrand::u32(..));
    create_namespace(&client, &name).await;
    let dir = target_dir().join("acceptance/authorities-foreign");
    let _ = std::fs::remove_dir_all(&dir);
    // Seconds instead of an hour, and so half a minute instead of a day.
    let mut leader = webhook_program(&dir, &kubeconfig, &name, &name).args(["--webhook-authority-overlap", "1s"]);
    let url = start_webhook(&mut leader).await;
    let configuration =
        Configuration { name: name.clone(), namespace: name.clone(), url, label: None, kubeconfig: kubeconfig.clone() };
    configuration.install().await;
    until_said(&leader, "holding the lease", 1).await;
    let ((ours, _), other) = (kept(&client, &name).await, foreign());
    until(&client, &name, "told of ours", |found| found == ours).await;

    // cert-manager's: whatever it does is left alone.
    annotate(&client, &name, INJECT, Some("ns/certificate")).await;
    until_said(&leader, LEFT, 2).await;
    let before = leader.log().matches("wrote the webhook's authorities").count();
    apply(&client, &name, &other).await;

    // The way back: the annotation goes, and pods with the other certificate still answer.
    annotate(&client, &name, INJECT, None).await;
    let since = Instant::now();
    let both = |found: &str| found.starts_with(&ours) && found.contains(other.trim());
    until(&client, &name, "told of ours beside the other", both).await;
    let (mut left, mut seen) = (false, 0);
    while !left {
        let found = trusted(&client, &name).await;
        assert!(found.iter().all(|found| found.starts_with(&ours)), "ours stays: {found:?}");
        left = found.iter().all(|found| *found == ours);
        seen += usize::from(found.iter().all(|found| both(found)));
        assert!(since.elapsed() < SOON * 2, "the other's authority does not leave");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(since.elapsed() > Duration::from_secs(20) && seen > 20, "gone after {:?}", since.elapsed());
    let writes = leader.log().matches("wrote the webhook's authorities").count() - before;
    assert_eq!(writes, 4, "each of the two configurations once with the other, once without");
}
