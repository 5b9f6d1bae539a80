//! What the gateway's own account needs of Kubernetes. What callers ask for is done with the callers' own tokens.

use crate::platform::rbac::{Reach::Cluster, Right};

/// The rights of the gateway.
pub const RIGHTS: &[Right] = &[
    Right {
        group: "whatsapp-operator.dev",
        resources: &["whatsappinstances"],
        verbs: &["list", "watch"],
        names: &[],
        reach: Cluster,
        why: "know which object a session's id is; only metadata is kept",
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
