//! Three webhook processes, and requests by the hundred.
//!
//! The API server is shared with the other tests, so the configurations match only this test's namespace, and each of the
//! three processes is asked about the objects labelled with its number.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    core::Status,
};
use serde_json::json;
use whatsapp_operator::{
    api::{WhatsAppInstance, WhatsAppOwner, WhatsAppOwnerStatus},
    rules::{self, InstanceFacts, owner::object_name},
};

use crate::support::{
    program::Program,
    webhooks::{Configuration, start_webhook, status, until_asked, webhook_program},
    world::{cluster, create_namespace, patient, target_dir},
};

pub const REPLICAS: usize = 3;
/// When a client stops to ask.
const ANSWER: Duration = Duration::from_secs(120);

/// Three webhook processes and a namespace that they watch over.
pub struct Gate {
    pub name: &'static str,
    pub client: Client,
    pub kubeconfig: PathBuf,
    pub dir: PathBuf,
    pub replicas: Vec<Program>,
    configurations: Vec<Configuration>,
}

/// What became of many creates.
pub struct Answers(Vec<Result<(), Status>>);

impl Gate {
    pub async fn start(name: &'static str, more: &[&str]) -> Self {
        let (client, kubeconfig) = cluster().await;
        create_namespace(&client, name).await;
        let dir = target_dir().join("acceptance").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let mut gate = Self { name, client, kubeconfig, dir, replicas: Vec::new(), configurations: Vec::new() };
        for replica in 0..REPLICAS {
            let own = format!("{name}-{replica}");
            let mut program = webhook_program(&gate.dir, &gate.kubeconfig, name, &own).args(more.to_vec());
            let configuration = Configuration {
                name: own,
                namespace: name.to_owned(),
                url: start_webhook(&mut program).await,
                label: Some(("replica", replica.to_string())),
                kubeconfig: gate.kubeconfig.clone(),
            };
            configuration.install().await;
            gate.replicas.push(program);
            gate.configurations.push(configuration);
        }
        for replica in 0..REPLICAS {
            until_asked(&gate.instances(), &gate.object("probe", replica, "Probe", "probe")).await;
        }
        gate
    }

    /// Where a replica's webhooks are.
    pub fn address(&self, replica: usize) -> &str {
        &self.configurations[replica].url
    }

    pub fn instances(&self) -> Api<WhatsAppInstance> {
        Api::namespaced(self.client.clone(), self.name)
    }

    pub fn owners(&self) -> Api<WhatsAppOwner> {
        Api::all(self.client.clone())
    }

    /// An owner that no other test has.
    pub fn owner(&self, who: &str) -> String {
        format!("{who}@{}", self.name)
    }

    pub fn object(&self, name: &str, replica: usize, display: &str, owner: &str) -> WhatsAppInstance {
        serde_json::from_value(json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
            "metadata": {"name": name, "namespace": self.name, "labels": {"replica": replica.to_string()}},
            "spec": {"name": display, "owner": self.owner(owner)},
        }))
        .unwrap()
    }

    /// A create by a client that asks once.
    pub async fn create_once(&self, name: &str, replica: usize, display: &str, owner: &str) -> Result<(), Status> {
        let object = self.object(name, replica, display, owner);
        self.instances().create(&PostParams::default(), &object).await.map(drop).map_err(status)
    }

    /// A create by a client that asks again when it got no answer, later each time, as every controller does: a machine
    /// that is busy with much else may take longer than the 5 s an API server waits.
    pub async fn create(&self, name: &str, replica: usize, display: &str, owner: &str) -> Result<(), Status> {
        let (deadline, mut pause) = (Instant::now() + ANSWER, Duration::from_millis(100));
        loop {
            match self.create_once(name, replica, display, owner).await {
                Err(unanswered) if unanswered.code >= 500 && Instant::now() < deadline => {
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                answer => return answer,
            }
        }
    }

    /// That many creates for one owner at once, through all three processes.
    pub async fn creates(&self, prefix: &str, count: usize, owner: &str) -> Answers {
        let creates = (0..count).map(|i| async move {
            self.create(&format!("{prefix}{i}"), i % REPLICAS, &format!("{prefix} {i}"), owner).await
        });
        at_once(creates).await
    }

    pub async fn owned(&self, owner: &str) -> Vec<WhatsAppInstance> {
        let params = ListParams::default().fields(&format!("spec.owner={}", self.owner(owner)));
        self.instances().list(&params).await.unwrap().items
    }

    /// So many of the owner's instances go, whichever they are.
    pub async fn delete(&self, count: usize, owner: &str) {
        for instance in self.owned(owner).await.iter().take(count) {
            self.instances().delete(&instance.name_any(), &DeleteParams::default()).await.unwrap();
        }
    }

    pub async fn ledger(&self, owner: &str) -> WhatsAppOwnerStatus {
        self.owners().get(&object_name(&self.owner(owner))).await.unwrap().status.unwrap()
    }

    /// What the controller does when it sees the instances.
    pub async fn settle(&self, owner: &str) {
        let name = object_name(&self.owner(owner));
        let found = self.owners().get(&name).await.unwrap();
        let facts: Vec<InstanceFacts> = self.owned(owner).await.iter().map(InstanceFacts::from).collect();
        let settled = rules::settle(found.status.as_ref(), &facts, 10, Timestamp::now());
        let object = WhatsAppOwner { status: Some(settled.status), ..found };
        self.owners().replace_status(&name, &PostParams::default(), &object).await.unwrap();
    }

    /// A client that is `user`, of `groups`.
    pub async fn acting_as(&self, user: &str, groups: &[&str]) -> Api<WhatsAppInstance> {
        let config = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.to_owned()).collect());
        Api::namespaced(patient(Client::try_from(config).unwrap()), self.name)
    }
}

impl Answers {
    /// How many were admitted.
    pub fn admitted(&self) -> usize {
        self.0.iter().filter(|answer| answer.is_ok()).count()
    }

    /// Every refusal.
    pub fn refusals(&self) -> impl Iterator<Item = &Status> {
        self.0.iter().filter_map(|answer| answer.as_ref().err())
    }

    /// Every refusal says so.
    pub fn all_say(&self, code: u16, sentence: &str) {
        for refusal in self.refusals() {
            assert!(refusal.code == code && refusal.message.contains(sentence), "{refusal:?}");
        }
    }

    /// So many were admitted.
    pub fn assert_admitted(&self, count: usize) {
        let mut said: Vec<&String> = self.refusals().map(|refusal| &refusal.message).collect();
        said.sort();
        said.dedup();
        assert_eq!(self.admitted(), count, "{said:#?}");
    }
}

/// All of them at once.
pub async fn at_once(creates: impl IntoIterator<Item = impl Future<Output = Result<(), Status>>>) -> Answers {
    Answers(join_all(creates).await)
}
