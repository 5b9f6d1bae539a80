//! Every write the reconcile makes: the finalizer, the status, Events, the bridge.

use std::{future::Future, sync::Arc};

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::Status,
};
use serde_json::{Value, json};

use super::{
    bridges::link::Link,
    context::Context,
    decide::{Plan, binding::Choice},
    error::ReconcileError,
    instances::{BridgeCall, Instances},
};
use crate::{
    api::{WhatsAppInstance, WhatsAppInstanceStatus, labels},
    bridge_api::{BridgeError, Deletion, SessionSpec},
    drivers,
    platform::{
        kubernetes::{self, CALL_TIMEOUT, replace_status},
        watch::Guarded,
    },
};

type Applied<T> = Result<T, ReconcileError>;

/// Carries a plan out, in its order, and returns the object as it then is.
pub async fn apply(instance: Arc<WhatsAppInstance>, plan: Plan, context: &Context) -> Applied<Arc<WhatsAppInstance>> {
    let Plan { failure_is_over, add_finalizer, bind, status, notices, put, recheck: _ } = plan;
    let mut instance = instance;
    if failure_is_over {
        context.instances.call_ended(&instance.uid().unwrap_or_default(), BridgeCall::Put, None);
    }
    if add_finalizer {
        let mut finalizers = instance.finalizers().to_vec();
        finalizers.push(labels::FINALIZER.into());
        instance = set_finalizers(&instance, &finalizers, context).await?;
    }
    let contested = status.as_ref().map(|status| context.instances.contested(&instance, status)).unwrap_or_default();
    if let Some(status) = status.filter(|_| contested.is_zero()) {
        let reservation = bind.as_ref().map(|choice| Reservation::take(&instance, choice, context)).transpose()?;
        let before = Arc::clone(&instance);
        instance = write_status(&instance, &status, context).await?;
        context.instances.wrote(&before, &status);
        if let Some(reservation) = reservation {
            reservation.keep();
        }
    }
    // They tell of what the status says.
    for notice in notices.iter().filter(|_| contested.is_zero()) {
        context.events.tell(notice.into(), instance.object_ref(&()));
    }
    if let Some(spec) = put {
        put_session(&instance, &spec, context).await?;
    }
    if contested.is_zero() { Ok(instance) } else { Err(ReconcileError::Contested { left: contested }) }
}

/// Removes our finalizer, which lets the object go.
pub async fn release(instance: &WhatsAppInstance, context: &Context) -> Applied<()> {
    let others = instance.finalizers().iter().filter(|name| *name != labels::FINALIZER).cloned();
    let others: Vec<String> = others.collect();
    set_finalizers(instance, &others, context).await.map(drop)
}

/// Writes the status as its only manager, on the very object the decision was made from.
pub async fn write_status(
    instance: &WhatsAppInstance,
    status: &WhatsAppInstanceStatus,
    context: &Context,
) -> Applied<Arc<WhatsAppInstance>> {
    let api = api(instance, context);
    let answer = call("write the status", replace_status(&api, instance, status, labels::FIELD_MANAGER)).await?;
    Ok(written(instance, answer, context))
}

/// Tells the instance's shard to delete its session.
pub async fn delete_session(instance: &WhatsAppInstance, unlink: bool, context: &Context) -> Applied<Deletion> {
    let uid = instance.uid().unwrap_or_default();
    let outcome = match link(instance, context) {
        None => Err(BridgeError::Unreachable { cause: "there is no link to the shard".into() }),
        Some(link) => {
            let _call = link.try_call().ok_or(ReconcileError::Busy)?;
            let had = link.had(drivers::session_id(&uid));
            let outcome = link.delete(drivers::session_id(&uid), unlink).await;
            // A bridge that never had the session answers "gone" as well, so that answer alone proves nothing. `had` is read before
            // the call: it counts also when the answer is lost.
            if had || matches!(outcome, Ok(Deletion::UnderWay)) {
                context.instances.note_bridge_had_session(&uid);
            }
            outcome
        }
    };
    context.instances.call_ended(&uid, BridgeCall::Delete, outcome.as_ref().err().cloned());
    outcome.map_err(|source| ReconcileError::Bridge { doing: "delete the session", source })
}

async fn put_session(instance: &WhatsAppInstance, spec: &SessionSpec, context: &Context) -> Applied<()> {
    let uid = instance.uid().unwrap_or_default();
    // Without a link the shard has just been taken away; the next look says so.
    let Some(link) = link(instance, context) else { return Ok(()) };
    let _call = link.try_call().ok_or(ReconcileError::Busy)?;
    let outcome = link.put(drivers::session_id(&uid), spec).await;
    context.instances.call_ended(&uid, BridgeCall::Put, outcome.as_ref().err().cloned());
    outcome.map_err(|source| ReconcileError::Bridge { doing: "put the session", source })
}

/// Capacity on a shard, given back unless the binding was recorded.
struct Reservation<'a> {
    instances: &'a Instances,
    uid: String,
    kept: bool,
}

impl<'a> Reservation<'a> {
    fn take(instance: &WhatsAppInstance, choice: &Choice, context: &'a Context) -> Applied<Self> {
        let uid = instance.uid().unwrap_or_default();
        if !context.instances.reserve(&uid, &choice.binding, choice.capacity) {
            return Err(ReconcileError::CapacityTaken);
        }
        Ok(Self { instances: &context.instances, uid, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.instances.unreserve(&self.uid);
        }
    }
}

async fn set_finalizers(
    instance: &WhatsAppInstance,
    finalizers: &[String],
    context: &Context,
) -> Applied<Arc<WhatsAppInstance>> {
    // Finalizers are a list shared with others: the resourceVersion keeps us from undoing their changes.
    let body: Value = json!({ "metadata": {
        "finalizers": finalizers, "uid": instance.uid(), "resourceVersion": instance.resource_version(),
    }});
    let (api, name, patch) = (api(instance, context), instance.name_any(), Patch::Merge(body));
    let params = PatchParams { field_manager: Some(labels::FIELD_MANAGER.into()), ..PatchParams::default() };
    let answer = call("change the finalizers", api.patch(&name, &params, &patch)).await?;
    Ok(written(instance, answer, context))
}

fn written(before: &WhatsAppInstance, answer: Guarded<WhatsAppInstance>, context: &Context) -> Arc<WhatsAppInstance> {
    // One that does not fit is being deleted: what was known of it is as good as it gets.
    let known = |metadata| WhatsAppInstance { metadata, ..before.clone() };
    let instance = answer.0.unwrap_or_else(|unfit| unfit.remains.map_or_else(|| known(unfit.metadata), |left| *left));
    let instance = Arc::new(instance);
    context.objects.learn(&instance);
    instance
}

fn link(instance: &WhatsAppInstance, context: &Context) -> Option<Arc<Link>> {
    context.links.get(instance.status.as_ref()?.bridge.as_ref()?)
}

fn api(instance: &WhatsAppInstance, context: &Context) -> Api<Guarded<WhatsAppInstance>> {
    Api::namespaced(context.client.clone(), &instance.namespace().unwrap_or_default())
}

/// A call whose object may have changed since the decision.
async fn call<T>(doing: &'static str, request: impl Future<Output = Result<T, kube::Error>>) -> Applied<T> {
    match kubernetes::call(doing, CALL_TIMEOUT, request).await {
        Err(error) if error.is(Status::is_conflict) || error.is(Status::is_not_found) => {
            tracing::debug!(%error, "decided on an older state");
            Err(ReconcileError::Outdated { doing })
        }
        answer => Ok(answer?),
    }
}
