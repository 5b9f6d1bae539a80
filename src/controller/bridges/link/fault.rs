//! What ended a connection, in words for the bridge's status.

use crate::{
    api::{BridgeBinding, SecretKeyRef, conditions::reason},
    bridge_api::BridgeError,
    controller::decide::facts::{BridgeFault, LinkState},
    drivers::{CredentialsError, Endpoint},
    platform::kubernetes::CallError,
};

/// What ended one connection.
pub(super) enum Broken {
    /// The Secret is the problem.
    Credentials(CredentialsError),
    /// The API server is the problem: nothing is known of the bridge.
    Kubernetes(CallError),
    /// The bridge is the problem.
    Bridge(BridgeError),
    /// Nothing is: list again, or use a new token.
    Restart,
}

impl From<BridgeError> for Broken {
    fn from(error: BridgeError) -> Self {
        Self::Bridge(error)
    }
}

/// What the bridge's status says of a shard whose connection ended like this; nothing when the shard is not to blame.
pub(super) fn fault(shard: &BridgeBinding, endpoint: &Endpoint, broken: &Broken) -> Option<BridgeFault> {
    match broken {
        Broken::Restart | Broken::Kubernetes(_) => None,
        Broken::Credentials(error) => Some(missing(error)),
        Broken::Bridge(error) => {
            let SecretKeyRef { namespace, name, key } = &endpoint.credentials;
            let todo = match error {
                BridgeError::Unauthorized => {
                    format!("make Secret {namespace}/{name}, key {key}, hold the token the bridge was started with")
                }
                BridgeError::Malformed { .. } | BridgeError::Unreadable | BridgeError::NotFound => {
                    "check that the address is a whatsapp-bridge of this operator's version".to_owned()
                }
                BridgeError::CaBundle | BridgeError::Address => "correct the WhatsAppBridge".to_owned(),
                _ => "check that the bridge runs and that the operator may reach it; it is tried again".to_owned(),
            };
            let BridgeBinding { name, shard } = shard;
            // An address that cannot be parsed may hold a password, and everybody reads this.
            let at = match error {
                BridgeError::Address => String::new(),
                _ => format!(" at {}", endpoint.address()),
            };
            let text = format!("Shard {shard} of WhatsAppBridge {name}{at}: {error}; {todo}.");
            Some(BridgeFault::new(error.reason(), text))
        }
    }
}

/// The same of a Secret that the API server has failed to give for long.
pub(super) fn unread_credentials(endpoint: &Endpoint) -> BridgeFault {
    let why = "the API server fails to read it or does not answer; its log says why";
    missing(&CredentialsError::new(&endpoint.credentials, why))
}

fn missing(error: &CredentialsError) -> BridgeFault {
    BridgeFault::new(reason::CREDENTIALS_NOT_FOUND, error.to_string())
}

/// The state of a shard with this fault, after `told`. How a connection fails may differ from one attempt to the next, refused or not
/// answered: while it may be over soon (`brief`) that is one fault, and not worth telling a thousand instances every time.
pub(super) fn down(told: &LinkState, fault: BridgeFault, brief: bool) -> LinkState {
    match told {
        LinkState::Down(told) if brief && told.reason == fault.reason => LinkState::Down(told.clone()),
        _ => LinkState::Down(fault),
    }
}
