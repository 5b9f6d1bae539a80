//! An instance as the REST API shows it, in the words of the dashboard this API comes from.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::moment;
use crate::{
    api::{PairingMethod, Phase, WhatsAppInstance, WhatsAppInstanceStatus, conditions},
    drivers,
    rules::{
        actions::{Action, actions},
        link::LinkingLink,
    },
};

/// One session of an owner.
#[derive(Serialize, ToSchema)]
pub struct Session {
    /// The object's uid: never changes, and is never given to another.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10")]
    pub id: String,
    /// Display name, unique per owner.
    #[schema(example = "Business Account")]
    pub instance_name: String,
    /// The session's id on its bridge; null until it has a place on one.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10")]
    pub session_id: Option<String>,
    /// The WhatsAppBridge that it has its place on; null until it has one.
    #[schema(example = "default")]
    pub bridge: Option<String>,
    /// Where the session stands, in one of three words.
    pub status: Status,
    /// Where the session stands, exactly: the phase of the WhatsAppInstance.
    #[schema(example = "Connected")]
    pub phase: String,
    /// Whose it is; null when nobody's.
    #[schema(example = "alice@example.com")]
    pub user: Option<String>,
    /// Namespace of the WhatsAppInstance.
    #[schema(example = "default")]
    pub namespace: String,
    /// Name of the WhatsAppInstance, as kubectl shows it.
    #[schema(example = "business-account-x7k2p")]
    pub object: String,
    /// How a device is linked to it.
    pub pairing_method: LinkMethod,
    /// Number of the linked account in international form; null until one is linked.
    #[schema(example = "+15550001111")]
    pub phone_number: Option<String>,
    /// Whether messages go through it by default. Each owner has exactly one.
    pub is_primary: bool,
    /// Since when it has been connected.
    #[schema(example = "2026-01-01T12:00:00Z")]
    pub connected_at: Option<String>,
    /// When it was last seen active, coarse.
    #[schema(example = "2026-01-01T12:00:00Z")]
    pub last_active_at: Option<String>,
    /// When it was created.
    #[schema(example = "2026-01-01T12:00:00Z")]
    pub created_at: String,
    /// When its state last changed.
    #[schema(example = "2026-01-01T12:00:00Z")]
    pub updated_at: String,
    /// When the code to scan stops working; null when there is none.
    #[schema(example = "2026-01-01T12:01:00Z")]
    pub qr_expires_at: Option<String>,
    /// When the linking link that it has stops working; null when it has none that was not used.
    #[schema(example = json!(null))]
    pub link_expires_at: Option<String>,
    /// The text to draw as a QR code; null when there is none. Whoever scans it controls the session. Only in answers about
    /// one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr_code: Option<Option<String>>,
    /// Eight characters to type on the phone, with pairing method Code; null when there are none. Only in answers about one
    /// session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairing_code: Option<Option<String>>,
    /// What holds it back, as a stable word; null when nothing does.
    #[schema(example = "AwaitingPairing")]
    pub reason: Option<String>,
    /// The same as a sentence.
    #[schema(example = "Scan the QR code with the phone.")]
    pub message: Option<String>,
    /// Until when WhatsApp restricts the account; null when it does not, or does not say.
    #[schema(example = json!(null))]
    pub restricted_until: Option<String>,
    /// When it last stopped being connected, and why; null when it never did.
    pub last_disconnect: Option<Disconnect>,
    /// What may be asked of it now.
    #[schema(example = json!(["qr", "refresh-qr", "disconnect", "rename", "delete"]))]
    pub actions: Vec<Offered>,
}

/// The end of a connection.
#[derive(Serialize, ToSchema)]
pub struct Disconnect {
    /// Why, as a stable word.
    #[schema(example = "ConnectionLost")]
    pub reason: String,
    /// When.
    #[schema(example = "2026-01-01T12:00:00Z")]
    pub at: String,
}

/// Where a session stands, in three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SessionStatus)]
pub enum Status {
    /// Online.
    Connected,
    /// Waits to be linked, or for its code.
    QrPending,
    /// Neither.
    Disconnected,
}

/// The two ways to link a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = Method)]
pub enum LinkMethod {
    /// A QR code.
    #[serde(rename = "QR")]
    Qr,
    /// Characters to type.
    Code,
}

