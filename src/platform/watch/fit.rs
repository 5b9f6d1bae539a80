//! Objects that do not fit this version's schema, and what is said of watches that broke: without the values of objects.

use kube::{Resource, runtime::watcher};

use super::{Change, Guarded, Key};
use crate::platform::kubernetes::describe;

/// One object that does not parse (stored under another schema) is skipped, and said so; the watch goes on. What is left of
/// one that is being deleted is enough to delete it. One that is `known` stays as it was: what it uses is not free. Writes
/// that are based on the old copy are refused as outdated, which does not say why; so the reason is logged here.
pub(super) fn fit<K: Resource<DynamicType = ()>>(key: Key, object: Guarded<K>, known: bool) -> Option<Change<K>> {
    match object.0 {
        Ok(object) => Some(Change::Present(key, object)),
        Err(unfit) if known && unfit.remains.is_none() => {
            tracing::error!(
                kind = %K::kind(&()),
                object = %key,
                error = without_values(&unfit.error),
                "an object has been changed so that it does not fit this version's schema; it counts as it was before, and nothing is written to it until it is corrected or deleted"
            );
            None
        }
        Err(unfit) => {
            tracing::warn!(
                kind = %K::kind(&()),
                object = %key,
                error = without_values(&unfit.error),
                deleted = unfit.remains.is_some(),
                "an object does not fit this version's schema and is skipped, unless it is being deleted; correct or delete it"
            );
            Some(match unfit.remains {
                Some(remains) => Change::Present(key, *remains),
                None => Change::Unfit(key, unfit.metadata.uid),
            })
        }
    }
}

/// serde quotes the offending value, which may be a code or a phone number.
fn without_values(error: &str) -> String {
    error.split('"').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "\"...\"" }).collect()
}

/// What broke a watch, without the values of objects.
pub fn watch_error(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => describe(source),
        watcher::Error::WatchError(status) => format!("{} ({})", status.message, status.code),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_bad_object_holds_no_values() {
        let text = without_values(r#"invalid type: string "+15550001", expected u32"#);
        assert_eq!(text, r#"invalid type: string "...", expected u32"#);
    }
}
