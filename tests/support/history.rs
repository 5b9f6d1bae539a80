//! Every version of every instance in a namespace, as a watcher saw it, so that a test can ask about the past and the future.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::TryStreamExt;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use tokio::sync::watch;
use whatsapp_operator::api::{Phase, WhatsAppInstance};

/// One version of one instance.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When we saw it.
    pub at: Timestamp,
    /// The object; `None` when it was deleted.
    pub instance: Option<WhatsAppInstance>,
    /// Its name.
    pub name: String,
}

/// The record of a namespace.
#[derive(Clone)]
pub struct History {
    seen: Arc<Mutex<Vec<Seen>>>,
    changed: watch::Receiver<usize>,
    /// Watches for as long as anybody holds the record.
    _task: Arc<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl History {
    /// Starts watching.
    pub async fn watch(client: Client, namespace: &str) -> Self {
        let api: Api<WhatsAppInstance> = Api::namespaced(client, namespace);
        let start = api.list(&kube::api::ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sender, changed) = watch::channel(0);
        let record = seen.clone();
        let see = move |instance: WhatsAppInstance, gone: bool| {
            let name = instance.name_any();
            let one = Seen { at: Timestamp::now(), instance: (!gone).then_some(instance), name };
            let count = {
                let mut all = record.lock().unwrap();
                all.push(one);
                all.len()
            };
            let _ = sender.send(count);
        };
        let task = tokio::spawn(async move {
            let mut version = start;
            // The API server ends a watch every few minutes; go on from the last version seen.
            loop {
                let Ok(stream) = api.watch(&WatchParams::default().timeout(290), &version).await else {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                };
                futures::pin_mut!(stream);
                while let Ok(Some(event)) = stream.try_next().await {
                    let (instance, gone) = match event {
                        WatchEvent::Added(i) | WatchEvent::Modified(i) => (i, false),
                        WatchEvent::Deleted(i) => (i, true),
                        WatchEvent::Bookmark(_) => continue,
                        // The version is too old by now: a busy API server remembers a few seconds. What is there is seen anew.
                        WatchEvent::Error(_) => {
                            let Ok(list) = api.list(&kube::api::ListParams::default()).await else { break };
                            version = list.metadata.resource_version.unwrap();
                            list.items.into_iter().for_each(|instance| see(instance, false));
                            break;
                        }
                    };
                    version = instance.resource_version().unwrap();
                    see(instance, gone);
                }
            }
        });
        Self { seen, changed, _task: Arc::new(AbortOnDrop(task)) }
    }

    /// Every version of one instance so far, oldest first.
    pub fn of(&self, name: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.name == name).cloned().collect()
    }

    /// Wakes up at every new version.
    pub fn changes(&self) -> watch::Receiver<usize> {
        self.changed.clone()
    }

    /// Every instance ever seen.
    pub fn names(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.name.clone()).collect()
    }

    /// How many versions of all instances have been seen.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits until the newest version of the instance is as wanted.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&WhatsAppInstance) -> bool,
    ) -> WhatsAppInstance {
        let mut changed = self.changed.clone();
        let search = async {
            loop {
                changed.borrow_and_update();
                let newest = self.of(name).pop().and_then(|seen| seen.instance);
                if let Some(instance) = newest.filter(|instance| wanted(instance)) {
                    return instance;
                }
                changed.changed().await.unwrap();
            }
        };
        let Ok(instance) = tokio::time::timeout(patience, search).await else {
            panic!("{name}: not {what} within {patience:?}; {}", self.story(name))
        };
        instance
    }

    /// Waits until the instance is in a phase.
    pub async fn until_phase(&self, name: &str, phase: Phase, patience: Duration) -> WhatsAppInstance {
        self.until(name, &phase.to_string(), patience, |instance| instance.phase() == Some(phase)).await
    }

    /// Waits until the instance no longer exists.
    pub async fn until_gone(&self, name: &str, patience: Duration) {
        let mut changed = self.changed.clone();
        let search = async {
            loop {
                changed.borrow_and_update();
                if self.of(name).pop().is_some_and(|seen| seen.instance.is_none()) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(patience, search).await.is_err() {
            panic!("{name}: not gone within {patience:?}; {}", self.story(name));
        }
    }

    /// What happened to an instance, for an error: phases and reasons, never codes.
    pub fn story(&self, name: &str) -> String {
        let lines = self.of(name).into_iter().map(|seen| match seen.instance {
            None => format!("{} gone", seen.at),
            Some(instance) => {
                let conditions = instance.status.iter().flat_map(|s| &s.conditions);
                let conditions: Vec<String> =
                    conditions.map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message)).collect();
                format!("{} {:?} {}", seen.at, instance.phase(), conditions.join("; "))
            }
        });
        format!("it went:\n{}", lines.collect::<Vec<_>>().join("\n"))
    }
}

/// Short questions to an instance.
pub trait Ask {
    /// `.status.phase`.
    fn phase(&self) -> Option<Phase>;
    /// The reason of a condition.
    fn reason(&self, condition: &str) -> String;
    /// The status of a condition.
    fn condition(&self, condition: &str) -> String;
    /// The QR code's text.
    fn qr(&self) -> Option<String>;
}

impl Ask for WhatsAppInstance {
    fn phase(&self) -> Option<Phase> {
        self.status.as_ref()?.phase
    }

    fn reason(&self, condition: &str) -> String {
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        conditions.filter(|c| c.type_ == condition).map(|c| c.reason.clone()).collect()
    }

    fn condition(&self, condition: &str) -> String {
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        conditions.filter(|c| c.type_ == condition).map(|c| c.status.clone()).collect()
    }

    fn qr(&self) -> Option<String> {
        Some(self.status.as_ref()?.qr.as_ref()?.code.reveal().to_owned())
    }
}
