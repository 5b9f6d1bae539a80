//! What admission fills in: the owner, the finalizer, and since when an instance wishes to be primary.

use k8s_openapi::jiff::Timestamp;
use kube::core::admission::Operation;
use serde_json::{Value, json};

use super::review::{Decision, Request, Reviewed};
use crate::{
    api::labels::{FINALIZER, PRIMARY_SINCE},
    rules::primary::{self, wishes_anew},
};

/// [`PRIMARY_SINCE`] in a JSON pointer.
const STAMP_PATH: &str = "/metadata/annotations/whatsapp-operator.dev~1primary-since";

/// Fills in what is missing. An object of the wrong shape passes as it is: the schema, which is asked next, says what is
/// wrong with it better than we could.
///
/// - An empty owner becomes the requester; on update, the owner there was, so that a file without one can be applied again.
/// - The stamp is the time at which `spec.primary` turned true, or at which it was wished anew ([`wishes_anew`]). It is
///   always ours; what anybody else writes there is replaced.
/// - A new instance gets the controller's finalizer when its namespace is `in_scope` of the controller in this process,
///   which also takes it off again. The controller adds it where it is missing; here it costs no write, and there is no
///   moment without it.
pub fn mutate(request: &Request, in_scope: bool, now: Timestamp) -> Decision {
    let creating = request.operation == Operation::Create;
    let mut decision = Decision::default();
    let Some(object) = request.object.as_ref().filter(|object| object.spec.is_object()) else {
        return decision;
    };
    let old = request.old_object.as_ref().filter(|_| !creating);
    if !creating && old.is_none() {
        return decision;
    }

    let owner = || if creating { request.user_info.username.clone() } else { old.and_then(owner).map(str::to_owned) };
    if self::owner(object).is_none()
        && let Some(owner) = owner().filter(|owner| !owner.is_empty())
    {
        decision.patch.push(json!({"op": "add", "path": "/spec/owner", "value": owner}));
        decision.audit.insert("owner", "defaulted".into());
    }
    stamp_primary(&mut decision, object, old, now);
    if creating && in_scope {
        add_finalizer(&mut decision, object);
    }
    decision
}

