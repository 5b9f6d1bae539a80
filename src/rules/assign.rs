//! Who may use slots and names among another owner's instances.

use super::{Denial, ledger::SlotRequestKind};

/// The RBAC verb, on `whatsappinstances`, that allows to use slots and names among another owner's instances.
pub const ASSIGN_VERB: &str = "assign-owner";

/// The refusal of a slot or a name among another owner's instances. It says nothing about that other owner, not even
/// whether there is one.
pub fn not_assignable(kind: SlotRequestKind, namespace: &str) -> Denial {
    let verb = format!("which takes the verb {ASSIGN_VERB} on whatsappinstances in namespace {namespace:?}");
    let grant = "or have an administrator grant the verb";
    let message = match kind {
        SlotRequestKind::Slot => {
            format!(
                "spec.owner names somebody else, {verb}; leave spec.owner out to own the instance yourself, {grant}"
            )
        }
        SlotRequestKind::Name => {
            format!("spec.name would change among somebody else's names, {verb}; leave spec.name as it is, {grant}")
        }
    };
    Denial::new("OwnerNotAllowed", 403, message)
}
