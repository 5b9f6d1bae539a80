//! Whether a requester may name another person as owner: Kubernetes RBAC decides.

use std::time::Duration;

use k8s_openapi::api::{authentication::v1::UserInfo, authorization::v1::ResourceAttributes};
use kube::Client;

use crate::{
    api::GROUP,
    platform::{access, kubernetes::CallError},
    rules::assign::ASSIGN_VERB,
};

/// One call of a review, which the API server waits 5 s for.
const CALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// Asks the API server whether `user` has the verb `assign-owner` on `whatsappinstances` in `namespace`.
///
/// # Errors
/// When it does not say in time.
pub async fn may_assign_owner(client: &Client, user: UserInfo, namespace: &str) -> Result<bool, CallError> {
    let what = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(ASSIGN_VERB.to_owned()),
        group: Some(GROUP.to_owned()),
        resource: Some("whatsappinstances".to_owned()),
        ..ResourceAttributes::default()
    };
    access::is_allowed(client, user, what, CALL_TIMEOUT).await
}
