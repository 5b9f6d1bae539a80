//! The keys of sessions that were taken over: they are moved to where they belong once the record says so.

use crate::{
    keys::{KeyStore, KeysError},
    store::Stored,
};

/// Moves the keys of sessions that were taken over to where they belong. Sessions whose keys stay where they are are not taken up.
pub async fn with_their_keys(keys: &dyn KeyStore, stored: Vec<Stored>) -> Vec<Stored> {
    let mut ready = Vec::with_capacity(stored.len());
    for session in stored {
        match move_keys(keys, &session).await {
            Ok(()) => ready.push(session),
            Err(error) => {
                tracing::error!(session = session.id, %error, "the session is left alone until its instance asks for it");
            }
        }
    }
    ready
}

/// Moves the keys of a session that was taken over to where they belong, if they are not there yet.
pub(super) async fn move_keys(keys: &dyn KeyStore, session: &Stored) -> Result<(), KeysError> {
    match session.kept.formerly.last() {
        Some(from) => keys.move_to(&session.id, from).await,
        None => Ok(()),
    }
}
