//! The Secret that replicas share: whoever sees that something is due does it; the resourceVersion decides who was first.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    authority::MakeError,
    decide::{Certificates, Due, Lifetimes, carry_out, due},
    served::{Served, UseError},
};

/// Key of the whole state; the others repeat parts of it for people and tools.
const STATE: &str = "certificates.json";
/// One call to the API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon to try again after an error.
const RETRY: Duration = Duration::from_secs(2);
/// How often to look even if nothing seems due: a watch may miss, and clocks jump.
const LOOK: Duration = Duration::from_secs(300);

/// Why the certificates could not be kept.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The API server did not do what was asked.
    #[error("{doing} Secret {name}: {source}; check the Role of the operator's service account")]
    Api {
        /// What was being done.
        doing: &'static str,
        /// The Secret.
        name: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("{doing} Secret {name}: no answer in time")]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// The Secret.
        name: String,
    },
    /// No certificate.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The certificate is of no use.
    #[error(transparent)]
    Use(#[from] UseError),
}

/// The Secret and what it is kept for.
pub struct Keeper {
    /// Reaches the Secret.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whom the certificate is for.
    pub hosts: Vec<String>,
    /// How long things last.
    pub lifetimes: Lifetimes,
}

impl Keeper {
    /// Keeps certificate and bundle current until `stop`.
    pub async fn keep(&self, served: Arc<Served>, bundle: watch::Sender<Option<String>>, stop: CancellationToken) {
        let mut changes = self.changes();
        while !stop.is_cancelled() {
            let wait = match self.step(&served, &bundle).await {
                Ok(wait) => wait.min(LOOK),
                Err(error) => {
                    tracing::error!(%error, "keep the webhook's certificates");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
                Some(()) = changes.next() => {}
            }
        }
    }

    /// Looks once: does what is due, shows what there is. Answers how long nothing will be due.
    ///
    /// # Errors
    /// When the Secret cannot be read or written, or holds nothing of use.
    pub async fn step(&self, served: &Served, bundle: &watch::Sender<Option<String>>) -> Result<Duration, KeepError> {
        loop {
            let secret = self.call("read", self.api().get_opt(&self.name)).await?;
            let certificates = secret.as_ref().and_then(read);
            let now = Timestamp::now();
            let step = due(certificates.as_ref(), &self.hosts, &self.lifetimes, now);
            if let (Due::Nothing(until), Some(certificates)) = (step, &certificates) {
                served.swap(&certificates.leaf.certificate, certificates.leaf.key.reveal())?;
                bundle.send_if_modified(|sent| {
                    let new = Some(certificates.bundle());
                    let modified = *sent != new;
                    *sent = new;
                    modified
                });
                return Ok(Duration::try_from(until.duration_since(now)).unwrap_or_default());
            }
            tracing::info!(?step, secret = self.name, "the webhook's certificates");
            let new = carry_out(step, certificates.as_ref(), &self.hosts, &self.lifetimes, now)?;
            self.write(secret, &new).await?;
        }
    }

    /// Writes over what was read; another replica that was faster wins, and its work is read next.
    async fn write(&self, read: Option<Secret>, certificates: &Certificates) -> Result<(), KeepError> {
        let exists = read.is_some();
        let named = || Secret {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Secret::default()
        };
        let secret = Secret { data: Some(data(certificates)), ..read.unwrap_or_else(named) };
        let parameters = PostParams::default();
        let written = if exists {
            self.call("replace", self.api().replace(&self.name, &parameters, &secret)).await
        } else {
            self.call("create", self.api().create(&parameters, &secret)).await
        };
        match written {
            Ok(secret) => {
                tracing::debug!(version = secret.resource_version(), "wrote the webhook's certificates");
                Ok(())
            }
            Err(KeepError::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() || status.is_not_found()) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn changes(&self) -> impl Stream<Item = ()> + Unpin + use<> {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        Box::pin(watcher(self.api(), config).default_backoff().filter_map(async |event| event.ok().map(drop)))
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn call<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, KeepError> {
        let name = || format!("{}/{}", self.namespace, self.name);
        match timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|source| KeepError::Api { doing, name: name(), source: Box::new(source) }),
            Err(_) => Err(KeepError::Timeout { doing, name: name() }),
        }
    }
}

/// What the Secret holds, unless it is damaged: then it is made anew.
fn read(secret: &Secret) -> Option<Certificates> {
    serde_json::from_slice(&secret.data.as_ref()?.get(STATE)?.0).ok()
}

fn data(certificates: &Certificates) -> BTreeMap<String, ByteString> {
    let state = serde_json::to_vec(certificates).unwrap_or_default();
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    BTreeMap::from([
        (STATE.to_owned(), ByteString(state)),
        ("ca.crt".to_owned(), text(&certificates.bundle())),
        ("tls.crt".to_owned(), text(&certificates.leaf.certificate)),
        ("tls.key".to_owned(), text(certificates.leaf.key.reveal())),
    ])
}
