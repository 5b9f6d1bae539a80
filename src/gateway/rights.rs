//! What the gateway's own account needs of Kubernetes. What callers ask for is done with the callers' own tokens.

use crate::{
    api::GROUP,
    platform::rbac::{
        Reach::{Cluster, Instances, ReleaseNamespace},
        Right,
    },
};

/// The rights of the gateway.
pub const RIGHTS: &[Right] = &[
    Right {
        group: GROUP,
        resources: &["whatsappinstances"],
        verbs: &["list", "watch"],
        names: &[],
        reach: Instances,
        why: "know which object a session's id is, and which instance sends a message; no number and no code is kept",
    },
    Right {
        group: "",
        resources: &["namespaces"],
        verbs: &["list"],
        names: &[],
        reach: Cluster,
        why: "with --watch-namespaces, tell a namespace that is gone from one without rights",
    },
    Right {
        group: GROUP,
        resources: &["whatsappbridges"],
        verbs: &["list"],
        names: &[],
        reach: Cluster,
        why: "know where a session is",
    },
    Right {
        group: GROUP,
        resources: &["whatsappowners"],
        verbs: &["get"],
        names: &[],
        reach: Cluster,
        why: "tell callers their own limit",
    },
    Right {
        group: "",
        resources: &["secrets"],
        verbs: &["get"],
        names: &["whatsapp-bridge-token"],
        reach: ReleaseNamespace,
        why: "read the token of a bridge; for a Secret of another name or namespace (credentialsSecretRef), grant get on it there",
    },
    Right {
        group: "authorization.k8s.io",
        resources: &["subjectaccessreviews"],
        verbs: &["create"],
        names: &[],
        reach: Cluster,
        why: "ask who may send and read messages",
    },
    Right {
        group: "authentication.k8s.io",
        resources: &["tokenreviews"],
        verbs: &["create"],
        names: &[],
        reach: Cluster,
        why: "ask whose a caller's token is",
    },
];
