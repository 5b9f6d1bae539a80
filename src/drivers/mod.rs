//! Drivers: how callers talk to a kind of bridge.
//!
//! A `WhatsAppBridge` names exactly one kind. [`endpoints`] says which shards it has, [`Endpoint::driver`] and
//! [`Endpoint::connect`] give the [`Driver`] of one of them. Controller and gateway see nothing but the trait.
//!
//! A bridge of another kind is one more field in `api/bridge.rs`, one more module here, and one more case in everything
//! that asks for the kind: [`Kind`], [`endpoints`], [`shards`], [`Endpoint`]. Every driver tells of sessions in the types of
//! [`bridge_api`](crate::bridge_api), and of failures as [`BridgeError`], whose reason users see.

mod batches;
mod builtin;
mod credentials;
#[cfg(test)]
pub(crate) mod scripted_driver;

use std::{fmt, pin::Pin, sync::Arc};

use async_trait::async_trait;
use futures::Stream;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use thiserror::Error;

pub use self::credentials::{Credentials, CredentialsError, credentials};
use crate::{
    api::{BridgeBinding, SecretKeyRef, WhatsAppBridge},
    bridge_api::{
        BridgeError, Claim, Cursor, Deletion, Info, Load, LoadQuery, Message, MessageEvents, MessageList, MessageSpec,
        Session, SessionSpec,
    },
};

/// What callers want of one shard of a bridge.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// What the shard says of itself: its version and what it can do. Asked before something is used that not every bridge
    /// can do.
    async fn info(&self) -> Result<Info, BridgeError>;

    /// Follows the sessions of the shard: from `since` on where that is possible, otherwise from a snapshot on.
    async fn updates(&self, since: Option<&ResumePoint>) -> Result<Updates, BridgeError>;

    /// States everything that is wanted of a session; idempotent.
    async fn put(&self, session: &str, wanted: &SessionSpec) -> Result<Session, BridgeError>;

    /// Deletes a session and its keys, `unlink`ing the device at WhatsApp first. Repeated until [`Deletion::Gone`].
    async fn delete(&self, session: &str, unlink: bool) -> Result<Deletion, BridgeError>;

    /// Its messages, if this kind of bridge can send any.
    fn messages(self: Arc<Self>) -> Option<Arc<dyn Messages>> {
        None
    }
}

/// What callers want of a shard that sends messages. The gateway's affair: the controller learns nothing of them.
#[async_trait]
pub trait Messages: Send + Sync {
    /// Has a message sent under this id; idempotent. On the disk when this returns, with whether it is new.
    async fn send(&self, session: &str, id: &str, message: &MessageSpec) -> Result<(Message, bool), BridgeError>;

    /// A message.
    async fn read(&self, session: &str, id: &str) -> Result<Message, BridgeError>;

    /// Messages of a session before this sequence number, newest first.
    async fn list(&self, session: &str, before: Option<u64>, limit: u32) -> Result<MessageList, BridgeError>;

    /// Calls a message back that was not handed to WhatsApp yet.
    async fn call_back(&self, session: &str, id: &str) -> Result<Message, BridgeError>;

    /// How busy sessions are, and which of them a recipient knows.
    async fn load(&self, query: &LoadQuery) -> Result<Vec<Load>, BridgeError>;

    /// Claims a key; the claim that counts, this one or one that was made before. On the disk when this returns.
    async fn claim(&self, key: &str, claim: &Claim) -> Result<Claim, BridgeError>;

    /// The claim of a key, without making one; none either when the bridge is of a release that cannot say.
    async fn claimed(&self, key: &str) -> Result<Option<Claim>, BridgeError>;

    /// Follows what becomes of messages, after `since` or from now on.
    async fn events(&self, since: Option<&Cursor>) -> Result<MessageEvents, BridgeError>;
}

/// Where updates can be taken up again; only the driver that gave it knows what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint(String);

/// The sessions of a shard as they are, and what becomes of them.
pub struct Updates {
    /// Everything there is, unless the updates go on from where they were asked to.
    pub snapshot: Option<Snapshot>,
    /// Where the updates begin.
    pub since: ResumePoint,
    /// What comes after that. Ends after its first error.
    pub stream: UpdateStream,
}

/// The updates of a shard as they come, each with the point behind it where there is one.
pub type UpdateStream = Pin<Box<dyn Stream<Item = Result<(Option<ResumePoint>, Update), BridgeError>> + Send>>;

/// All sessions of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Those that could be read.
    pub sessions: Vec<Session>,
    /// The ids of those that could not. They exist; nothing more is known of them.
    pub unreadable: Vec<String>,
}

/// What became of one session.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// It is now like this.
    Session(Box<Session>),
    /// It changed into something that cannot be read.
    Unreadable(String),
    /// It is gone, keys and all.
    Gone(String),
    /// Updates were missed: only a snapshot tells. The last one of its stream.
    Missed,
}

/// How one shard is reached, whatever kind of bridge it belongs to. A change makes a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where the token is kept.
    pub credentials: SecretKeyRef,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Builtin {
        url: String,
        /// PEM certificates to trust, instead of those of the credentials or the platform's.
        ca_bundle: Option<String>,
    },
    #[cfg(test)]
    Scripted(scripted_driver::Scripted),
}

