//! Annotation keys, the finalizer and the field manager: names that outlive any one release.

use kube::core::ObjectMeta;

/// Asks for a new pairing window. Any new value opens one; the same value again does nothing.
pub const REFRESH_QR: &str = "whatsapp-operator.dev/refresh-qr";

/// Lets whoever has a link's secret see the pairing codes of the instance: an object in JSON with `sha256` (of the secret, in
/// hexadecimal), `createdAt` and `expiresAt` (RFC 3339). Removing it revokes the link.
pub const LINKING_LINK: &str = "whatsapp-operator.dev/linking-link";

/// Marks the `WhatsAppBridge` that instances without `spec.bridgeRef` use, when its value is `"true"`.
pub const IS_DEFAULT_BRIDGE: &str = "whatsapp-operator.dev/is-default";

/// When `spec.primary` last turned true, or was wished anew, as an RFC 3339 time: the latest wish counts.
///
/// Stamped by admission with its own clock; what anybody else writes is replaced. To write a time later than the one that
/// stands there is how a wish that was outdone by another's is made anew in one patch; the time itself does not matter.
/// An earlier one, as in a file that was exported with its annotations, is ignored. Where admission is away, the time counts
/// as written.
pub const PRIMARY_SINCE: &str = "whatsapp-operator.dev/primary-since";

/// Keeps an instance until its device is unlinked and its keys are deleted.
pub const FINALIZER: &str = "whatsapp-operator.dev/session";

/// Asks the operator to change the token in the Secret that it keeps for its bridge. Any new value changes it once.
pub const ROTATE_TOKEN: &str = "whatsapp-operator.dev/rotate-token";

/// Who made an object, as a label that Kubernetes itself recommends.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Whether an installation of the operator made this object.
pub fn is_of_an_installation(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == "whatsapp-operator")
}

/// Field manager of the `WhatsAppBridge` that the operator is installed with.
pub const INSTALLER: &str = "whatsapp-operator-install";

/// Server-side apply field manager of everything the controller writes.
pub const FIELD_MANAGER: &str = "whatsapp-operator";
