//! An instance that was created anew gets the session that the bridge has for it under another id, with `--adopt-data`.
//!
//! At every moment one of the two ids has everything. The former session's task closes its client, and then gives record and messages to the
//! new id in one transaction, which also notes the former id ([`Kept::formerly`](crate::machine::Kept)). The keys are moved before the first
//! client of the new session, or when the process starts, if it was killed in between.

use tokio::sync::oneshot;
use whatsapp_operator::bridge_api::{Session, SessionInstance, SessionSpec};

use super::{
    Registry,
    refusal::Refusal,
    request::Request,
    session::{Actor, Ended},
};
use crate::store::{Change, StoreError};

/// Which session an instance gets that has none under its id.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// None is its own.
    None,
    /// This one.
    One(String),
    /// So many are, and nothing tells which it is.
    Unclear(usize),
}

/// The session of `instance`: of several, the one that is linked. One that is being deleted or unlinked is nobody's any more.
fn choose(sessions: &[Session], instance: &SessionInstance) -> Choice {
    let its = |session: &&Session| session.stays() && session.spec.instance.as_deref() == Some(instance);
    let mut found: Vec<&Session> = sessions.iter().filter(its).collect();
    let count = found.len();
    if count > 1 {
        found.retain(|session| session.paired);
    }
    match found.as_slice() {
        [] if count == 0 => Choice::None,
        [one] => Choice::One(one.id.clone()),
        _ => Choice::Unclear(count),
    }
}

impl Registry {
    /// Gives what the bridge has for the instance of `spec` to session `id`, which it does not know. Says whether there was something.
    pub(super) async fn take_over(&self, id: &str, spec: &SessionSpec) -> Result<bool, Refusal> {
        let Some(instance) = spec.instance.as_deref().filter(|_| self.adopts()) else { return Ok(false) };
        if self.shared.store.reader.has_left(id).await? {
            return Ok(false);
        }
        let from = match choose(&self.shared.feed.sessions.list().items, instance) {
            Choice::None => return Ok(false),
            Choice::Unclear(sessions) => {
                tracing::warn!(
                    session = id,
                    sessions,
                    "the bridge has several sessions of this instance, and cannot tell which it should have: it gets a new one; delete \
                     those that are not needed, then this one, and create the instance anew"
                );
                return Ok(false);
            }
            Choice::One(from) => from,
        };
        // What a session of this id may have left is not what the record is about.
        self.shared.keys.erase(id, true).await?;
        let Some(requests) = self.running(&from)? else { return Ok(false) };
        let (answer, answered) = oneshot::channel();
        if requests.send(Request::HandOver { to: id.to_owned(), answer }).await.is_err() {
            return self.unanswered(&requests).map(|()| false);
        }
        let Ok(handed_over) = answered.await else { return self.unanswered(&requests).map(|()| false) };
        // Not when it has begun to be deleted meanwhile.
        let handed_over = handed_over?;
        if handed_over {
            tracing::info!(session = id, from, "took over the session that its instance had before under another id");
        }
        Ok(handed_over)
    }
}

impl Actor {
    /// Closes the session's client, and gives everything but the keys to session `to`.
    pub(super) async fn hand_over(&mut self, to: &str, answer: oneshot::Sender<Result<bool, StoreError>>) -> Ended {
        let (shared, id) = (self.shared.clone(), self.state.id().to_owned());
        self.close().await;
        let waiting = self.outbox.len();
        // A client of a task that panicked before may still use the keys.
        let _ = self.one_client.acquire().await;
        match self.give_to(to).await {
            Ok(()) => {
                shared.outboxes.leave(waiting);
                shared.message_traces.forget(&id);
                shared.feed.sessions.remove(&id);
                let _ = answer.send(Ok(true));
                Ended::Over
            }
            Err(error) => {
                tracing::error!(session = id, %error, "the session cannot be given to the instance that was created anew");
                let _ = answer.send(Err(error));
                Ended::Anew { waiting }
            }
        }
    }

    async fn give_to(&self, to: &str) -> Result<(), StoreError> {
        let mut kept = self.kept_on_disk();
        kept.formerly.push(self.state.id().to_owned());
        self.shared.store.apply(vec![Change::rename(self.state.id(), to, &kept)?]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use whatsapp_operator::{bridge_api::SessionPhase, model::Sensitive};

    use super::*;
    use crate::{
        machine::{Kept, Timings},
        sessions::task,
    };

    fn instance(namespace: &str, name: &str, owner: &str) -> SessionInstance {
        SessionInstance { namespace: namespace.to_owned(), name: name.to_owned(), owner: Sensitive::new(owner) }
    }

    fn session(id: &str, paired: bool) -> Session {
        let spec =
            SessionSpec { instance: Some(Box::new(instance("team", "shop", "alice"))), ..SessionSpec::default() };
        let kept = Kept { paired, ..Kept::new(spec) };
        task::state(id.to_owned(), kept, Timestamp::UNIX_EPOCH, Timings::default()).view()
    }

    #[test]
    fn an_instance_gets_the_one_session_that_is_its_own() {
        let shop = instance("team", "shop", "alice");
        let one = || Choice::One("a".to_owned());
        assert_eq!(choose(&[session("a", true)], &shop), one());
        assert_eq!(choose(&[session("a", false)], &shop), one());
        for other in
            [instance("other", "shop", "alice"), instance("team", "other", "alice"), instance("team", "shop", "bob")]
        {
            assert_eq!(choose(&[session("a", true)], &other), Choice::None, "{other:?}");
        }
        assert_eq!(choose(&[Session { spec: SessionSpec::default(), ..session("a", true) }], &shop), Choice::None);
        // Of several the one that is linked.
        assert_eq!(choose(&[session("a", true), session("b", false)], &shop), one());
        assert_eq!(choose(&[session("a", true), session("b", true)], &shop), Choice::Unclear(2));
        assert_eq!(choose(&[session("a", false), session("b", false)], &shop), Choice::Unclear(2));
        for going in [SessionPhase::Deleting, SessionPhase::Unlinking] {
            let going = Session { phase: going.into(), ..session("b", true) };
            assert_eq!(choose(std::slice::from_ref(&going), &shop), Choice::None);
            assert_eq!(choose(&[session("a", true), going], &shop), one());
        }
    }
}