impl Endpoint {
    /// A shard of the bridge of this project.
    pub fn builtin(url: String, ca_bundle: Option<String>, credentials: SecretKeyRef) -> Self {
        Self { credentials, kind: Kind::Builtin { url, ca_bundle } }
    }

    /// A shard that does as its script says.
    #[cfg(test)]
    pub(crate) fn scripted(driver: scripted_driver::Scripted, credentials: SecretKeyRef) -> Self {
        Self { credentials, kind: Kind::Scripted(driver) }
    }

    /// The driver of this shard. Nothing is sent yet.
    ///
    /// # Errors
    /// When the address or the CA bundle is none.
    pub fn driver(&self, credentials: Credentials) -> Result<Arc<dyn Driver>, BridgeError> {
        match &self.kind {
            Kind::Builtin { url, ca_bundle } => {
                let authorities = ca_bundle.as_deref().or(credentials.authorities.as_deref());
                Ok(Arc::new(builtin::Builtin::new(url, credentials.token, authorities)?))
            }
            #[cfg(test)]
            Kind::Scripted(driver) => Ok(Arc::new(driver.clone())),
        }
    }

    /// The driver of this shard, with the credentials out of the Secret that its bridge's `credentialsSecretRef` names. Nothing is
    /// sent yet.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(&self, secret: &Secret) -> Result<Arc<dyn Driver>, ConnectError> {
        Ok(self.driver(credentials(secret, &self.credentials)?)?)
    }

    /// The address, for people.
    pub fn address(&self) -> &str {
        match &self.kind {
            Kind::Builtin { url, .. } => url,
            #[cfg(test)]
            Kind::Scripted(_) => "script",
        }
    }
}

/// The shards of a bridge, in the order of its spec.
pub fn endpoints(bridge: &WhatsAppBridge) -> Vec<(BridgeBinding, Endpoint)> {
    let Some(builtin) = &bridge.spec.builtin else { return Vec::new() };
    let endpoint = |url: &String| {
        Endpoint::builtin(url.clone(), builtin.ca_bundle.clone(), bridge.spec.credentials_secret_ref.clone())
    };
    let name = bridge.name_any();
    let shard = |name: &str, shard: &String| BridgeBinding { name: name.to_owned(), shard: shard.clone() };
    builtin.shards.iter().map(|one| (shard(&name, &one.name), endpoint(&one.url))).collect()
}

/// What a bridge's shards are called, in the order of its spec.
pub fn shards(bridge: &WhatsAppBridge) -> impl Iterator<Item = &str> {
    bridge.spec.builtin.iter().flat_map(|builtin| &builtin.shards).map(|shard| shard.name.as_str())
}

/// Why there is no driver.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The Secret does not hold a token.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The address or the CA bundle is none.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

/// The id of an instance's session on every kind of bridge: the uid of the object, which is never used twice.
pub fn session_id(uid: &str) -> &str {
    uid
}

/// The uid of the instance that a session belongs to, if it belongs to one.
pub fn instance_uid(session_id: &str) -> &str {
    session_id
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bridge() -> WhatsAppBridge {
        serde_json::from_value(json!({
            "metadata": {"name": "main"},
            "spec": {
                "builtin": {"shards": [{"name": "s0", "url": "http://127.0.0.1:1"}, {"name": "s1", "url": "nonsense"}]},
                "credentialsSecretRef": {"namespace": "ns", "name": "token", "key": "token"},
            },
        }))
        .unwrap()
    }

    fn secret(value: &str) -> Secret {
        serde_json::from_value(json!({"data": {"token": value}})).unwrap()
    }

    fn shard(bridge: &WhatsAppBridge, name: &str) -> Endpoint {
        // Several tests may come first; only one installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        endpoints(bridge).into_iter().find(|(binding, _)| binding.shard == name).unwrap().1
    }

    #[test]
    fn a_shard_and_a_secret_make_a_driver_and_whatever_is_missing_is_named() {
        // "right" and nothing, in base64.
        assert!(shard(&bridge(), "s0").connect(&secret("cmlnaHQ=")).is_ok());
        let said = |name, value| shard(&bridge(), name).connect(&secret(value)).unwrap_err().to_string();
        assert!(said("s0", "").contains("Secret ns/token, key token"));
        assert!(said("s1", "cmlnaHQ=").contains("not a valid http or https URL"));
    }

    #[test]
    fn authorities_may_stand_beside_the_token_and_the_spec_wins() {
        let with = |authority: &str| -> Secret {
            let data = json!({"token": "right", "ca.crt": authority});
            let secret: Secret = serde_json::from_value(json!({"stringData": data})).unwrap();
            let data = secret.string_data.unwrap().into_iter();
            let data = data.map(|(key, value)| (key, k8s_openapi::ByteString(value.into_bytes()))).collect();
            Secret { data: Some(data), ..Secret::default() }
        };
        let refused =
            |bridge: &WhatsAppBridge, secret: &Secret| shard(bridge, "s0").connect(secret).unwrap_err().to_string();
        assert!(shard(&bridge(), "s0").connect(&with(" ")).is_ok());
        assert_eq!(refused(&bridge(), &with("nonsense")), BridgeError::CaBundle.to_string());
        let mut own = bridge();
        own.spec.builtin.as_mut().unwrap().ca_bundle = Some("nonsense".into());
        let secret = with(" ");
        assert_eq!(refused(&own, &secret), BridgeError::CaBundle.to_string());
    }
}
