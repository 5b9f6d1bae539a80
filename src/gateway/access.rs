//! Who may send and read messages, which are no objects of Kubernetes: the owner of the instance, and whoever RBAC lets.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::{authentication::v1::UserInfo, authorization::v1::ResourceAttributes};
use kube::Client;
use tokio::time::Instant;

use super::{code::Code, failure::Failure, remembered::Remembered};
use crate::{
    api::GROUP,
    platform::{access, kubernetes::CALL_TIMEOUT, lock},
};

/// How long an answer of RBAC counts. Rights that are taken away hold for so long.
const KNOWN: Duration = Duration::from_secs(10);

/// What somebody wants with messages; a verb on `whatsappinstances/messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Send one, or call one back.
    Create,
    /// Read them.
    Get,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
        }
    }
}

type Question = (String, String, Verb);

/// Asks RBAC, and remembers for a moment.
pub struct Access {
    client: Client,
    remembered: Mutex<Remembered<Question, bool>>,
}

impl Access {
    /// By the gateway's own client.
    pub fn new(client: Client) -> Self {
        Self { client, remembered: Mutex::default() }
    }

    /// Whether a user may do something with the messages of an owner's instance in a namespace.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn may(
        &self,
        user: &Arc<UserInfo>,
        verb: Verb,
        owner: Option<&str>,
        namespace: &str,
    ) -> Result<bool, Failure> {
        let name = user.username.as_deref().unwrap_or_default();
        if owner.is_some_and(|owner| owner == name) {
            return Ok(true);
        }
        // Groups are a part of who asks; a token's groups do not change while it is remembered here.
        let who =
            format!("{name}\n{}", user.groups.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\n"));
        let question = (who, namespace.to_owned(), verb);
        let now = Instant::now();
        if let Some(answer) = lock(&self.remembered).get(&question, now) {
            return Ok(*answer);
        }
        let what = ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            verb: Some(verb.word().to_owned()),
            group: Some(GROUP.to_owned()),
            resource: Some("whatsappinstances".to_owned()),
            subresource: Some("messages".to_owned()),
            ..ResourceAttributes::default()
        };
        let answer = access::is_allowed(&self.client, UserInfo::clone(user), what, CALL_TIMEOUT).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, "ask who may send and read messages");
            Failure::new(Code::AccessUnknown, "whether you may do this cannot be checked now; try again in a moment")
        })?;
        lock(&self.remembered).put(question, answer, KNOWN, now);
        Ok(answer)
    }
}
