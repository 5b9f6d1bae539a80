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

/// What a caller wants to do with messages; a verb on `whatsappinstances/messages`.
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
        if owner.is_some_and(|owner| owner == name) && !is_narrowed(user) {
            return Ok(true);
        }
        let question = (who(user), namespace.to_owned(), verb);
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

/// Who asks, all of it: the token of somebody with fewer groups or narrower scopes is not answered by what is remembered of
/// another of theirs.
fn who(user: &UserInfo) -> String {
    let groups = user.groups.iter().flatten().map(String::as_str);
    let extra = user.extra.iter().flatten().map(|(key, values)| format!("{key}={}", values.join(",")));
    let name = user.username.as_deref().unwrap_or_default();
    let parts: Vec<String> = groups.map(str::to_owned).chain(extra).collect();
    format!("{name}\n{}", parts.join("\n"))
}

/// Whether the token is good for only a part of what its user may do, as OpenShift says with `scopes.authorization.openshift.io`:
/// then that part is RBAC's to say, for owners too.
fn is_narrowed(user: &UserInfo) -> bool {
    user.extra.iter().flatten().any(|(key, _)| key.starts_with("scopes."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_with_scopes_is_another_asker_and_not_simply_the_owner() {
        let user = |extra| -> UserInfo {
            serde_json::from_value(json!({"username": "alice", "groups": ["team"], "extra": extra})).unwrap()
        };
        let (whole, id) = (user(json!({})), user(json!({"authentication.kubernetes.io/credential-id": ["JTI=1"]})));
        let narrow = user(json!({"scopes.authorization.openshift.io": ["user:info"]}));
        assert!(!is_narrowed(&whole) && !is_narrowed(&id) && is_narrowed(&narrow));
        assert_ne!(who(&whole), who(&narrow));
        assert_eq!(who(&whole), "alice\nteam");
    }
}
