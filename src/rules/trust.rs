//! When a process may count an owner's instances by their ledger entries, without a look at the instances themselves.

use super::InstanceFacts;
use crate::{api::LedgerEntry, model::NamespaceScope, platform::namespaces::Standing};

/// The instances that `entries` name in a namespace which could not be read, as the entries describe them. `None` when the entries
/// do not count: the namespace is one that this process looks after, and how it stands does not explain why it could not be read,
/// so that the rights of this process are at fault.
///
/// `standing` is `None` when the API server did not say how the namespace stands. Nobody loses a slot by that: entries for
/// namespaces of other operators count, and a refusal in a namespace of this one stays a refusal.
pub fn unread<'a>(
    scope: &NamespaceScope,
    entries: impl IntoIterator<Item = &'a LedgerEntry>,
    namespace: &str,
    standing: Option<Standing>,
) -> Option<Vec<InstanceFacts>> {
    let explained = !scope.includes(namespace) || standing.is_some_and(Standing::explains_a_refusal);
    let within = entries.into_iter().filter(|entry| entry.namespace == namespace);
    explained.then(|| within.filter_map(|entry| InstanceFacts::on_trust(entry, standing)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_counts_for_namespaces_of_others_and_for_those_that_are_going() {
        use Standing::{Absent, Active, Ending};
        let entry = |namespace: &str| LedgerEntry { namespace: namespace.into(), ..LedgerEntry::default() };
        let entries = [entry("ours"), entry("theirs")];
        let scope = NamespaceScope::Only(vec!["ours".into()]);
        let counted = |namespace, standing| {
            let facts = unread(&scope, &entries, namespace, standing)?;
            Some(facts.into_iter().map(|facts| facts.key.namespace).collect::<Vec<_>>())
        };
        for (standing, ours, theirs) in [
            (Some(Active), None, Some(1)),
            (Some(Ending), Some(1), Some(1)),
            (Some(Absent), Some(0), Some(0)),
            (None, None, Some(1)),
        ] {
            assert_eq!(counted("ours", standing), ours.map(|count| vec!["ours".to_owned(); count]), "{standing:?}");
            assert_eq!(
                counted("theirs", standing),
                theirs.map(|count| vec!["theirs".to_owned(); count]),
                "{standing:?}"
            );
        }
        assert_eq!(unread(&NamespaceScope::All, &entries, "ours", Some(Active)), None, "all are ours");
    }
}
