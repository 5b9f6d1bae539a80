//! What the webhooks need of Kubernetes.

use crate::{
    api::GROUP,
    platform::rbac::{
        Reach::{Cluster, Instances, ReleaseNamespace},
        Right,
    },
};

/// The rights of the webhooks, beside those of their lease.
pub const RIGHTS: &[Right] = &[
    Right {
        group: GROUP,
        resources: &["whatsappinstances"],
        verbs: &["list"],
        names: &[],
        reach: Instances,
        why: "see what exists before anybody is refused",
    },
    Right {
        group: GROUP,
        resources: &["whatsappowners"],
        verbs: &["get", "list", "watch", "create"],
        names: &[],
        reach: Cluster,
        why: "read the ledgers; create one with an owner's first instance",
    },
    Right {
        group: GROUP,
        resources: &["whatsappowners/status"],
        verbs: &["update"],
        names: &[],
        reach: Cluster,
        why: "reserve a slot",
    },
    Right {
        group: "authorization.k8s.io",
        resources: &["subjectaccessreviews"],
        verbs: &["create"],
        names: &[],
        reach: Cluster,
        why: "ask whether a requester may use the verb assign-owner",
    },
    Right {
        group: "admissionregistration.k8s.io",
        resources: &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
        verbs: &["get", "list", "watch", "patch"],
        names: &["whatsapp-operator"],
        reach: Cluster,
        why: "keep caBundle what it has to be; with another --webhook-configuration, its name",
    },
    Right {
        group: "",
        resources: &["secrets"],
        verbs: &["create"],
        names: &[],
        reach: ReleaseNamespace,
        why: "make the Secret of the certificates",
    },
    Right {
        group: "",
        resources: &["secrets"],
        verbs: &["get", "list", "watch", "update"],
        names: &["whatsapp-operator-webhook"],
        reach: ReleaseNamespace,
        why: "share and renew the certificates; with another --webhook-secret, its name",
    },
];