fn add_finalizer(decision: &mut Decision, object: &Reviewed) {
    match object.metadata.finalizers.as_deref() {
        None => decision.patch.push(json!({"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]})),
        Some(there) if there.iter().any(|name| name == FINALIZER) => {}
        Some(_) => decision.patch.push(json!({"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER})),
    }
}

fn stamp_primary(decision: &mut Decision, object: &Reviewed, old: Option<&Reviewed>, now: Timestamp) {
    let (given, before) = (stamp(object), old.and_then(stamp));
    let anew = old.is_some() && wishes_anew(given, before, now);
    let right = match (old.is_some_and(wishes), wishes(object)) {
        (_, false) => None,
        (true, true) if !anew => before.map(str::to_owned),
        (_, true) => Some(primary::stamp(before, now).to_string()),
    };
    if right.as_deref() == given {
        return;
    }
    if given.is_some() && given != before && !(anew && right.is_some()) {
        decision
            .warnings
            .push(format!("annotation {PRIMARY_SINCE} is set by the operator; the given value is ignored"));
    }
    if right.is_some() && object.metadata.annotations.is_none() {
        decision.patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    decision.patch.push(match right {
        Some(right) => json!({"op": "add", "path": STAMP_PATH, "value": right}),
        None => json!({"op": "remove", "path": STAMP_PATH}),
    });
    decision.audit.insert("primary-since", "stamped".into());
}

/// `spec.owner`, unless empty.
pub(super) fn owner(object: &Reviewed) -> Option<&str> {
    object.spec["owner"].as_str().filter(|owner| !owner.is_empty())
}

/// `spec.primary`.
pub(super) fn wishes(object: &Reviewed) -> bool {
    object.spec["primary"] == Value::Bool(true)
}

/// The stamp as written.
pub(super) fn stamp(object: &Reviewed) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(PRIMARY_SINCE).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{Decision, FINALIZER, PRIMARY_SINCE, mutate};
    use crate::admission::{review::parse, testing};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn mutated(review: &Value) -> Decision {
        mutate(&parse(review.to_string().as_bytes()).unwrap(), false, now())
    }

    /// The object after the patch, as the API server would make it.
    fn patched(review: &Value) -> Value {
        let mut object = review["request"]["object"].clone();
        for op in mutated(review).patch {
            let path = op["path"].as_str().unwrap();
            let (parent, key) = path.rsplit_once('/').unwrap();
            let map = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let key = key.replace("~1", "/");
            if op["op"] == "remove" {
                drop(map.remove(&key).unwrap());
            } else {
                drop(map.insert(key, op["value"].clone()));
            }
        }
        object
    }

    fn stamped(mut object: Value, stamp: &str) -> Value {
        object["metadata"]["annotations"] = json!({PRIMARY_SINCE: stamp});
        object
    }

    #[test]
    fn an_empty_owner_becomes_the_requester() {
        for spec in [json!({"name": "A"}), json!({"name": "A", "owner": ""}), json!({"name": "A", "owner": null})] {
            assert_eq!(patched(&testing::create("alice", "a", spec))["spec"]["owner"], "alice");
        }
        assert!(mutated(&testing::create("alice", "a", json!({"owner": "bob"}))).patch.is_empty());
    }

    #[test]
    fn a_new_instance_gets_the_finalizer_where_somebody_takes_it_off_again() {
        let spec = json!({"name": "A", "owner": "alice"});
        let patch =
            |review: &Value, in_scope| mutate(&parse(review.to_string().as_bytes()).unwrap(), in_scope, now()).patch;
        let mut review = testing::create("alice", "a", spec.clone());
        let add = |path: &str, value: Value| vec![json!({"op": "add", "path": path, "value": value})];
        assert_eq!(patch(&review, true), add("/metadata/finalizers", json!([FINALIZER])));
        assert_eq!(patch(&review, false), Vec::<Value>::new());
        review["request"]["object"]["metadata"]["finalizers"] = json!(["example.com/other"]);
        assert_eq!(patch(&review, true), add("/metadata/finalizers/-", json!(FINALIZER)));
        review["request"]["object"]["metadata"]["finalizers"] = json!([FINALIZER]);
        assert_eq!(patch(&review, true), Vec::<Value>::new());
        assert_eq!(patch(&testing::update("alice", "a", spec.clone(), spec), true), Vec::<Value>::new());
    }

    #[test]
    fn an_update_without_owner_keeps_the_one_there_was() {
        let review = testing::update("carol", "a", json!({"name": "A", "owner": "bob"}), json!({"name": "B"}));
        assert_eq!(patched(&review)["spec"]["owner"], "bob");
        let never = testing::update("carol", "a", json!({"name": "A"}), json!({"name": "B"}));
        assert!(mutated(&never).patch.is_empty());
    }

    #[test]
    fn a_wish_is_stamped_when_it_turns_true_and_not_again() {
        let spec = |primary| json!({"name": "A", "owner": "alice", "primary": primary});
        let created = patched(&testing::create("alice", "a", spec(true)));
        assert_eq!(created["metadata"]["annotations"][PRIMARY_SINCE], "2026-01-01T00:00:00Z");

        let mut again = testing::update("alice", "a", spec(true), spec(true));
        for object in ["object", "oldObject"] {
            again["request"][object] = stamped(again["request"][object].clone(), "2025-01-01T00:00:00Z");
        }
        assert!(mutated(&again).patch.is_empty());
        // A file from Git knows nothing of the stamp.
        again["request"]["object"]["metadata"]["annotations"] = json!({});
        assert_eq!(patched(&again)["metadata"]["annotations"][PRIMARY_SINCE], "2025-01-01T00:00:00Z");

        again["request"]["object"]["spec"]["primary"] = json!(false);
        again["request"]["object"] = stamped(again["request"]["object"].clone(), "2025-01-01T00:00:00Z");
        assert_eq!(patched(&again)["metadata"]["annotations"], json!({}));
        assert!(mutated(&again).warnings.is_empty());
    }

    #[test]
    fn a_wish_is_made_anew_by_a_later_stamp_and_not_by_one_from_a_file() {
        let spec = json!({"name": "A", "owner": "alice", "primary": true});
        let mut review = testing::update("alice", "a", spec.clone(), spec);
        review["request"]["oldObject"] = stamped(review["request"]["oldObject"].clone(), "2025-06-01T00:00:00Z");
        for (given, right, warns) in [
            // What a client says that means it; by whatever clock, the stamp is ours.
            ("2025-06-01T00:00:00.000000001Z", "2026-01-01T00:00:00Z", false),
            ("2026-01-01T00:09:59Z", "2026-01-01T00:00:00Z", false),
            // What a file says that was exported before the wish was last made.
            ("2025-05-31T23:59:59Z", "2025-06-01T00:00:00Z", true),
            // What a file says that somebody has written by hand, to win for ever.
            ("2099-01-01T00:00:00Z", "2025-06-01T00:00:00Z", true),
            ("now", "2025-06-01T00:00:00Z", true),
        ] {
            review["request"]["object"] = stamped(review["request"]["object"].clone(), given);
            assert_eq!(patched(&review)["metadata"]["annotations"][PRIMARY_SINCE], right, "{given}");
            assert_eq!(mutated(&review).warnings.len(), usize::from(warns), "{given}");
        }
    }

    #[test]
    fn a_stamp_by_anybody_else_is_replaced_with_a_warning() {
        let mut review = testing::create("mallory", "a", json!({"name": "A", "owner": "mallory", "primary": false}));
        review["request"]["object"] = stamped(review["request"]["object"].clone(), "2099-01-01T00:00:00Z");
        assert_eq!(patched(&review)["metadata"]["annotations"], json!({}));
        assert!(mutated(&review).warnings[0].contains("set by the operator"));

        review["request"]["object"]["spec"]["primary"] = json!(true);
        assert_eq!(patched(&review)["metadata"]["annotations"][PRIMARY_SINCE], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn an_object_of_the_wrong_shape_is_left_to_the_schema() {
        for spec in [json!(null), json!("x"), json!([1])] {
            assert!(mutated(&testing::create("alice", "a", spec)).patch.is_empty());
        }
    }
}
