//! The Secret that replicas share: the first one to see that something is due does it; the resourceVersion decides which was first.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    core::Status,
};
use thiserror::Error;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    authority::MakeError,
    configured::is_published,
    decide::{Certificates, Due, Lifetimes, carry_out, due},
};
use crate::platform::{
    anew::Anew,
    backoff::{Backoff, spread},
    https::{Tls, TlsError},
    kubernetes::{CALL_TIMEOUT, CallError, call},
    watch::changes_of_one,
};

/// Key of the whole state; the others repeat parts of it for people and tools.
const STATE: &str = "certificates.json";
/// Key of the authorities to trust.
const AUTHORITIES: &str = "ca.crt";
/// How soon to try again after an error; it doubles up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How often to look even if nothing seems due: a watch may miss, and clocks jump.
const LOOK: Duration = Duration::from_secs(300);
/// How often one process replaces what is not valid yet by its clock. Two replicas of which one has a clock that is days ahead would
/// otherwise replace each other's without a pause.
const REMAKE_EVERY: Duration = Duration::from_secs(600);
/// Writes begun in one look. Another replica may be faster once or twice; after that something else is wrong.
const ATTEMPTS: usize = 8;

/// Why the certificates could not be kept.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The API server did not do what was asked.
    #[error("Secret {secret}: {source}; check the Role of the operator's service account")]
    Call {
        /// The Secret.
        secret: String,
        /// The cause.
        source: CallError,
    },
    /// There is no such namespace.
    #[error(
        "Secret {secret} cannot be created, since its namespace does not exist; create it, or choose another by --webhook-secret-namespace or --lease-namespace"
    )]
    NoNamespace {
        /// The Secret.
        secret: String,
    },
    /// Others wrote it faster every time.
    #[error("Secret {secret} changed under every attempt to write it")]
    Contended {
        /// The Secret.
        secret: String,
    },
    /// No certificate.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The certificate is of no use.
    #[error("the certificate: {0}")]
    Use(#[from] TlsError),
}

/// The Secret and what it is kept for.
#[derive(Clone)]
pub struct CertificateSecret {
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
    /// Where clients learn whom to trust.
    pub told_by: ToldBy,
}

/// What a process remembers from one look to the next.
#[derive(Debug, Default)]
pub struct Memory {
    anew: Anew,
    /// When it last replaced what was not valid yet.
    remade: Option<Instant>,
}

impl Memory {
    /// How long to leave what is not valid yet; none when it is to be replaced now.
    fn leaves_for(&self, now: Instant) -> Option<Duration> {
        let left = REMAKE_EVERY.checked_sub(now.saturating_duration_since(self.remade?))?;
        (!left.is_zero()).then_some(left)
    }
}

/// Where clients learn whom to trust: what has to hold a new authority before it may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// The webhook configurations of this name.
    Configurations(String),
    /// `ca.crt` of the Secret of this name, in the same namespace.
    Secret(String),
    /// Another replica does it.
    Others,
}

