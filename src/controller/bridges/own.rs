//! Which bridges an operator serves that was told of no labels: all but those that another installation has made.
//!
//! An installation is known by its namespace, in which its Lease is, and the Secret of the bridge that it makes. Two installations in one
//! cluster are refused by the chart, but only where Helm can ask the cluster: `helm template` and Argo CD cannot. Both operators
//! would write every status, each as it sees the bridge, and the second one may not even read the first one's token. What decides
//! stands in the bridge itself, so both decide alike, also while one of them is away.

use std::collections::HashSet;

use futures::{Stream, StreamExt as _, channel::mpsc};
use kube::{
    ResourceExt as _,
    core::{PartialObjectMeta, PartialObjectMetaExt as _},
};

use crate::{
    api::WhatsAppBridge,
    platform::watch::{Change, Key},
};

/// A bridge without its spec.
pub type BridgeMeta = PartialObjectMeta<WhatsAppBridge>;

/// Changes of bridges, as a watch brings them.
type Batch<K> = Vec<Change<K>>;

/// Splits the changes of all bridges: into those of the ones that the operator of the installation in `namespace` serves, and those of
/// all, by their metadata. The second only moves on with the first.
pub fn served(
    all: impl Stream<Item = Batch<WhatsAppBridge>> + Send,
    namespace: String,
) -> (impl Stream<Item = Batch<WhatsAppBridge>> + Send, impl Stream<Item = Batch<BridgeMeta>> + Send) {
    let (tell, every) = mpsc::unbounded();
    let mut split = Split { namespace, own: HashSet::new(), others: HashSet::new() };
    let own = all.map(move |batch| {
        // Ends only together with the controller.
        let _ = tell.unbounded_send(batch.iter().map(metadata).collect());
        batch.into_iter().filter_map(|change| split.own(change)).collect()
    });
    (own, every)
}

struct Split {
    namespace: String,
    own: HashSet<Key>,
    others: HashSet<Key>,
}

impl Split {
    /// What a change is to those who see only the own bridges; nothing when it is none to them.
    fn own(&mut self, change: Change<WhatsAppBridge>) -> Option<Change<WhatsAppBridge>> {
        match change {
            Change::Present(key, bridge) => match self.another(&bridge) {
                None => {
                    self.others.remove(&key);
                    self.own.insert(key.clone());
                    Some(Change::Present(key, bridge))
                }
                Some(another) => {
                    if self.others.insert(key.clone()) {
                        tracing::error!(
                            bridge = bridge.name_any(),
                            namespace = self.namespace,
                            another,
                            "another installation has made this WhatsAppBridge: nothing is done here for it and its instances. One \
                             installation serves a cluster, so uninstall one of the two; or give the operators of both a \
                             --bridge-selector. If the other one is gone, delete the WhatsAppBridge. If this is that one, run it with \
                             its namespace as --lease-namespace"
                        );
                    }
                    self.own.remove(&key).then_some(Change::Gone(key))
                }
            },
            Change::Gone(key) => {
                self.others.remove(&key);
                self.own.remove(&key).then_some(Change::Gone(key))
            }
            // What cannot be read belongs to whoever says so.
            Change::Unfit(key, uid) => Some(Change::Unfit(key, uid)),
            Change::Listing => Some(Change::Listing),
            Change::Listed => Some(Change::Listed),
        }
    }

    /// The namespace of the installation that made it, when that is another one.
    fn another<'a>(&self, bridge: &'a WhatsAppBridge) -> Option<&'a str> {
        bridge.installed_in().filter(|namespace| *namespace != self.namespace)
    }
}

/// A change, of the metadata alone. A bridge that cannot be read is not there: who asks for it is told so by every operator.
fn metadata(change: &Change<WhatsAppBridge>) -> Change<BridgeMeta> {
    match change {
        Change::Present(key, bridge) => Change::Present(key.clone(), bridge.metadata.clone().into_response_partial()),
        Change::Unfit(key, _) | Change::Gone(key) => Change::Gone(key.clone()),
        Change::Listing => Change::Listing,
        Change::Listed => Change::Listed,
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::{api::labels::MANAGED_BY, controller::fixtures};

    fn made_in(name: &str, namespace: &str) -> Change<WhatsAppBridge> {
        let mut bridge = fixtures::bridge(name, &["s0"]);
        bridge.labels_mut().insert(MANAGED_BY.into(), "whatsapp-operator".into());
        bridge.spec.credentials_secret_ref.namespace = namespace.into();
        Change::Present(fixtures::named("", name), bridge)
    }

    fn by_hand(name: &str) -> Change<WhatsAppBridge> {
        Change::Present(fixtures::named("", name), fixtures::bridge(name, &["s0"]))
    }

    fn shown<K>(batches: Vec<Batch<K>>) -> Vec<String> {
        let one = |change: Change<K>| match change {
            Change::Present(key, _) => format!("+{}", key.name),
            Change::Unfit(key, _) => format!("?{}", key.name),
            Change::Gone(key) => format!("-{}", key.name),
            Change::Listing => "listing".to_owned(),
            Change::Listed => "listed".to_owned(),
        };
        batches.into_iter().flatten().map(one).collect()
    }

    #[tokio::test]
    async fn bridges_of_another_installation_are_known_of_and_not_served() {
        let gone = |name: &str| Change::Gone(fixtures::named("", name));
        let batches = vec![
            vec![made_in("ours", "here"), made_in("theirs", "there"), by_hand("hand"), Change::Listed],
            // Made again, by the other one; and the other way round.
            vec![made_in("ours", "there"), made_in("theirs", "here")],
            vec![made_in("ours", "there"), Change::Unfit(fixtures::named("", "hand"), None)],
            vec![gone("ours"), gone("theirs"), gone("never")],
        ];
        let (own, all) = served(stream::iter(batches), "here".into());
        let own: Vec<_> = own.collect().await;
        let wanted = ["+ours", "+hand", "listed", "-ours", "+theirs", "?hand", "-theirs"];
        assert_eq!(shown(own), wanted);
        let wanted =
            ["+ours", "+theirs", "+hand", "listed", "+ours", "+theirs", "+ours", "-hand", "-ours", "-theirs", "-never"];
        assert_eq!(shown(all.collect().await), wanted);
    }
}
