//! A tool that applies the webhook configurations again and again with a caBundle of its own idea: what is of no use is
//! mended at once, also while nobody leads.

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

/// Until every webhook trusts `bundle` again; how long that took.
async fn mended(client: &Client, name: &str, bundle: &str) -> Duration {
    let since = Instant::now();
    let all = async {
        while !trusted(client, name).await.iter().all(|one| one == bundle) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, all).await.expect("the caBundle is mended");
    since.elapsed()
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

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &name);
    let secret = secrets.get("whatsapp-operator-webhook").await.unwrap().data.unwrap();
    let text = |key: &str| String::from_utf8(secret[key].0.clone()).unwrap();
    let (good, leaf) = (text("ca.crt"), text("tls.crt"));
    // Of a bundle that is no PEM, the API server says so itself; another's authority is all the same to it.
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().cert.pem();
    let rounds = async || {
        let mut took = Vec::new();
        for bad in ["", &leaf, &other].into_iter().cycle().take(6) {
            apply(&client, &name, bad).await;
            took.push(mended(&client, &name, &good).await);
        }
        took.sort();
        assert!(took[took.len() / 2] < Duration::from_secs(1), "on the whole within a second: {took:?}");
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
