//! Annotation keys, the finalizer and the field manager: names that outlive any one release.

/// Asks for a new pairing window. Any new value opens one; the same value again does nothing.
pub const REFRESH_QR: &str = "whatsapp-operator.dev/refresh-qr";

/// Marks the `WhatsAppBridge` that instances without `spec.bridgeRef` use, when its value is `"true"`.
pub const IS_DEFAULT_BRIDGE: &str = "whatsapp-operator.dev/is-default";

/// When `spec.primary` last turned true, as an RFC 3339 time. Stamped by admission; what anybody else writes is replaced.
pub const PRIMARY_SINCE: &str = "whatsapp-operator.dev/primary-since";

/// Keeps an instance until its device is unlinked and its keys are deleted.
pub const FINALIZER: &str = "whatsapp-operator.dev/session";

/// Server-side apply field manager of everything the controller writes.
pub const FIELD_MANAGER: &str = "whatsapp-operator";
