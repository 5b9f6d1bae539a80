//! What users write and read: the custom resources of group `whatsapp-operator.dev`, their condition types and reasons,
//! label and annotation keys. No I/O, no client.

mod bridge;
pub mod conditions;
pub mod crd;
mod instance;
pub mod labels;
mod owner;
mod salvage;
mod status;

pub use bridge::{
    AllowedNamespaces, BridgeCapacity, BridgeSessions, BuiltinBridge, NamespacesFrom, SecretKeyRef, Shard,
    WhatsAppBridge, WhatsAppBridgeSpec, WhatsAppBridgeStatus,
};
pub use instance::{
    BridgeRef, DeletionPolicy, DesiredState, Pairing, PairingMethod, Presence, Sending, WhatsAppInstance,
    WhatsAppInstanceSpec,
};
pub use owner::{InstanceRef, LedgerEntry, Waiting, WhatsAppOwner, WhatsAppOwnerSpec, WhatsAppOwnerStatus};
pub use status::{
    BridgeBinding, Disconnection, PairingCodeStatus, Phase, QrStatus, RestrictionStatus, WhatsAppInstanceStatus,
};

/// The API group of every resource here.
pub const GROUP: &str = "whatsapp-operator.dev";

/// The API version served and stored.
pub const VERSION: &str = "v1alpha1";
