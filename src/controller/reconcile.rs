//! The reconcile, as a table of contents: observe, decide, apply, report.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use tracing::Instrument;

use super::{
    apply,
    cleanup::cleanup,
    context::Context,
    decide::{self, Plan, times::until},
    error::{ReconcileError, TIME_LIMIT},
    metrics::Outcome,
    observe::observe,
};
use crate::{
    api::{InstanceRef, WhatsAppInstance},
    platform::watch::Key,
};

/// One turn of an instance. Answers in how long it is to have another one, whatever happens or does not happen till then.
pub async fn turn(key: Key, context: Arc<Context>) -> Option<Duration> {
    let instance = context.objects.get(&key)?;
    let span = tracing::info_span!("reconcile", object = %key);
    async {
        match reconcile(Arc::clone(&instance), &context).await {
            Ok(again) => {
                context.instances.succeeded(&instance.uid().unwrap_or_default());
                again
            }
            Err(error) => pause(&instance, &error, &context),
        }
    }
    .instrument(span)
    .await
}

/// Brings one instance closer to what is wanted of it, within limits of time and of trust.
async fn reconcile(instance: Arc<WhatsAppInstance>, context: &Context) -> Result<Option<Duration>, ReconcileError> {
    context.metrics.started();
    let started = Instant::now();
    let work = AssertUnwindSafe(step(instance, context)).catch_unwind();
    let result = match tokio::time::timeout(TIME_LIMIT, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            context.metrics.panicked();
            Err(ReconcileError::Panicked)
        }
        Err(_) => {
            context.metrics.timed_out();
            Err(ReconcileError::TimedOut)
        }
    };
    let outcome = match &result {
        Ok(None) => Outcome::Success,
        // A lost race and a busy shard are part of the protocol, not errors to alert on.
        Ok(_)
        | Err(
            ReconcileError::Outdated { .. }
            | ReconcileError::CapacityTaken
            | ReconcileError::Busy
            | ReconcileError::Contested { .. },
        ) => Outcome::RequeueAfter,
        Err(_) => Outcome::Error,
    };
    context.metrics.ended(outcome, started.elapsed());
    result
}

async fn step(instance: Arc<WhatsAppInstance>, context: &Context) -> Result<Option<Duration>, ReconcileError> {
    if instance.metadata.deletion_timestamp.is_some() {
        return cleanup(instance, context).await;
    }
    let facts = observe(&instance, context);
    let now = facts.now;
    let plan = decide::decide(&facts);
    let recheck = plan.recheck;
    if let Err(error) = apply::apply(Arc::clone(&instance), plan, context).await {
        report_failure(instance, &error, context).await?;
        return Err(match (error, recheck) {
            (ReconcileError::Contested { left }, Some(at)) => {
                ReconcileError::Contested { left: left.min(until(at, now)) }
            }
            (error, _) => error,
        });
    }
    Ok(recheck.map(|at| until(at, now)))
}

/// What the bridge refused is shown in the status at once, not only when it is tried again.
async fn report_failure(
    instance: Arc<WhatsAppInstance>,
    error: &ReconcileError,
    context: &Context,
) -> Result<(), ReconcileError> {
    if matches!(error, ReconcileError::Bridge { .. }) {
        // What was written before the call failed is in the cache already.
        let instance = context.objects.get(&InstanceRef::of(&*instance)).unwrap_or(instance);
        let plan = decide::decide(&observe(&instance, context));
        apply::apply(instance, Plan { put: None, ..plan }, context).await?;
    }
    Ok(())
}

/// When to try again, by what went wrong.
fn pause(instance: &WhatsAppInstance, error: &ReconcileError, context: &Context) -> Option<Duration> {
    // None when it is gone meanwhile: there is nothing to try again.
    let (uid, now) = (instance.uid()?, Timestamp::now());
    let pause = context.instances.pause(&uid, error)?;
    let leaving = instance.metadata.deletion_timestamp.as_ref().map(|_| context.instances.leaving(&uid, now));
    let left = leaving.map(|leaving| context.deletion_deadline.saturating_sub(leaving.lasted));
    let pause = no_later(pause, left);
    match error {
        ReconcileError::Outdated { .. }
        | ReconcileError::CapacityTaken
        | ReconcileError::Busy
        | ReconcileError::Contested { .. } => {
            tracing::debug!(%error, "again");
        }
        _ => tracing::warn!(%error, retry_in_ms = pause.as_millis(), "reconcile failed"),
    }
    Some(pause)
}

/// A deletion that fails must not sleep past the deadline at which it gives up. Once that has passed, pauses are as always.
fn no_later(pause: Duration, left: Option<SignedDuration>) -> Duration {
    let left = left.filter(SignedDuration::is_positive).and_then(|left| Duration::try_from(left).ok());
    // Never so short that it becomes a loop.
    left.map_or(pause, |left| pause.min(left.max(Duration::from_millis(50))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_deletion_wakes_at_its_deadline_and_then_backs_off_again() {
        let (long, soon) = (Duration::from_secs(120), Duration::from_secs(7));
        assert_eq!(no_later(long, None), long);
        assert_eq!(no_later(long, Some(SignedDuration::from_secs(7))), soon);
        assert_eq!(no_later(long, Some(SignedDuration::ZERO)), long);
    }
}
