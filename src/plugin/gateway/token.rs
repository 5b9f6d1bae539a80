//! The bearer token that the gateway gets: the kubeconfig's own, or one of a service account.

use axum::http::{Request, Response, header::AUTHORIZATION};
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api,
    api::PostParams,
    client::{Body, ConfigExt as _},
};
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};

use crate::{
    model::Sensitive,
    plugin::{
        client::Cluster,
        error::{Attempt, PluginError, root_cause},
    },
};

/// The shortest life that the API server gives a token.
const SECONDS: i64 = 600;

/// A token for the gateway.
///
/// # Errors
/// When there is none, or it is refused.
pub async fn token(cluster: &Cluster, account: Option<&str>) -> Result<Sensitive, PluginError> {
    if let Some(account) = account {
        return of_account(cluster, account).await;
    }
    if cluster.config.auth_info.impersonate.is_some() {
        return Err(PluginError::Usage(
            "--as is for the API server; the gateway goes by the token, so leave it out or give --as-service-account NAME"
                .to_owned(),
        ));
    }
    own(cluster).await?.ok_or_else(|| {
        PluginError::Kubeconfig(format!(
            "context \"{}\" signs in without a bearer token (with a client certificate, for example), which cannot be passed on to the gateway; name a service account of namespace \"{}\" to call as: --as-service-account NAME",
            cluster.target.context, cluster.namespace
        ))
    })
}

/// The token that requests to the API server carry, if they carry one: whatever it comes from, the same code finds it.
async fn own(cluster: &Cluster) -> Result<Option<Sensitive>, PluginError> {
    let failed = |error: &(dyn std::error::Error + 'static)| PluginError::Kubeconfig(root_cause(error));
    let Some(layer) = cluster.config.auth_layer().map_err(|error| failed(&error))? else { return Ok(None) };
    let shows = service_fn(|request: Request<Body>| async move {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok().map(str::to_owned));
        Ok::<_, BoxError>(Response::new(header))
    });
    // Named, so that the compiler need not find out for every lifetime that it may be sent between threads.
    let asked: BoxFuture<'static, Result<Response<Option<String>>, BoxError>> =
        layer.layer(shows).oneshot(Request::new(Body::empty())).boxed();
    let shown = asked.await.map_err(|error| failed(&*error))?.into_body();
    let token = shown.as_deref().and_then(|header| header.strip_prefix("Bearer "));
    Ok(token.filter(|token| !token.is_empty()).map(Sensitive::new))
}

async fn of_account(cluster: &Cluster, account: &str) -> Result<Sensitive, PluginError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let attempt = Attempt { verb: "create", namespace: Some(&cluster.namespace), name: Some(account) };
    let params = PostParams::default();
    let granted = accounts.create_subresource::<TokenRequest, TokenRequest>("token", account, &params, &request);
    let granted = cluster.limited(attempt, granted).await.map_err(|error| match error {
        PluginError::NotFound { name, namespace } => PluginError::Ended(format!(
            "there is no service account \"{name}\" in namespace \"{namespace}\"; list them with `kubectl get serviceaccounts -n {namespace}`"
        )),
        PluginError::Forbidden { .. } => PluginError::Ended(format!(
            "you may not create a token of service account \"{account}\" in namespace \"{}\"; ask for a role with verb \"create\" on serviceaccounts/token",
            cluster.namespace
        )),
        PluginError::Refused { message, .. } => {
            PluginError::Ended(format!("the API server gave no token of service account \"{account}\": {message}"))
        }
        other => other,
    })?;
    let token = granted.status.and_then(|status| status.token).filter(|token| !token.is_empty());
    token.map(Sensitive::new).ok_or_else(|| PluginError::Ended("the API server answered without a token".to_owned()))
}