impl CertificateSecret {
    /// Shows the certificate and passes on the bundle, both as they are in the Secret, and does what is due, until `stop`.
    pub async fn keep(&self, tls: Arc<Tls>, bundle: watch::Sender<Option<String>>, stop: CancellationToken) {
        let (mut changes, mut memory) = (self.changes(), Memory::default());
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        while !stop.is_cancelled() {
            let wait = match self.step(&tls, &bundle, &mut memory).await {
                Ok(wait) => {
                    backoff.reset();
                    wait.min(LOOK)
                }
                Err(error) => {
                    let wait = spread(backoff.pause());
                    tracing::error!(%error, retry_in_ms = wait.as_millis(), secret = self.name, "keep certificates");
                    wait
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
    pub async fn step(
        &self,
        tls: &Tls,
        bundle: &watch::Sender<Option<String>>,
        memory: &mut Memory,
    ) -> Result<Duration, CertificateError> {
        let left = memory.leaves_for(Instant::now());
        for _ in 0..ATTEMPTS {
            let secret = self.call("read", self.api().get_opt(&self.name)).await?;
            if let Some(wait) = memory.anew.puts_off(&self.name, secret.is_some()) {
                return Ok(wait);
            }
            let certificates = secret.as_ref().and_then(read);
            let published = self.is_next_published(certificates.as_ref()).await;
            let now = Timestamp::now();
            let step = due(certificates.as_ref(), &self.hosts, &self.lifetimes, published, now);
            let to_come = certificates.as_ref().is_some_and(|certificates| certificates.are_to_come(now));
            let left = left.filter(|_| to_come);
            let until = match step {
                Due::Nothing(until) => Some(until),
                _ => left.map(|left| now.saturating_add(left).unwrap_or(now)),
            };
            if let (Some(until), Some(certificates)) = (until, &certificates) {
                tls.show(&certificates.leaf.certificate, certificates.leaf.key.reveal())?;
                bundle.send_if_modified(|sent| {
                    let new = Some(certificates.bundle());
                    let modified = *sent != new;
                    *sent = new;
                    modified
                });
                let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
                let waits = certificates.next.is_some() && !published;
                return Ok(if waits { wait.min(self.look_for_publication()) } else { wait });
            }
            if to_come {
                tracing::warn!(
                    secret = self.name,
                    "the certificates are not valid yet by this machine's clock; they are made anew"
                );
                memory.remade = Some(Instant::now());
            }
            tracing::info!(?step, secret = self.name, "certificates");
            let new = carry_out(step, certificates.as_ref(), &self.hosts, &self.lifetimes, now)?;
            self.write(secret, &new).await?;
        }
        Err(CertificateError::Contended { secret: self.secret() })
    }

    /// The bundle as it is in the Secret now.
    ///
    /// # Errors
    /// When the Secret cannot be read.
    pub async fn bundle(&self) -> Result<Option<String>, CertificateError> {
        let secret = self.call("read", self.api().get_opt(&self.name)).await?;
        Ok(secret.as_ref().and_then(read).map(|certificates| certificates.bundle()))
    }

    /// Whether clients know of the authority that is to sign next. What cannot be found out counts as no.
    async fn is_next_published(&self, certificates: Option<&Certificates>) -> bool {
        let Some(next) = certificates.and_then(|them| them.next.as_ref()) else { return true };
        let (name, published) = match &self.told_by {
            ToldBy::Others => return true,
            ToldBy::Configurations(name) => (name, is_published(&self.client, name, &next.certificate).await),
            ToldBy::Secret(name) => {
                let read = call("read it", CALL_TIMEOUT, self.api().get_opt(name)).await;
                (name, read.map(|secret| secret.is_some_and(|secret| tells(&secret, &next.certificate))))
            }
        };
        match published {
            Ok(true) => true,
            Ok(false) => {
                tracing::info!(name, "clients have not been told of the next authority yet; its turn waits");
                false
            }
            Err(error) => {
                tracing::warn!(name, %error, "whether the next authority is published is not known; its turn waits");
                false
            }
        }
    }

    /// How often to look whether the next authority has been published.
    fn look_for_publication(&self) -> Duration {
        (self.lifetimes.overlap / 8).clamp(Duration::from_millis(200), Duration::from_secs(30))
    }

    /// Writes over what was read; another replica that was faster wins, and its work is read next.
    async fn write(&self, read: Option<Secret>, certificates: &Certificates) -> Result<(), CertificateError> {
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
                tracing::debug!(version = secret.resource_version(), secret = self.name, "wrote certificates");
                Ok(())
            }
            Err(CertificateError::Call { source, .. })
                if source.is(Status::is_conflict) || source.is(Status::is_already_exists) =>
            {
                Ok(())
            }
            // Deleted since it was read: the next look tells what to do.
            Err(CertificateError::Call { source, .. }) if exists && source.is(Status::is_not_found) => Ok(()),
            // A create is answered so when there is no namespace to create it in.
            Err(CertificateError::Call { secret, source }) if source.is(Status::is_not_found) => {
                Err(CertificateError::NoNamespace { secret })
            }
            Err(error) => Err(error),
        }
    }

    fn changes(&self) -> impl Stream<Item = ()> + Unpin + use<> {
        changes_of_one(self.api(), &self.name, "a Secret with certificates")
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn secret(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    async fn call<T>(
        &self,
        doing: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, CertificateError> {
        let called = call(doing, CALL_TIMEOUT, request).await;
        called.map_err(|source| CertificateError::Call { secret: self.secret(), source })
    }
}

/// Whether `ca.crt` of a Secret holds an authority, PEM.
fn tells(secret: &Secret, authority: &str) -> bool {
    let bundle = secret.data.as_ref().and_then(|data| data.get(AUTHORITIES));
    bundle.is_some_and(|bundle| String::from_utf8_lossy(&bundle.0).contains(authority.trim()))
}

/// What the Secret holds, unless it is damaged: then it is replaced.
fn read(secret: &Secret) -> Option<Certificates> {
    serde_json::from_slice(&secret.data.as_ref()?.get(STATE)?.0).ok()
}

fn data(certificates: &Certificates) -> BTreeMap<String, ByteString> {
    let state = serde_json::to_vec(certificates).unwrap_or_default();
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    BTreeMap::from([
        (STATE.to_owned(), ByteString(state)),
        (AUTHORITIES.to_owned(), text(&certificates.bundle())),
        ("tls.crt".to_owned(), text(&certificates.leaf.certificate)),
        ("tls.key".to_owned(), text(certificates.leaf.key.reveal())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_valid_yet_is_replaced_now_and_then_and_not_without_a_pause() {
        let now = Instant::now();
        assert_eq!(Memory::default().leaves_for(now), None);
        let memory = Memory { remade: Some(now), ..Memory::default() };
        assert_eq!(memory.leaves_for(now), Some(REMAKE_EVERY));
        assert_eq!(memory.leaves_for(now + REMAKE_EVERY), None);
    }
}
