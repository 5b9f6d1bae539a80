//! The owners' objects as the watch last showed them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _};
use kube::{
    ResourceExt as _,
    runtime::watcher::{self, Event},
};
use tokio::sync::oneshot;

use crate::{
    api::WhatsAppOwner,
    platform::{lock, packed::Packed},
};

/// The owners' objects by name, packed: there may be thousands, and few are asked for at a time.
#[derive(Default)]
pub struct Watched(Mutex<Objects>);

type ByName = HashMap<String, Packed<WhatsAppOwner>>;

#[derive(Default)]
struct Objects {
    shown: ByName,
    /// What a list under way has told so far.
    listing: ByName,
}

impl Watched {
    /// The object of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<WhatsAppOwner> {
        lock(&self.0).shown.get(name).and_then(Packed::value)
    }

    /// Keeps up with the watch for ever; tells `listed` once everything has been listed.
    pub async fn follow(
        self: Arc<Self>,
        events: impl Stream<Item = watcher::Result<Event<WhatsAppOwner>>> + Send,
        listed: oneshot::Sender<()>,
    ) {
        let (mut events, mut listed) = (std::pin::pin!(events), Some(listed));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let done = matches!(event, Event::InitDone);
                    self.take(event);
                    if let Some(listed) = listed.take_if(|_| done) {
                        // Whoever waited may have lost patience.
                        let _ = listed.send(());
                    }
                }
                Err(error) => tracing::warn!(%error, "watch WhatsAppOwners"),
            }
        }
    }

    fn take(&self, event: Event<WhatsAppOwner>) {
        let keep = |objects: &mut ByName, mut owner: WhatsAppOwner| {
            // Nobody here reads them, and they can be larger than the object.
            owner.metadata.managed_fields = None;
            if let Some(packed) = Packed::of(&owner) {
                objects.insert(owner.name_any(), packed);
            }
        };
        let mut objects = lock(&self.0);
        match event {
            Event::Init => objects.listing.clear(),
            Event::InitApply(owner) => keep(&mut objects.listing, owner),
            Event::InitDone => objects.shown = std::mem::take(&mut objects.listing),
            Event::Apply(owner) => keep(&mut objects.shown, owner),
            Event::Delete(owner) => drop(objects.shown.remove(&owner.name_any())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WhatsAppOwnerSpec;

    fn owner(name: &str) -> WhatsAppOwner {
        WhatsAppOwner::new(name, WhatsAppOwnerSpec { owner: name.into(), max_instances: None })
    }

    #[tokio::test]
    async fn a_list_made_again_forgets_what_went_meanwhile() {
        let watched = Arc::new(Watched::default());
        let list = |names: [&str; 2]| {
            let each = names.map(|name| Ok(Event::InitApply(owner(name))));
            [Ok(Event::Init)].into_iter().chain(each).chain([Ok(Event::InitDone)])
        };
        let later = [Ok(Event::Apply(owner("carol"))), Ok(Event::Delete(owner("alice")))];
        let (told, listed) = oneshot::channel();
        let events = list(["alice", "bob"]).chain(list(["alice", "dave"])).chain(later);
        Arc::clone(&watched).follow(futures::stream::iter(events), told).await;
        assert!(listed.await.is_ok());
        let shown = ["alice", "bob", "carol", "dave"].map(|name| watched.get(name).map(|object| object.spec.owner));
        assert_eq!(shown, [None, None, Some("carol".into()), Some("dave".into())]);
    }
}
