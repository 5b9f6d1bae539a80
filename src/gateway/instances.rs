//! Finds, lists and changes instances at the API server, always as the caller. Nothing else does; what is only watched is watched elsewhere.

use std::time::Duration;

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    caller::Caller,
    code::Code,
    failure::{Asked, Failure, of_call},
    input::is_object_name,
    session::uid_of,
    state::Gateway,
};
use crate::{
    api::WhatsAppInstance,
    platform::{
        kubernetes::{CALL_TIMEOUT, CallError, ObjectRef, call, escape_selector},
        watch::Guarded,
    },
};

/// Field manager of everything that is changed through the gateway.
pub const FIELD_MANAGER: &str = "whatsapp-operator-gateway";

/// Objects asked for at a time; kubectl's own `--chunk-size`.
const PAGE: u32 = 500;

/// Which instances: of a namespace or of all, of an owner or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Which {
    /// A namespace; all when none.
    pub namespace: Option<String>,
    /// An owner; all when none.
    pub owner: Option<String>,
}

impl Which {
    /// Their API, as the caller.
    pub fn api(&self, caller: &Caller) -> Api<Guarded<WhatsAppInstance>> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(caller.client.clone(), namespace),
            None => Api::all(caller.client.clone()),
        }
    }

    /// Whether one of this owner, in this namespace, is among them.
    pub fn has(&self, namespace: &str, owner: Option<&str>) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.owner.as_deref().is_none_or(|wanted| owner == Some(wanted))
    }

    /// The field selector; none for all.
    pub fn fields(&self) -> Option<String> {
        self.owner.as_deref().map(|owner| format!("spec.owner={}", escape_selector(owner)))
    }
}

/// The API of one namespace, as the caller.
pub fn of_namespace(caller: &Caller, namespace: &str) -> Api<WhatsAppInstance> {
    Api::namespaced(caller.client.clone(), namespace)
}

/// The API of an instance's namespace, as the caller.
pub fn beside(caller: &Caller, instance: &WhatsAppInstance) -> Api<WhatsAppInstance> {
    of_namespace(caller, &instance.namespace().unwrap_or_default())
}

/// The instance that `id` means: its uid or session id, else its object name in `namespace`.
///
/// # Errors
/// When there is none that the caller may see.
pub async fn find(
    gateway: &Gateway,
    caller: &Caller,
    id: &str,
    namespace: Option<&str>,
) -> Result<WhatsAppInstance, Failure> {
    let found = search(gateway, caller, id, namespace).await?;
    caller.story.is_about(ObjectRef::of(&found));
    Ok(found)
}

async fn search(
    gateway: &Gateway,
    caller: &Caller,
    id: &str,
    namespace: Option<&str>,
) -> Result<WhatsAppInstance, Failure> {
    let uid = uid_of(id);
    let namespace = namespace.unwrap_or(&gateway.settings.namespace);
    if let Some(place) = gateway.index.object_ref(uid) {
        if let Some(found) = get(caller, &place).await?.filter(|found| found.uid().as_deref() == Some(uid)) {
            return Ok(found);
        }
    } else if is_uid(uid) {
        // The index may not have a new instance yet. Most likely its creator asks, so the caller's own instances are listed.
        let which = Which { namespace: Some(namespace.to_owned()), owner: Some(caller.user.clone()) };
        let own = list(caller, &which).await.unwrap_or_default();
        if let Some(found) = own.into_iter().find(|own| own.uid().as_deref() == Some(uid)) {
            return Ok(found);
        }
    }
    if !is_object_name(id) {
        return Err(Failure::not_found());
    }
    let place = ObjectRef { namespace: namespace.to_owned(), name: id.to_owned() };
    get(caller, &place).await?.ok_or_else(Failure::not_found)
}

/// A UUID, as the API server makes them.
fn is_uid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// One object; none when it is not there, or not for the caller.
async fn get(caller: &Caller, place: &ObjectRef) -> Result<Option<WhatsAppInstance>, Failure> {
    let api = of_namespace(caller, &place.namespace);
    match call("read an instance for a caller", CALL_TIMEOUT, api.get(&place.name)).await {
        Ok(found) => Ok(Some(found)),
        Err(error) => match of_call(&error, Asked { verb: "get", hidden: true }) {
            failure if failure.code == Code::NotFound => Ok(None),
            failure => Err(failure),
        },
    }
}

/// All of them, page by page. One that does not parse is left out, and said so in the log.
///
/// # Errors
/// When the caller may not list them, and see [`Failure`].
pub async fn list(caller: &Caller, which: &Which) -> Result<Vec<WhatsAppInstance>, Failure> {
    let listed = pages(&which.api(caller), which.fields()).await;
    listed.map(|(found, _)| found).map_err(|error| of_call(&error, Asked { verb: "list", hidden: false }))
}

/// All of them, and the resource version of the list.
///
/// # Errors
/// When the API server does not give them.
pub async fn pages(
    api: &Api<Guarded<WhatsAppInstance>>,
    fields: Option<String>,
) -> Result<(Vec<WhatsAppInstance>, String), CallError> {
    let mut params = ListParams { field_selector: fields, ..ListParams::default() }.limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = call("list instances for a caller", CALL_TIMEOUT, api.list(&params)).await?;
        found.extend(page.items.into_iter().filter_map(readable));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok((found, page.metadata.resource_version.unwrap_or_default())),
        }
    }
}

