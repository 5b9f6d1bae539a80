//! What a request changes that the rules have a say in; found out from the request alone.

use k8s_openapi::jiff::Timestamp;
use kube::core::admission::Operation;
use serde_json::Value;

use super::{
    mutate::{owner, stamp, wishes},
    review::{Request, Reviewed},
};
use crate::{
    api::{InstanceRef, conditions},
    rules::{
        self, ComparableName, Denial,
        ledger::{SlotRequest, SlotRequestKind},
        owner::check_object_name,
        primary::{check_wish, wishes_anew},
        text::check_name,
    },
};

/// What a request changes that the rules have a say in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedChange {
    /// The instance.
    pub key: InstanceRef,
    /// Whose ledger it is about.
    pub owner: String,
    /// What it takes of the ledger: a slot, or only another name.
    pub slot_request: Option<SlotRequest>,
    /// `spec.primary` turns true, or is wished anew.
    pub wishes: bool,
    /// The requester may be told of the owner's other instances.
    pub is_owner: bool,
}

impl RequestedChange {
    /// What it takes of another owner's ledger. That needs a permission: the answer alone would show what is in it.
    pub fn of_another(&self) -> Option<SlotRequestKind> {
        self.slot_request.as_ref().filter(|_| !self.is_owner).map(|wanted| wanted.kind)
    }
}

/// What a request about an instance changes `now`; nothing when the rules have no say.
///
/// # Errors
/// The refusal and the rule behind it, when the request itself says enough.
pub fn requested_change(request: &Request, now: Timestamp) -> Result<Option<RequestedChange>, (&'static str, Denial)> {
    let Some(object) = &request.object else { return Ok(None) };
    let old = match request.operation {
        Operation::Create => None,
        Operation::Update => Some(request.old_object.as_ref().unwrap_or(object)),
        Operation::Delete | Operation::Connect => return Ok(None),
    };
    let was_owned = old.and_then(owner).is_some();
    // What is being deleted takes no slot any more, and nothing may hold the deletion up; unless it is given an owner now.
    let going = object.metadata.deletion_timestamp.is_some() && (was_owned || owner(object).is_none());
    if going || request.sub_resource.as_ref().is_some_and(|sub| !sub.is_empty()) {
        return Ok(None);
    }
    let key = key(request, object)?;
    let Some(owner) = owner(object).map(str::to_owned) else {
        // Without an owner there is no ledger. One that came in while admission was away may stay; the controller judges it.
        return if old.is_some() { Ok(None) } else { Err(("owner", no_owner())) };
    };

    let display = text(object, "name");
    let before = old.map(|old| text(old, "name"));
    let changed = before != Some(display);
    // What is stored already may stay as it is: a label must be changeable, and the finalizer removable.
    if changed {
        check_name(display).map_err(|denial| ("name", denial))?;
    }
    if !was_owned {
        rules::text::check_owner(&owner).map_err(|denial| ("owner", denial))?;
    }
    let renamed = changed && before.is_none_or(|before| ComparableName::of(before) != ComparableName::of(display));
    let kind = match (was_owned, renamed) {
        (false, _) => Some(SlotRequestKind::Slot),
        (true, true) => Some(SlotRequestKind::Name),
        (true, false) => None,
    };
    let wished = old.is_some_and(|old| wishes(old) && !wishes_anew(stamp(object), stamp(old), now));
    if let Some(old) = old {
        check_wish(&key.name, wished, wishes(object), is_connected(old)).map_err(|denial| ("primary", denial))?;
    }
    let is_owner = request.user_info.username.as_deref() == Some(&owner);
    Ok(Some(RequestedChange {
        slot_request: kind.map(|kind| SlotRequest::new(key.clone(), display, kind)),
        wishes: wishes(object) && !wished,
        key,
        owner,
        is_owner,
    }))
}

