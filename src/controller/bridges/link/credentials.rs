//! The credentials of a bridge, read from its Secret.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, core::Status};

use super::{Link, fault::Broken};
use crate::{
    drivers::{self, Credentials, CredentialsError},
    platform::{
        kubernetes::{CALL_TIMEOUT, CallError, call},
        lock,
    },
};

impl Link {
    /// The credentials, or why there are none. An API server that is away is no reason to let go of a bridge, nor to call its
    /// credentials missing: those that were read last serve until it is back.
    pub(super) async fn credentials(&self, kubernetes: &Client) -> Result<Credentials, Broken> {
        let reference = &self.endpoint.credentials;
        let wrong = |why| Broken::Credentials(CredentialsError::new(reference, why));
        let secrets: Api<Secret> = Api::namespaced(kubernetes.clone(), &reference.namespace);
        match call("read the bridge's token", CALL_TIMEOUT, secrets.get_opt(&reference.name)).await {
            Ok(Some(secret)) => {
                let credentials = drivers::credentials(&secret, reference).map_err(Broken::Credentials)?;
                lock(&self.shared).credentials = Some(credentials.clone());
                Ok(credentials)
            }
            Ok(None) => Err(wrong("there is no such Secret; create it")),
            Err(error) if error.is(Status::is_forbidden) => {
                Err(wrong("the operator may not read it; grant it get on this Secret"))
            }
            Err(error) => {
                let last = lock(&self.shared).credentials.clone();
                last.ok_or(Broken::Kubernetes(error))
            }
        }
    }
}

/// Whether it may be this very Secret that cannot be read, as when a key of its encryption is gone or the service that has the key
/// hangs. An API server that is away, or has no time, says nothing of it.
pub(super) fn is_about_the_secret(error: &CallError) -> bool {
    matches!(error, CallError::Slow { .. }) || error.is(|status| status.code == 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_hangs_is_told_from_an_api_server_that_is_away() {
        let answered = |code: u16| {
            let status = serde_json::json!({"code": code, "reason": "no", "message": "no"});
            let status: Status = serde_json::from_value(status).unwrap();
            CallError::Api { doing: "read", source: Box::new(kube::Error::Api(Box::new(status))) }
        };
        assert!(is_about_the_secret(&CallError::Slow { doing: "read", limit: CALL_TIMEOUT }));
        assert!(is_about_the_secret(&answered(500)));
        assert!(!is_about_the_secret(&answered(429)) && !is_about_the_secret(&answered(503)));
    }
}
