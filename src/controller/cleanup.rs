//! The finalizer's path: the device is unlinked and the keys are deleted, or a deadline passes; then the object may go.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use kube::{Resource, ResourceExt, runtime::events::Event};

use super::{
    apply,
    context::Context,
    decide::{
        self, DeletionPlan, DeletionStep,
        notices::{self, Notice},
        status,
        times::until,
    },
    error::{ReconcileError, TIME_LIMIT},
    observe::observe,
};
use crate::{
    api::{InstanceRef, WhatsAppInstance},
    bridge_api::Deletion,
    platform::kubernetes::CALL_TIMEOUT,
};

/// The bridge reports a finished deletion by an event; this is how soon we ask, in case the event was lost.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How long the last try of a deletion that is given up may take, and each of the two Events that report it.
const LAST_TRY: Duration = Duration::from_secs(5);
const TELLING: Duration = Duration::from_secs(3);
/// How long after the deadline the last try may wait for its turn at a busy bridge.
const LAST_PLACE: SignedDuration = SignedDuration::from_secs(60);
// Whatever hangs, the finalizer is reached within the time that a reconcile has.
const _: () = assert!(
    LAST_TRY.as_secs() + 2 * TELLING.as_secs() + CALL_TIMEOUT.as_secs() < TIME_LIMIT.as_secs(),
    "giving up a deletion must fit into one reconcile"
);

/// Moving the primary takes one write.
const HANDOVER: Duration = Duration::from_millis(100);

/// One step of a deletion. Answers when the next one is due.
///
/// # Errors
/// When the API server or the bridge did not do its part; to be tried again.
pub async fn cleanup(instance: Arc<WhatsAppInstance>, context: &Context) -> Result<Option<Duration>, ReconcileError> {
    let uid = instance.uid().unwrap_or_default();
    // The API server may refuse to have the finalizer taken off, for a policy for example. What was done and told before is not done again.
    if decide::has_finalizer(&instance) && context.instances.is_session_over(&uid) {
        return finish(&instance, context).await;
    }
    let facts = observe(&instance, context);
    let now = facts.now;
    let leaving = context.instances.leaving(&uid, now);
    let DeletionPlan { status: show, step, recheck } =
        decide::plan_deletion(&facts, leaving, context.deletion_deadline);
    let mut instance = Arc::clone(&instance);
    if let Some(show) = show {
        instance = apply::write_status(&instance, &show, context).await?;
    }
    // The pointer leaves an instance before the instance is gone.
    let handing_over = context.owners.is_handing_over_primary(&instance);
    let wait = recheck.map_or(ASK_AGAIN, |at| until(at, now).min(ASK_AGAIN));
    match step {
        DeletionStep::Release | DeletionStep::Delete { .. } if handing_over => Ok(Some(HANDOVER)),
        DeletionStep::Done => Ok(None),
        DeletionStep::Release => finish(&instance, context).await,
        DeletionStep::Wait => Ok(Some(wait)),
        DeletionStep::Delete { unlink } => match apply::delete_session(&instance, unlink, context).await? {
            Deletion::Gone => {
                let had = context.instances.bridge_had_session(&uid);
                if unlink && !had && status::is_linked(&instance) {
                    tell(&notices::nothing_to_unlink(), &instance, context).await;
                }
                context.instances.note_session_over(&uid);
                finish(&instance, context).await
            }
            Deletion::UnderWay => Ok(Some(wait)),
        },
        DeletionStep::GiveUp => {
            // One last try, for the keys at least; whether it works no longer matters.
            let last_try = tokio::time::timeout(LAST_TRY, apply::delete_session(&instance, false, context)).await;
            // Many may give up at the same moment on a bridge that answers, and none of them is to leave its keys behind.
            let may_wait = leaving.lasted < context.deletion_deadline.saturating_add(LAST_PLACE);
            if may_wait && matches!(last_try, Ok(Err(ReconcileError::Busy))) {
                return Err(ReconcileError::Busy);
            }
            let gone = matches!(last_try, Ok(Ok(Deletion::Gone)));
            tracing::warn!(keys_deleted = gone, "gave up unlinking the device: the deletion deadline has passed");
            let to_unlink = status::is_to_unlink(&instance);
            if to_unlink || !gone {
                tell(&notices::gave_up(to_unlink), &instance, context).await;
            }
            context.instances.note_session_over(&uid);
            finish(&instance, context).await
        }
    }
}

/// Reported twice: on the instance, whose namespace may be going too and then takes no Events any more, and on its bridge.
async fn tell(notice: &Notice, instance: &WhatsAppInstance, context: &Context) {
    let about = instance.object_ref(&());
    context.events.tell_first(notice.into(), about.clone(), TELLING).await;
    let bound = instance.status.as_ref().and_then(|status| status.bridge.as_ref());
    if let Some(bridge) = bound.and_then(|bound| context.bridges.named(&bound.name)) {
        let event = Event { secondary: Some(about), ..Event::from(&notice.of(&InstanceRef::of(instance))) };
        context.events.tell_first(event, bridge.object_ref(&()), TELLING).await;
    }
}

async fn finish(instance: &WhatsAppInstance, context: &Context) -> Result<Option<Duration>, ReconcileError> {
    apply::release(instance, context).await?;
    Ok(None)
}