/// The check of a `WhatsAppOwner`: it has the name that is looked for; and as long as there are instances, a limit that
/// was set is not lost with it. (Without such a limit it comes back as it was.)
///
/// # Errors
/// The refusal.
pub fn check_owner(request: &Request) -> Result<(), (&'static str, Denial)> {
    match (&request.operation, &request.object, &request.old_object) {
        (Operation::Create, Some(object), _) => {
            let name = object.metadata.name.as_deref().unwrap_or(&request.name);
            let owner = text(object, "owner");
            rules::text::check_owner(owner).map_err(|denial| ("owner", denial))?;
            check_object_name(name, owner).map_err(|denial| ("object-name", denial))
        }
        (Operation::Delete, _, Some(object)) => {
            let instances = object.status["instances"].as_array().map_or(0, Vec::len);
            match object.spec["maxInstances"].as_i64() {
                Some(limit) if instances > 0 => Err(("limit-in-use", limit_in_use(&request.name, limit, instances))),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn limit_in_use(name: &str, limit: i64, instances: usize) -> Denial {
    Denial::new(
        "LimitInUse",
        409,
        format!(
            "WhatsAppOwner {name:?} must not be deleted while there are instances ({instances}), since their limit of {limit} would be lost; remove spec.maxInstances first",
        ),
    )
}

fn key(request: &Request, object: &Reviewed) -> Result<InstanceRef, (&'static str, Denial)> {
    let name = object.metadata.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| request.name.clone());
    let namespace = request.namespace.clone().or_else(|| object.metadata.namespace.clone()).unwrap_or_default();
    if name.is_empty() || namespace.is_empty() {
        return Err((
            "object-name",
            Denial::new("NameMissing", 422, "metadata.name and metadata.namespace must be set; give the instance both"),
        ));
    }
    Ok(InstanceRef { namespace, name })
}

fn no_owner() -> Denial {
    Denial::new(
        "OwnerMissing",
        422,
        "spec.owner must be set, since the mutating webhook of the operator did not fill it in; check that its MutatingWebhookConfiguration is installed",
    )
}

fn text<'a>(object: &'a Reviewed, field: &str) -> &'a str {
    object.spec[field].as_str().unwrap_or_default()
}

fn is_connected(object: &Reviewed) -> bool {
    let conditions = object.status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let connected = |condition: &Value| condition["type"] == conditions::CONNECTED && condition["status"] == "True";
    conditions.iter().any(connected)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{RequestedChange, check_owner, requested_change};
    use crate::{
        admission::{review::parse, testing},
        rules::{ledger::SlotRequestKind, owner::object_name},
    };

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn asked(review: &Value) -> Option<RequestedChange> {
        requested_change(&parse(review.to_string().as_bytes()).unwrap(), now()).unwrap()
    }

    fn refused(review: &Value) -> (&'static str, &'static str) {
        let (rule, denial) = requested_change(&parse(review.to_string().as_bytes()).unwrap(), now()).unwrap_err();
        (rule, denial.reason)
    }

    fn spec(name: &str, owner: &str, primary: bool) -> Value {
        json!({"name": name, "owner": owner, "primary": primary})
    }

    #[test]
    fn a_create_asks_for_a_slot_and_says_when_it_is_for_somebody_else() {
        let own = asked(&testing::create("alice", "a", spec("A", "alice", false))).unwrap();
        assert_eq!((own.of_another(), own.slot_request.unwrap().kind), (None, SlotRequestKind::Slot));
        assert!(asked(&testing::create("gitops", "a", spec("A", "alice", false))).unwrap().of_another().is_some());
        assert_eq!(refused(&testing::create("alice", "a", json!({"name": "A"}))), ("owner", "OwnerMissing"));
    }

    #[test]
    fn only_another_name_asks_for_it() {
        let rename =
            |to| asked(&testing::update("bob", "a", spec("Sales", "alice", false), spec(to, "alice", false))).unwrap();
        assert_eq!(rename(" SALES").slot_request, None);
        assert_eq!(rename("Support").slot_request.unwrap().kind, SlotRequestKind::Name);
        assert!(rename("Support").of_another().is_some(), "its answer tells which names the owner has");
    }

    #[test]
    fn getting_an_owner_is_like_being_created() {
        let asked = asked(&testing::update("bob", "a", json!({"name": "A"}), spec("A", "alice", false))).unwrap();
        assert_eq!(
            (asked.of_another(), asked.slot_request.unwrap().kind),
            (Some(SlotRequestKind::Slot), SlotRequestKind::Slot)
        );
    }

    #[test]
    fn primary_takes_a_connection_on_update_but_not_on_create() {
        assert!(asked(&testing::create("alice", "a", spec("A", "alice", true))).unwrap().wishes);
        let mut review = testing::update("alice", "a", spec("A", "alice", false), spec("A", "alice", true));
        assert_eq!(refused(&review), ("primary", "NotConnected"));
        review["request"]["oldObject"]["status"] = json!({"conditions": [{"type": "Connected", "status": "True"}]});
        assert!(asked(&review).unwrap().wishes);
        review["request"]["oldObject"]["spec"]["primary"] = json!(true);
        assert!(!asked(&review).unwrap().wishes, "it wished before");
        let stamp = |since| json!({"whatsapp-operator.dev/primary-since": since});
        review["request"]["oldObject"]["metadata"]["annotations"] = stamp("2026-01-01T00:00:00Z");
        review["request"]["object"]["metadata"]["annotations"] = stamp("2026-01-01T00:00:01Z");
        assert!(asked(&review).unwrap().wishes, "it wishes anew");
        review["request"]["oldObject"]["status"] = json!(null);
        assert_eq!(refused(&review), ("primary", "NotConnected"));
    }

    #[test]
    fn what_is_being_deleted_is_let_through() {
        let mut review = testing::update("alice", "a", spec("A", "alice", false), spec("B", "alice", true));
        review["request"]["object"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(asked(&review), None);
    }

    #[test]
    fn nobody_is_given_to_somebody_while_going() {
        let mut review = testing::update("bob", "a", json!({"name": "A"}), spec("A", "alice", false));
        review["request"]["object"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(asked(&review).unwrap().of_another().is_some());
    }

    #[test]
    fn a_limit_that_is_in_use_is_not_deleted() {
        let check = |spec: Value, instances: Value| {
            let mut review = testing::create("admin", "alice", Value::Null);
            review["request"]["operation"] = json!("DELETE");
            review["request"]["object"] = Value::Null;
            review["request"]["oldObject"] = json!({
                "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwner", "metadata": {"name": "alice"},
                "spec": spec, "status": {"instances": instances},
            });
            check_owner(&parse(review.to_string().as_bytes()).unwrap()).map_err(|(_, denial)| denial.reason)
        };
        let one = json!([{"namespace": "shop", "name": "a", "displayName": "a"}]);
        assert_eq!(check(json!({"owner": "alice", "maxInstances": 3}), one.clone()), Err("LimitInUse"));
        assert_eq!(check(json!({"owner": "alice"}), one), Ok(()));
        assert_eq!(check(json!({"owner": "alice", "maxInstances": 3}), json!([])), Ok(()));
    }

    #[test]
    fn an_owner_has_the_name_that_is_looked_for() {
        let mut review = testing::create("admin", "alice", json!({"owner": "alice@example.com"}));
        let check = |review: &Value| check_owner(&parse(review.to_string().as_bytes()).unwrap());
        assert_eq!(check(&review).unwrap_err().1.reason, "WrongObjectName");
        review["request"]["object"]["metadata"]["name"] = json!(object_name("alice@example.com"));
        assert_eq!(check(&review), Ok(()));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{1,6}|name|owner|primary|conditions", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_object_panics(spec in any_json(), old in any_json(), status in any_json(), create in any::<bool>()) {
            let mut review = if create { testing::create("alice", "a", spec) } else { testing::update("alice", "a", old, spec) };
            review["request"]["oldObject"]["status"] = status;
            if let Ok(request) = parse(review.to_string().as_bytes()) {
                let _ = (requested_change(&request, now()), check_owner(&request));
                let _ = crate::admission::mutate::mutate(&request, true, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
            }
        }
    }
}
