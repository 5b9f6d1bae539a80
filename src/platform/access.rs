//! Whether a user may do something: Kubernetes RBAC is asked, by a SubjectAccessReview.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

use super::kubernetes::{CallError, call};

/// Asks whether `user` may do what `what` says.
///
/// # Errors
/// When the API server does not say within `limit`.
pub async fn is_allowed(
    client: &Client,
    user: UserInfo,
    what: ResourceAttributes,
    limit: Duration,
) -> Result<bool, CallError> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            resource_attributes: Some(what),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api = Api::<SubjectAccessReview>::all(client.clone());
    let answer = call("ask what a user may do", limit, api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}
