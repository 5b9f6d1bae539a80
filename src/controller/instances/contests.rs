//! Statuses that another program writes over.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::Instances;
use crate::{
    api::{WhatsAppInstance, WhatsAppInstanceStatus},
    controller::contest::digest,
    platform::lock,
};

impl Instances {
    /// How long the status of an instance has to wait before it is written again.
    pub fn contested(&self, instance: &WhatsAppInstance, wanted: &WhatsAppInstanceStatus) -> Duration {
        let mut entries = lock(&self.entries);
        let entry = instance.uid().and_then(|uid| entries.by_uid.get_mut(&uid));
        let now = Instant::now();
        entry.map_or(Duration::ZERO, |entry| entry.contest.wait(of(instance.status.as_ref()), of(Some(wanted)), now))
    }

    /// A status was written.
    pub fn wrote(&self, instance: &WhatsAppInstance, wanted: &WhatsAppInstanceStatus) {
        let mut entries = lock(&self.entries);
        let Some(entry) = instance.uid().and_then(|uid| entries.by_uid.get_mut(&uid)) else { return };
        if entry.contest.wrote(of(instance.status.as_ref()), of(Some(wanted)), Instant::now()) {
            tracing::error!(
                "another program writes the status of this instance, and something else than we do: are there two operators? \
                 kubectl whatsapp doctor names them. From now on it is put right ever more slowly"
            );
        }
    }
}

fn of(status: Option<&WhatsAppInstanceStatus>) -> u64 {
    status.map_or(0, |status| {
        digest((status.phase, &status.bridge, status.primary, &status.session_id), &status.conditions)
    })
}