impl From<PairingMethod> for LinkMethod {
    fn from(method: PairingMethod) -> Self {
        match method {
            PairingMethod::Qr => Self::Qr,
            PairingMethod::Code => Self::Code,
        }
    }
}

/// What may be asked of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = Verb)]
pub enum Offered {
    /// GET qr.
    Qr,
    /// POST refresh-qr.
    RefreshQr,
    /// POST connect.
    Connect,
    /// POST disconnect.
    Disconnect,
    /// POST unlink.
    Unlink,
    /// POST set-primary.
    SetPrimary,
    /// PATCH with a name.
    Rename,
    /// DELETE.
    Delete,
}

impl From<Action> for Offered {
    fn from(action: Action) -> Self {
        match action {
            Action::ShowCode => Self::Qr,
            Action::RefreshCode => Self::RefreshQr,
            Action::Connect => Self::Connect,
            Action::Disconnect => Self::Disconnect,
            Action::Unlink => Self::Unlink,
            Action::SetPrimary => Self::SetPrimary,
            Action::Rename => Self::Rename,
            Action::Delete => Self::Delete,
        }
    }
}

impl Session {
    /// Without its codes: for lists and events.
    pub fn brief(instance: &WhatsAppInstance) -> Self {
        let nothing = WhatsAppInstanceStatus::default();
        let status = instance.status.as_ref().unwrap_or(&nothing);
        let phase = phase(instance);
        let ready = status.conditions.iter().find(|condition| condition.type_ == conditions::READY);
        let holds = ready.filter(|ready| ready.status != "True");
        let text = |time: Timestamp| time.to_string();
        let created = instance.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let expires = status.qr.as_ref().map(|qr| qr.expires_at.0);
        let expires = expires.or_else(|| status.pairing_code.as_ref().map(|code| code.expires_at.0));
        let id = instance.uid().unwrap_or_default();
        Self {
            instance_name: instance.spec.name.clone(),
            session_id: status.session_id.clone(),
            bridge: status.bridge.as_ref().map(|bridge| bridge.name.clone()),
            status: three_words(phase, status),
            phase: phase.to_string(),
            user: instance.owner().map(str::to_owned),
            namespace: instance.namespace().unwrap_or_default(),
            object: instance.name_any(),
            pairing_method: instance.spec.pairing.method.into(),
            phone_number: status.phone_number.as_ref().map(|phone| phone.reveal().to_owned()),
            is_primary: status.primary,
            connected_at: status.connected_at.as_ref().map(|at| text(at.0)),
            last_active_at: status.last_active_at.as_ref().map(|at| text(at.0)),
            created_at: text(created),
            updated_at: text(updated(status, created)),
            qr_expires_at: expires.map(text),
            link_expires_at: LinkingLink::of(instance)
                .filter(|link| !link.is_used(status))
                .map(|link| moment(link.expires_at())),
            qr_code: None,
            pairing_code: None,
            reason: holds.map(|ready| ready.reason.clone()),
            message: holds.map(|ready| ready.message.clone()).filter(|message| !message.is_empty()),
            restricted_until: status.restriction.as_ref().and_then(|held| Some(text(held.expires_at.as_ref()?.0))),
            last_disconnect: status
                .last_disconnect
                .as_ref()
                .map(|last| Disconnect { reason: last.reason.clone(), at: text(last.at.0) }),
            actions: actions(instance).into_iter().map(Offered::from).collect(),
            id,
        }
    }

    /// With its codes: for whoever asks for this one.
    pub fn whole(instance: &WhatsAppInstance) -> Self {
        let status = instance.status.as_ref();
        let qr = status.and_then(|status| status.qr.as_ref()).map(|qr| qr.code.reveal().to_owned());
        let typed = status.and_then(|status| status.pairing_code.as_ref()).map(|code| code.code.reveal().to_owned());
        Self { qr_code: Some(qr), pairing_code: Some(typed), ..Self::brief(instance) }
    }
}

/// Where an instance stands: nobody may have looked at it yet, and one that is going says so at once.
pub fn phase(instance: &WhatsAppInstance) -> Phase {
    if instance.metadata.deletion_timestamp.is_some() {
        return Phase::Terminating;
    }
    instance.status.as_ref().and_then(|status| status.phase).unwrap_or(Phase::Pending)
}

