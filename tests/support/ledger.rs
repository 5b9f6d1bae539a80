//! What a world's owner, its ledger and its primary pointer are asked and told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use whatsapp_operator::{
    api::{WhatsAppInstance, WhatsAppOwner, WhatsAppOwnerStatus, conditions::ACCEPTED},
    rules::owner::object_name,
};

use super::{
    history::Ask,
    program::executable,
    world::{World, is_late},
};

/// How long what several instances have to do with may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// All owners.
pub fn owners(world: &World) -> Api<WhatsAppOwner> {
    Api::all(world.client.clone())
}

/// An owner that no other test has.
pub fn owner(world: &World) -> String {
    format!("alice@{}", world.name)
}

/// `kubectl apply` of an instance of that owner.
pub async fn own(world: &World, name: &str, more: Value) -> WhatsAppInstance {
    let mut spec = json!({"owner": owner(world)});
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    world.apply(name, spec).await
}

/// The instance once it is accepted or not.
pub async fn decided(world: &World, name: &str) -> WhatsAppInstance {
    world.history.until(name, "decided about", PATIENCE, |i| !i.condition(ACCEPTED).is_empty()).await
}

/// The instance once it is accepted.
pub async fn accepted(world: &World, name: &str) -> WhatsAppInstance {
    world.history.until(name, "accepted", PATIENCE, |i| i.condition(ACCEPTED) == "True").await
}

/// Which instances are accepted.
pub async fn accepted_now(world: &World) -> BTreeSet<String> {
    let list = world.instances().list(&Default::default()).await.unwrap();
    list.items.iter().filter(|i| i.condition(ACCEPTED) == "True").map(ResourceExt::name_any).collect()
}

/// All instances, the oldest first, as the rules rank them.
pub async fn by_age(world: &World) -> Vec<String> {
    let mut all = world.instances().list(&Default::default()).await.unwrap().items;
    all.sort_by_key(|i| (i.creation_timestamp(), i.uid()));
    all.iter().map(ResourceExt::name_any).collect()
}

/// Nobody took its acceptance away once it had it.
pub fn was_never_stopped(world: &World, name: &str) {
    let seen = world.history.of(name).into_iter().filter_map(|seen| seen.instance);
    let mut since = seen.skip_while(|instance| instance.condition(ACCEPTED) != "True");
    assert!(since.all(|instance| instance.condition(ACCEPTED) == "True"), "{}", world.history.story(name));
}

/// The owner's status once it is as wanted.
pub async fn until(world: &World, what: &str, wanted: impl Fn(&WhatsAppOwnerStatus) -> bool) -> WhatsAppOwnerStatus {
    let last = Mutex::new(None);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", object_name(&owner(world))));
    let search = async {
        let mut seen = watcher(owners(world), config).default_backoff().applied_objects().boxed();
        while let Some(object) = seen.next().await {
            let Ok(WhatsAppOwner { status: Some(status), .. }) = object else { continue };
            if wanted(&status) {
                return status;
            }
            *last.lock().unwrap() = Some(status);
        }
        unreachable!("a watch never ends");
    };
    let Ok(status) = tokio::time::timeout(PATIENCE, search).await else {
        panic!("the owner is not {what}: {:#?}", last.lock().unwrap())
    };
    status
}

/// The name of the primary.
pub fn primary(status: &WhatsAppOwnerStatus) -> Option<&str> {
    status.primary.as_ref().map(|primary| primary.name.as_str())
}

/// `kubectl whatsapp`: what it prints, or its error.
pub async fn plugin(world: &World, arguments: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new(executable("kubectl-whatsapp"));
    command.args(arguments).args(["--namespace", &world.name, "--kubeconfig"]).arg(&world.kubeconfig);
    command.env_remove("KUBECONFIG");
    tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = command.output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            if output.status.success() {
                return Ok(text(output.stdout));
            }
            let error = text(output.stderr);
            // A busy machine, see `patient`; a person would ask again.
            if !is_late(&error) || Instant::now() > deadline {
                return Err(error);
            }
        }
    })
    .await
    .unwrap()
}

/// Every version of the owner, as a watcher saw it, with what is wrong with it.
pub struct Observer {
    wrong: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<Vec<Option<String>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Observer {
    /// Watches from now on, until dropped.
    pub fn watch(world: &World) -> Self {
        let (wrong, seen) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let config = watcher::Config::default().fields(&format!("metadata.name={}", object_name(&owner(world))));
        let mut objects = watcher(owners(world), config).default_backoff().applied_objects().boxed();
        let (complaints, pointers) = (wrong.clone(), seen.clone());
        let task = tokio::spawn(async move {
            while let Some(object) = objects.next().await {
                let Ok(WhatsAppOwner { status: Some(status), .. }) = object else { continue };
                let holds = status.instances.iter().filter(|entry| entry.waiting.is_none());
                // What is reserved need not exist yet, so it need not have a primary; once it exists it may be one.
                let must_have = holds.clone().any(|entry| entry.reserved_at.is_none());
                match primary(&status) {
                    None if must_have => complaints.lock().unwrap().push(format!("zero: {status:?}")),
                    Some(name) if !holds.clone().any(|entry| entry.name == name) => {
                        complaints.lock().unwrap().push(format!("points at nothing accepted: {status:?}"));
                    }
                    name => pointers.lock().unwrap().push(name.map(str::to_owned)),
                }
            }
        });
        Self { wrong, seen, task }
    }

    /// How often the pointer moved.
    pub fn moves(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// There was one primary, all the time.
    pub fn saw_nothing_wrong(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
