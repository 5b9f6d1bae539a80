//! The WhatsAppBridge of the installation, kept as its file says.

use std::{path::PathBuf, time::Duration};

use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::Status,
};
use thiserror::Error;
use tokio::{fs, time::sleep};

use crate::{
    api::{WhatsAppBridge, labels::INSTALLER},
    platform::{
        kubernetes::{CALL_TIMEOUT, CallError, call},
        watch::Guarded,
    },
};

/// How often the file is read. The kubelet itself needs up to a minute to bring a change into a mount.
const LOOK: Duration = Duration::from_secs(5);
/// How often the object is put right even if the file says the same: it may have been edited or deleted.
const AGAIN: u32 = 12;

/// Why the bridge could not be kept.
#[derive(Debug, Error)]
enum DefaultError {
    #[error("read {path} (--default-bridge): {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} (--default-bridge) is no WhatsAppBridge: {why}")]
    Parse { path: String, why: String },
    #[error("WhatsAppBridge {name}: {source}")]
    Apply { name: String, source: CallError },
    #[error(
        "WhatsAppBridge {name} is that of another installation, in namespace {namespace}: one installation serves a cluster, so \
         uninstall one of the two. If that one is gone, delete the WhatsAppBridge"
    )]
    Anothers { name: String, namespace: String },
}

/// The file and the client.
pub(super) struct DefaultBridge {
    client: Client,
    file: PathBuf,
}

impl DefaultBridge {
    /// Nothing is done yet.
    pub fn new(client: Client, file: PathBuf) -> Self {
        Self { client, file }
    }

    /// Applies the file whenever it changes, and once a minute.
    pub async fn keep(self) {
        let (mut applied, mut looks, mut complained) = (None, 0, None);
        loop {
            let done = self.step(applied.as_ref().filter(|_| looks < AGAIN)).await;
            match done {
                Ok(None) => (looks, complained) = (looks + 1, None),
                Ok(Some((name, text))) => {
                    if applied.as_ref() != Some(&text) {
                        tracing::info!(name, "applied the WhatsAppBridge of the installation");
                    }
                    (applied, looks, complained) = (Some(text), 0, None);
                }
                Err(error) => {
                    let error = error.to_string();
                    if complained.as_ref() != Some(&error) {
                        tracing::error!(error, "keep the WhatsAppBridge of the installation; trying again");
                    }
                    complained = Some(error);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Applies the file unless it is what was applied; its name and text when it was.
    async fn step(&self, applied: Option<&String>) -> Result<Option<(String, String)>, DefaultError> {
        let path = || self.file.display().to_string();
        let read = fs::read_to_string(&self.file).await;
        let text = read.map_err(|source| DefaultError::Read { path: path(), source })?;
        if applied == Some(&text) {
            return Ok(None);
        }
        let bridge = parse(&text).map_err(|why| DefaultError::Parse { path: path(), why })?;
        let (api, name) = (Api::<Guarded<WhatsAppBridge>>::all(self.client.clone()), bridge.name_any());
        let failed = |source| DefaultError::Apply { name: name.clone(), source };
        let there = match call("read it", CALL_TIMEOUT, api.get_opt(&name)).await {
            // A role of a release before does not let us look.
            Err(error) if error.is(Status::is_forbidden) => None,
            there => there.map_err(failed)?,
        };
        // Two that each put it right would take each other's sessions for lost. One that cannot be read is put right.
        if let Some(namespace) =
            there.and_then(|there| there.0.ok()).and_then(|there| there.installed_in().map(str::to_owned))
            && namespace != bridge.spec.credentials_secret_ref.namespace
        {
            return Err(DefaultError::Anothers { name, namespace });
        }
        let parameters = PatchParams::apply(INSTALLER).force();
        let applied = call("apply it", CALL_TIMEOUT, api.patch(&name, &parameters, &Patch::Apply(&bridge))).await;
        applied.map_err(|source| DefaultError::Apply { name: name.clone(), source })?;
        Ok(Some((name, text)))
    }
}

fn parse(text: &str) -> Result<WhatsAppBridge, String> {
    let bridge: WhatsAppBridge = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if bridge.name_any().is_empty() {
        return Err("metadata.name is missing".into());
    }
    Ok(bridge)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_example_is_a_bridge_and_nonsense_is_refused_with_the_reason() {
        let example = include_str!("../../../examples/bridge.yaml");
        assert!(parse(example).is_ok());
        assert!(parse(&example.replace("name: builtin", "")).is_err());
        assert!(parse("kind: Secret").is_err());
    }
}