/// The uid that a session id belongs to.
pub fn uid_of(id: &str) -> &str {
    drivers::instance_uid(id)
}

fn three_words(phase: Phase, status: &WhatsAppInstanceStatus) -> Status {
    let connected = status.is_connected();
    match phase {
        Phase::Connected => Status::Connected,
        // A session that may only answer is connected all the same; a banned one is not.
        Phase::Restricted if connected => Status::Connected,
        Phase::AwaitingPairing | Phase::PairingExpired => Status::QrPending,
        Phase::Pending if status.phone_number.is_none() => Status::QrPending,
        _ => Status::Disconnected,
    }
}

fn updated(status: &WhatsAppInstanceStatus, created: Timestamp) -> Timestamp {
    let conditions = status.conditions.iter().map(|condition| condition.last_transition_time.0);
    let others = [
        status.connected_at.as_ref().map(|at| at.0),
        status.last_active_at.as_ref().map(|at| at.0),
        status.last_disconnect.as_ref().map(|gone| gone.at.0),
    ];
    conditions.chain(others.into_iter().flatten()).fold(created, Timestamp::max)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::testing::instance;

    #[test]
    fn three_words_say_what_the_original_said() {
        for (phase, word) in [
            ("Pending", "qr_pending"),
            ("AwaitingPairing", "qr_pending"),
            ("PairingExpired", "qr_pending"),
            ("AwaitingPasskey", "disconnected"),
            ("Connecting", "disconnected"),
            ("Connected", "connected"),
            ("Reconnecting", "disconnected"),
            ("Disconnected", "disconnected"),
            ("LoggedOut", "disconnected"),
            ("Restricted", "disconnected"),
            ("Rejected", "disconnected"),
            ("BridgeUnavailable", "disconnected"),
            ("Terminating", "disconnected"),
        ] {
            let shown = serde_json::to_value(Session::brief(&instance(json!({}), json!({"phase": phase})))).unwrap();
            assert_eq!((&shown["status"], &shown["phase"]), (&json!(word), &json!(phase)));
        }
    }

    #[test]
    fn codes_stand_only_where_one_session_is_asked_for() {
        let qr = json!({"code": "2@secret", "expiresAt": "2026-01-01T00:00:20Z", "attempt": 1, "attempts": 6});
        let waiting = instance(json!({}), json!({"phase": "AwaitingPairing", "qr": qr}));
        let brief = serde_json::to_value(Session::brief(&waiting)).unwrap();
        assert!(!brief.to_string().contains("secret"));
        assert_eq!(brief["qr_expires_at"], "2026-01-01T00:00:20Z");
        let whole = serde_json::to_value(Session::whole(&waiting)).unwrap();
        assert_eq!((&whole["qr_code"], &whole["pairing_code"]), (&json!("2@secret"), &Value::Null));
        assert_eq!(whole["pairing_method"], "QR");
    }

    #[test]
    fn the_record_has_every_field_of_the_original() {
        let status = json!({"phase": "Connected", "primary": true, "sessionId": "u", "phoneNumber": "+15550001",
            "connectedAt": "2026-01-01T00:00:05Z", "lastDisconnect": {"reason": "Stopped", "at": "2026-01-01T00:00:09Z"}});
        let shown = serde_json::to_value(Session::whole(&instance(json!({}), status))).unwrap();
        for field in [
            "user",
            "instance_name",
            "session_id",
            "status",
            "qr_code",
            "qr_expires_at",
            "phone_number",
            "connected_at",
            "last_active_at",
            "is_primary",
            "created_at",
            "updated_at",
            "id",
        ] {
            assert!(shown.get(field).is_some(), "{field}");
        }
        assert_eq!(shown["bridge"], Value::Null);
        let placed = json!({"bridge": {"name": "main", "shard": "main-0"}});
        assert_eq!(Session::brief(&instance(json!({}), placed)).bridge.as_deref(), Some("main"));
        assert_eq!((&shown["updated_at"], &shown["id"]), (&json!("2026-01-01T00:00:09Z"), &json!("u")));
        assert_eq!(shown["last_disconnect"], json!({"reason": "Stopped", "at": "2026-01-01T00:00:09Z"}));
        let never = serde_json::to_value(Session::brief(&instance(json!({}), json!({"phase": "Connected"})))).unwrap();
        assert_eq!(never["last_disconnect"], Value::Null);
    }
}
