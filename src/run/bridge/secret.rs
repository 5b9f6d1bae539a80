//! The Secret of the bridge's token: read, decide, write; the resource version decides which replica was first.

use std::{collections::BTreeMap, time::Duration};

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

use super::token::{Held, due, fresh};
use crate::{
    api::labels::ROTATE_TOKEN,
    model::Sensitive,
    platform::{
        anew::Anew,
        backoff::{Backoff, spread},
        kubernetes::{CALL_TIMEOUT, CallError, call},
        watch::changes_of_one,
    },
};

/// Keys of the Secret.
const TOKEN: &str = "token";
const ACCEPTED: &str = "accepted";
const CHANGE: &str = "change.json";
const AUTHORITIES: &str = "ca.crt";
/// How often to look even if nothing seems due: a watch may miss, and clocks jump.
const LOOK: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Why the token could not be kept.
#[derive(Debug, Error)]
enum KeepError {
    #[error("{0}; check the Role of the operator's service account")]
    Call(#[from] CallError),
    #[error("the system gave no randomness for a token")]
    Random,
}

/// The Secret and how its token is changed.
pub(super) struct TokenSecret {
    /// Reaches the Secret.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How long a new token takes to reach every bridge.
    pub overlap: Duration,
}

impl TokenSecret {
    /// Keeps token and authorities, until `stop`. With a `bundle`, nothing is written before there is one, so that a reader
    /// who finds a token finds the authorities to trust too.
    pub async fn keep(&self, mut bundle: Option<watch::Receiver<Option<String>>>, stop: CancellationToken) {
        let (mut changes, mut anew) = (self.changes(), Anew::default());
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        while !stop.is_cancelled() {
            let authorities = bundle.as_mut().map(|bundle| bundle.borrow_and_update().clone());
            let wait = if authorities == Some(None) {
                LOOK
            } else {
                match self.step(authorities.flatten().as_deref(), &mut anew).await {
                    Ok(wait) => {
                        backoff.reset();
                        wait
                    }
                    Err(error) => {
                        let wait = spread(backoff.pause());
                        tracing::error!(%error, secret = self.name, retry_in_ms = wait.as_millis(), "keep the bridge's token");
                        wait
                    }
                }
            };
            let changed = async {
                let told = match &mut bundle {
                    Some(bundle) => bundle.changed().await.is_ok(),
                    None => false,
                };
                if !told {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
                Some(()) = changes.next() => {}
                () = changed => {}
            }
        }
    }

    /// Looks once, and writes what is due. Answers how long nothing will be.
    async fn step(&self, authorities: Option<&str>, anew: &mut Anew) -> Result<Duration, KeepError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = call("read the Secret of the token", CALL_TIMEOUT, api.get_opt(&self.name)).await?;
        if let Some(wait) = anew.puts_off(&self.name, found.is_some()) {
            return Ok(wait);
        }
        let held = found.as_ref().map(read).unwrap_or_default();
        let asked = found.as_ref().and_then(|secret| secret.annotations().get(ROTATE_TOKEN).cloned());
        let (now, new_token) = (Timestamp::now(), fresh().map_err(|_| KeepError::Random)?);
        let due = due(&held, asked.as_deref(), authorities, self.overlap, now, || new_token);
        let wait = |until: Timestamp| Duration::try_from(until.duration_since(now)).unwrap_or_default();
        if due.held != held {
            let step = due.held.change.step;
            if step != held.change.step {
                tracing::info!(?step, secret = self.name, "changing the bridge's token");
            }
            self.write(&api, found, &due.held).await?;
        }
        Ok(due.at.map_or(LOOK, wait).min(LOOK))
    }

    /// Writes over what was read; when another replica was faster, the watch shows what it wrote.
    async fn write(&self, api: &Api<Secret>, read: Option<Secret>, held: &Held) -> Result<(), KeepError> {
        let parameters = PostParams::default();
        let written = match read {
            Some(mut secret) => {
                let mut data = secret.data.take().unwrap_or_default();
                data.extend(written(held));
                let secret = Secret { data: Some(data), ..secret };
                call("write the token", CALL_TIMEOUT, api.replace(&self.name, &parameters, &secret)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let secret = Secret { metadata, data: Some(written(held)), ..Secret::default() };
                call("make the token", CALL_TIMEOUT, api.create(&parameters, &secret)).await
            }
        };
        match written {
            Err(error) if error.is(Status::is_conflict) || error.is(Status::is_already_exists) => Ok(()),
            written => Ok(written.map(drop)?),
        }
    }

    fn changes(&self) -> impl Stream<Item = ()> + Unpin + use<> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        changes_of_one(api, &self.name, "the Secret of the bridge's token")
    }
}

/// What a Secret holds; what cannot be read counts as not there.
fn read(secret: &Secret) -> Held {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
    };
    let lines = text(ACCEPTED).unwrap_or_default();
    let accepted = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    Held {
        token: text(TOKEN).map(|token| Sensitive::new(token.trim())),
        accepted: accepted.map(Sensitive::new).collect(),
        change: text(CHANGE).and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        authorities: text(AUTHORITIES),
    }
}

fn written(held: &Held) -> BTreeMap<String, ByteString> {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    let accepted: String = held.accepted.iter().flat_map(|token| [token.reveal(), "\n"]).collect();
    let token = held.token.as_ref().map(|token| (TOKEN.to_owned(), text(token.reveal())));
    let authorities = held.authorities.as_ref().map(|pem| (AUTHORITIES.to_owned(), text(pem)));
    let change = serde_json::to_string(&held.change).unwrap_or_default();
    let others = [(ACCEPTED.to_owned(), text(&accepted)), (CHANGE.to_owned(), text(&change))];
    others.into_iter().chain(token).chain(authorities).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(read(&Secret::default()), Held::default());
        let token = || Sensitive::new("0123456789abcdef");
        let held = due(&Held::default(), Some("1"), Some("PEM"), LOOK, Timestamp::UNIX_EPOCH, token).held;
        let next =
            due(&held, Some("2"), Some("PEM"), LOOK, Timestamp::UNIX_EPOCH, || Sensitive::new("fedcba9876543210"));
        for held in [held, next.held] {
            assert_eq!(read(&Secret { data: Some(written(&held)), ..Secret::default() }), held);
        }
    }
}
