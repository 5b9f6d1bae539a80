//! What the controller needs of Kubernetes.

use crate::{
    api::GROUP,
    platform::rbac::{
        Reach::{Cluster, Instances},
        Right,
    },
};

/// The rights of the controller, beside those of its lease.
pub const RIGHTS: &[Right] = &[
    Right {
        group: GROUP,
        resources: &["whatsappinstances"],
        verbs: &["get", "list", "watch", "patch"],
        names: &[],
        reach: Instances,
        why: "watch instances; patch is for their finalizer only",
    },
    Right {
        group: GROUP,
        resources: &["whatsappinstances/status"],
        verbs: &["update"],
        names: &[],
        reach: Instances,
        why: "write the status of instances",
    },
    Right {
        group: GROUP,
        resources: &["whatsappinstances/finalizers"],
        verbs: &["update"],
        names: &[],
        reach: Instances,
        why: "set the finalizer where the admission plugin OwnerReferencesPermissionEnforcement is on",
    },
    Right {
        group: GROUP,
        resources: &["whatsappowners"],
        verbs: &["get", "list", "watch", "create"],
        names: &[],
        reach: Cluster,
        why: "watch the ledgers; create one for an owner who has none",
    },
    Right {
        group: GROUP,
        resources: &["whatsappowners/status"],
        verbs: &["update"],
        names: &[],
        reach: Cluster,
        why: "write ledger, counts and primary",
    },
    Right {
        group: GROUP,
        resources: &["whatsappbridges"],
        verbs: &["list", "watch"],
        names: &[],
        reach: Cluster,
        why: "watch bridges",
    },
    Right {
        group: GROUP,
        resources: &["whatsappbridges/status"],
        verbs: &["update"],
        names: &[],
        reach: Cluster,
        why: "write the status of bridges",
    },
    Right {
        group: "",
        resources: &["namespaces"],
        verbs: &["list", "watch"],
        names: &[],
        reach: Cluster,
        why: "read the labels of namespaces for allowedNamespaces of a bridge",
    },
    Right {
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create", "patch"],
        names: &[],
        reach: Cluster,
        why: "write Events; those about bridges go to the namespace default",
    },
    Right {
        group: "",
        resources: &["secrets"],
        verbs: &["get"],
        names: &["whatsapp-bridge-token"],
        reach: crate::platform::rbac::Reach::ReleaseNamespace,
        why: "read the token of a bridge; for a Secret of another name or namespace (credentialsSecretRef), grant get on it there",
    },
];
