//! What a session's state machine has done.

use whatsapp_operator::model::Sensitive;

use super::Generation;
use crate::keys::Linked;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start a client.
    Start(Start),
    /// Tell this client to stop; its end is to be reported.
    Stop(Generation),
    /// Have this client's device removed from the account.
    Unlink(Generation),
    /// Have this client show the account as online, or not.
    ShowOnline(Generation, bool),
    /// Ask for a pairing permit.
    RequestPermit,
    /// Give the pairing permit (or the request for one) back.
    ReleasePermit,
    /// Delete the keys.
    Erase,
    /// The session is gone: forget it and say so.
    Forget,
}

/// What a client needs to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Which client.
    pub generation: Generation,
    /// The linked device, whose keys must be there.
    pub linked: Option<Linked>,
    /// The number to pair with by code, when that is the method and the session is not paired.
    pub pair_with_code: Option<Sensitive>,
    /// The account's name, when known: without it the library waits for the account's settings before it is ready.
    pub push_name: Option<Sensitive>,
    /// Whether the account is shown as online while the session is connected.
    pub shows_online: bool,
}
