//! The webhooks of one test: processes, and configurations that concern only its objects on the shared API server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::Status,
};
use serde::Deserialize;
use whatsapp_operator::{
    admission::configuration::{Parameters, Reach, mutating, validating},
    api::{WhatsAppInstance, labels::PRIMARY_SINCE},
};

use super::{
    program::Program,
    world::{SOON, client, host},
};

#[derive(Deserialize)]
struct Address {
    webhook: String,
}

/// A process that only serves webhooks, and publishes its authority into the configurations of its name.
pub fn webhook_program(dir: &Path, kubeconfig: &Path, namespace: &str, name: &str) -> Program {
    Program::new("whatsapp-operator", &dir.join(name))
        .args(["webhook", "--admin-listen", "127.0.0.1:0", "--log", "debug"])
        .args(["--shutdown-delay", "0s"])
        .args(["--lease-namespace", namespace, "--lease-name", name])
        .args(serving(name))
        .args([Path::new("--kubeconfig"), kubeconfig])
}

/// What a process that serves webhooks is told.
pub fn serving(configuration: &str) -> [&str; 6] {
    ["--webhook-listen", "127.0.0.1:0", "--webhook-hosts", "127.0.0.1", "--webhook-configuration", configuration]
}

/// Starts a webhook process; a restart finds it again where it was.
pub async fn start_webhook(program: &mut Program) -> String {
    let address: Address = program.start().await;
    program.set("--webhook-listen", host(&address.webhook));
    address.webhook
}

/// Both configurations of one webhook process. They end with the test, since what fails closed must not outlive it.
pub struct Configuration {
    /// Name of both objects.
    pub name: String,
    /// The namespace whose instances are asked about.
    pub namespace: String,
    /// Where the process is.
    pub url: String,
    /// Only objects with this label; without one all of them. Owners have no namespace, so they must in any case be
    /// labelled with it as their `world`: another test's webhook may not be there to answer.
    pub label: Option<(&'static str, String)>,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

impl Configuration {
    /// Writes both.
    pub async fn install(&self) {
        let client = client(&self.kubeconfig).await;
        let selector = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
            LabelSelector { match_labels: Some(labels.collect()), ..LabelSelector::default() }
        };
        let world = ("world", self.namespace.as_str());
        let parameters = Parameters {
            name: self.name.clone(),
            reach: Reach::Url(self.url.clone()),
            ca_bundle: None,
            namespaces: Some(selector(&[world])),
        };
        let (mut mutating, mut validating) = (mutating(&parameters), validating(&parameters));
        let label = self.label.as_ref().map(|(key, value)| (*key, value.as_str()));
        for webhook in mutating.webhooks.iter_mut().flatten() {
            webhook.object_selector = label.map(|label| selector(&[label]));
        }
        for webhook in validating.webhooks.iter_mut().flatten() {
            let everywhere = webhook.namespace_selector.is_none();
            let labels: Vec<_> = everywhere.then_some(world).into_iter().chain(label).collect();
            webhook.object_selector = (!labels.is_empty()).then(|| selector(&labels));
        }
        let apply = PatchParams::apply("test").force();
        let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        api.patch(&parameters.name, &apply, &Patch::Apply(mutating)).await.unwrap();
        let api: Api<ValidatingWebhookConfiguration> = Api::all(client);
        api.patch(&parameters.name, &apply, &Patch::Apply(validating)).await.unwrap();
    }

    /// Deletes both.
    pub async fn remove(&self) {
        remove(client(&self.kubeconfig).await, &self.name).await;
    }
}

async fn remove(client: Client, name: &str) {
    let parameters = DeleteParams::default();
    let _ = Api::<MutatingWebhookConfiguration>::all(client.clone()).delete(name, &parameters).await;
    let _ = Api::<ValidatingWebhookConfiguration>::all(client).delete(name, &parameters).await;
}

impl Drop for Configuration {
    fn drop(&mut self) {
        let (name, kubeconfig) = (self.name.clone(), self.kubeconfig.clone());
        let cleanup = async move { remove(client(&kubeconfig).await, &name).await };
        std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(cleanup)).join().unwrap();
    }
}

/// Until the API server has heard of the configurations, and trusts the process. `probe` is any acceptable instance.
pub async fn until_asked(instances: &Api<WhatsAppInstance>, probe: &WhatsAppInstance) {
    until(instances, probe, "asked", |blank, whole| {
        let refused = blank.as_ref().is_err_and(|status| status.reason == "NameBlank");
        refused && whole.as_ref().is_ok_and(is_stamped)
    })
    .await;
}

/// Until the API server has heard that the configurations are gone.
pub async fn until_not_asked(instances: &Api<WhatsAppInstance>, probe: &WhatsAppInstance) {
    until(instances, probe, "left alone", |blank, _| blank.as_ref().is_ok_and(|created| !is_stamped(created))).await;
}

fn is_stamped(instance: &WhatsAppInstance) -> bool {
    instance.annotations().contains_key(PRIMARY_SINCE)
}

type Answer = Result<WhatsAppInstance, Status>;

/// Asks by dry runs until the answers are as wanted: for an instance whose name shows nothing, which only the validating
/// webhook minds, and for one that wishes to be primary, which only the mutating webhook stamps.
async fn until(
    instances: &Api<WhatsAppInstance>,
    probe: &WhatsAppInstance,
    what: &str,
    wanted: impl Fn(&Answer, &Answer) -> bool,
) {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let (mut whole, mut blank) = (probe.clone(), probe.clone());
    (whole.spec.primary, blank.spec.primary) = (true, true);
    "\u{200b}".clone_into(&mut blank.spec.name);
    let last = std::sync::Mutex::new(None);
    let search = async {
        loop {
            let blank = instances.create(&dry, &blank).await.map_err(status);
            let whole = instances.create(&dry, &whole).await.map_err(status);
            if wanted(&blank, &whole) {
                return;
            }
            *last.lock().unwrap() = Some((blank.err(), whole.err()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(SOON, search).await;
    assert!(done.is_ok(), "the webhooks are not {what}: {:#?}", last.lock().unwrap());
}

/// What the API server answered.
pub fn status(error: kube::Error) -> Status {
    match error {
        kube::Error::Api(status) => *status,
        other => panic!("{other}"),
    }
}
