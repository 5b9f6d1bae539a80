//! Whose a bearer token is: the API server is asked, by a TokenReview, so that every user it knows is known here.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Api, Client, api::PostParams};

use super::kubernetes::{CallError, call};

/// The user of `token`; `None` when the API server does not know it, or when it is for none of `audiences`. Without
/// audiences, those of the API server itself are meant.
///
/// # Errors
/// When the API server does not say within `limit`. No error quotes the token.
pub async fn user_of(
    client: &Client,
    token: &str,
    audiences: &[String],
    limit: Duration,
) -> Result<Option<UserInfo>, CallError> {
    // The API server calls that a bad request.
    if token.is_empty() {
        return Ok(None);
    }
    let wanted = (!audiences.is_empty()).then(|| audiences.to_vec());
    let review =
        TokenReview { spec: TokenReviewSpec { token: token.to_owned(), audiences: wanted }, ..TokenReview::default() };
    let api = Api::<TokenReview>::all(client.clone());
    let answer = call("ask whose a token is", limit, api.create(&PostParams::default(), &review)).await?;
    let status = answer.status.unwrap_or_default();
    // An authenticator that does not know of audiences answers without them: that is no answer to the question.
    let is_meant = audiences.is_empty()
        || status.audiences.unwrap_or_default().iter().any(|audience| audiences.contains(audience));
    Ok(status.user.filter(|_| status.authenticated == Some(true) && is_meant))
}