/// An object that fits this version.
pub fn readable(object: Guarded<WhatsAppInstance>) -> Option<WhatsAppInstance> {
    match object.0 {
        Ok(instance) => Some(instance),
        Err(unfit) => {
            let meta = unfit.metadata;
            tracing::debug!(
                namespace = meta.namespace,
                name = meta.name,
                "an instance does not fit this version's schema and is left out"
            );
            None
        }
    }
}

/// How long a write is begun anew while admission cannot decide about it. What keeps it from deciding, a busy ledger or an
/// operator that is being replaced, mostly passes within a second or two.
const UNDECIDED: Duration = Duration::from_secs(5);
/// Between two such tries, at least; at most twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// What a write comes to. It is tried again as long as only admission's doubt keeps it from being made, since nothing is
/// written then.
async fn decided<T, F>(verb: &'static str, mut write: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, CallError>>,
{
    let began = Instant::now();
    loop {
        let failure = match write().await {
            Ok(written) => return Ok(written),
            Err(error) => of_call(&error, Asked { verb, hidden: false }),
        };
        let undecided =
            matches!(failure.code, Code::LedgerUnavailable | Code::AccessUnknown | Code::AdmissionUnavailable);
        if !undecided || began.elapsed() > UNDECIDED {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE.mul_f64(1.0 + fastrand::f64())).await;
    }
}

/// Names tried for a new object, as often as the API server itself tries.
const NAMES: usize = 8;
/// What the API server ends generated names with: no vowels, so no words (k8s.io/apimachinery/pkg/util/rand).
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters that a name ends with; as many as the API server's.
const ENDING: usize = 5;

/// Creates one whose object name begins with `begin`. Its end is chosen here and not by the API server (generateName): a try about
/// which admission could not decide may have taken a slot of the owner's ledger for its name, and only a try by the same name is
/// given that slot again.
///
/// # Errors
/// When it is refused, and see [`Failure`].
pub async fn create(
    caller: &Caller,
    namespace: &str,
    begin: &str,
    mut instance: WhatsAppInstance,
) -> Result<WhatsAppInstance, Failure> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let api = of_namespace(caller, namespace);
    let mut names = 0;
    loop {
        names += 1;
        instance.metadata.name = Some(format!("{begin}-{}", ending()));
        let made =
            decided("create", || call("create an instance for a caller", CALL_TIMEOUT, api.create(&params, &instance)));
        match made.await {
            Err(failure) if failure.code == Code::Conflict && names < NAMES => {}
            Err(failure) => return Err(failure),
            Ok(made) => {
                caller.story.is_about(ObjectRef::of(&made));
                return Ok(made);
            }
        }
    }
}

fn ending() -> String {
    std::iter::repeat_with(|| fastrand::choice(LETTERS).copied().map_or('x', char::from)).take(ENDING).collect()
}

/// Changes fields of the very object that was found: its uid is the condition.
///
/// # Errors
/// When it is refused, and see [`Failure`].
pub async fn change(
    caller: &Caller,
    instance: &WhatsAppInstance,
    mut patch: Value,
) -> Result<WhatsAppInstance, Failure> {
    if instance.metadata.deletion_timestamp.is_some() {
        return Err(Failure::new(Code::Terminating, "the session is being deleted; wait until it is gone"));
    }
    patch["metadata"]["uid"] = instance.uid().into();
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let (api, name, patch) = (beside(caller, instance), instance.name_any(), Patch::Merge(patch));
    decided("patch", || call("change an instance for a caller", CALL_TIMEOUT, api.patch(&name, &params, &patch))).await
}

/// Deletes the very object that was found. One that is gone already is no failure.
///
/// # Errors
/// When it is refused, and see [`Failure`].
pub async fn delete(caller: &Caller, instance: &WhatsAppInstance) -> Result<(), Failure> {
    let only = Preconditions { uid: instance.uid(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    let (api, name) = (beside(caller, instance), instance.name_any());
    let deleted =
        decided("delete", || call("delete an instance for a caller", CALL_TIMEOUT, api.delete(&name, &params)));
    match deleted.await {
        Err(failure) if failure.code != Code::NotFound => Err(failure),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, reason: &str) -> CallError {
        let status: Status =
            serde_json::from_value(serde_json::json!({"code": code, "reason": reason, "message": "no"})).unwrap();
        CallError::Api { doing: "write", source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    /// What a write comes to that is answered so, and then succeeds; and how often it was tried.
    async fn after(code: u16, reason: &str, times: usize) -> (Result<(), Code>, usize) {
        let mut tries = 0;
        let done = decided("create", || {
            tries += 1;
            std::future::ready(if tries <= times { Err(refused(code, reason)) } else { Ok(()) })
        });
        let done = done.await.map_err(|failure| failure.code);
        (done, tries)
    }

    #[tokio::test]
    async fn a_write_is_tried_again_while_admission_cannot_decide_and_no_longer() {
        assert_eq!(after(503, "LedgerUnavailable", 3).await, (Ok(()), 4));
        assert_eq!(after(503, "AccessUnknown", 1).await, (Ok(()), 2));
        assert_eq!(after(403, "LimitExceeded", 1).await, (Err(Code::LimitExceeded), 1));
        assert_eq!(after(409, "Conflict", 1).await, (Err(Code::Conflict), 1));
        // A write that was too slow may have been made.
        assert_eq!(after(504, "Timeout", 1).await, (Err(Code::Timeout), 1));
        let began = Instant::now();
        assert_eq!(after(503, "LedgerUnavailable", usize::MAX).await.0, Err(Code::LedgerUnavailable));
        assert!(began.elapsed() >= UNDECIDED);
    }
}
