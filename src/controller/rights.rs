//! What the controller needs of Kubernetes.

use crate::platform::rbac::{
    Reach::{Cluster, Instances},
    Right,
};

const OURS: &str = "whatsapp-operator.dev";

/// The rights of the controller, beside those of its lease.
pub const RIGHTS: &[Right] = &[
    Right {
        group: OURS,
        resources: &["whatsappinstances"],
        verbs: &["get", "list", "watch", "patch"],
        names: &[],
        reach: Instances,
        why: "watch instances; patch is for their finalizer only",
    },
    Right {
        group: OURS,
        resources: &["whatsappinstances/status"],
        verbs: &["update"],
        names: &[],
        reach: Instances,
        why: "write the status of instances",
    },
    Right {
        group: OURS,
        resources: &["whatsappinstances/finalizers"],
        verbs: &["update"],
        names: &[],
        reach: Instances,
        why: "set the finalizer where the admission plugin OwnerReferencesPermissionEnforcement is on",
    },
    Right {
        group: OURS,
        resources: &["whatsappowners"],
        verbs: &["get", "list", "watch", "create"],
        names: &[],
        reach: Cluster,
        why: "watch the ledgers; create one for an owner who has none",
    },
    Right {
        group: OURS,
        resources: &["whatsappowners/status"],
        verbs: &["update"],
        names: &[],
        reach: Cluster,
        why: "write ledger, counts and primary",
    },
    Right {
        group: OURS,
        resources: &["whatsappbridges"],
        verbs: &["list", "watch"],
        names: &[],
        reach: Cluster,
        why: "watch bridges",
    },
    Right {
        group: OURS,
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
