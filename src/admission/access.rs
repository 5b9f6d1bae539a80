//! Whether a requester may name somebody else as owner: RBAC is asked, nothing of ours.

use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

use crate::{api::GROUP, rules::owner::ASSIGN_VERB};

/// Asks the API server whether `user` has the verb `assign-owner` on `whatsappinstances` in `namespace`.
pub async fn may_assign_owner(client: &Client, user: UserInfo, namespace: &str) -> Result<bool, kube::Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some(ASSIGN_VERB.to_owned()),
                group: Some(GROUP.to_owned()),
                resource: Some("whatsappinstances".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}
