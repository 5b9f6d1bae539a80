//! Condition types and reasons. A reason is stable API: troubleshooting is keyed by it.

/// The instance is within its owner's limits and rules.
pub const ACCEPTED: &str = "Accepted";
/// The bridge that runs the session answers and can be used.
pub const BRIDGE_AVAILABLE: &str = "BridgeAvailable";
/// A device is linked to an account.
pub const PAIRED: &str = "Paired";
/// The session is connected to WhatsApp.
pub const CONNECTED: &str = "Connected";
/// The summary: the session can send now.
pub const READY: &str = "Ready";

/// The conditions of a `WhatsAppInstance`, in the order they are established. `Ready` summarizes the others.
pub const ALL: [&str; 5] = [ACCEPTED, BRIDGE_AVAILABLE, PAIRED, CONNECTED, READY];

/// Reasons that do not pass by waiting: somebody has to change something first.
pub const NEEDS_SOMEBODY: [&str; 8] = [
    reason::BRIDGE_NOT_FOUND,
    reason::NO_DEFAULT_BRIDGE,
    reason::NAMESPACE_NOT_ALLOWED,
    reason::SHARD_NOT_FOUND,
    reason::CREDENTIALS_NOT_FOUND,
    reason::BRIDGE_UNAUTHORIZED,
    reason::BRIDGE_FULL,
    reason::COEXISTENCE_NOT_SUPPORTED,
];

/// Reasons, by the condition that usually carries them. `Ready` repeats the reason of whatever holds it back.
pub mod reason {
    /// Accepted: all ownership rules are met.
    pub const ACCEPTED: &str = "Accepted";
    /// Accepted: without an owner there are no rules.
    pub const NO_OWNER: &str = "NoOwner";
    /// Accepted, and refused requests: the owner has as many instances as allowed.
    pub const LIMIT_EXCEEDED: &str = "LimitExceeded";
    /// Accepted, and refused requests: another instance of the owner has the name.
    pub const NAME_TAKEN: &str = "NameTaken";

    /// Accepted: the WhatsAppOwner under this owner's name belongs to another owner.
    pub const OWNER_OBJECT_FOREIGN: &str = "OwnerObjectForeign";

    /// BridgeAvailable: the shard answers.
    pub const BRIDGE_READY: &str = "BridgeReady";
    /// BridgeAvailable: `spec.bridgeRef` names no WhatsAppBridge.
    pub const BRIDGE_NOT_FOUND: &str = "BridgeNotFound";
    /// BridgeAvailable: no `spec.bridgeRef`, and no WhatsAppBridge is marked as the default.
    pub const NO_DEFAULT_BRIDGE: &str = "NoDefaultBridge";
    /// BridgeAvailable: the WhatsAppBridge does not admit this namespace.
    pub const NAMESPACE_NOT_ALLOWED: &str = "NamespaceNotAllowed";
    /// BridgeAvailable: the shard the session is bound to is no longer in the WhatsAppBridge's list.
    pub const SHARD_NOT_FOUND: &str = "ShardNotFound";
    /// BridgeAvailable: every shard holds as many sessions as it may.
    pub const BRIDGE_FULL: &str = "BridgeFull";
    /// BridgeAvailable: the credentials Secret or its key is missing.
    pub const CREDENTIALS_NOT_FOUND: &str = "CredentialsNotFound";
    /// BridgeAvailable: the bridge refused the token.
    pub const BRIDGE_UNAUTHORIZED: &str = "BridgeUnauthorized";
    /// BridgeAvailable: no connection to the shard, or no answer in time.
    pub const BRIDGE_UNREACHABLE: &str = "BridgeUnreachable";
    /// BridgeAvailable: the shard answered something that is not its API.
    pub const BRIDGE_MALFORMED_ANSWER: &str = "BridgeMalformedAnswer";
    /// BridgeAvailable: the bridge refused the request.
    pub const BRIDGE_REFUSED: &str = "BridgeRefused";

    /// Paired: a device is linked.
    pub const PAIRED: &str = "Paired";
    /// Paired: not yet started.
    pub const NOT_STARTED: &str = "NotStarted";
    /// Paired: waits for one of the bridge's pairing permits.
    pub const PAIRING_QUEUED: &str = "PairingQueued";
    /// Paired: a code waits for the phone.
    pub const AWAITING_PAIRING: &str = "AwaitingPairing";
    /// Paired: the window passed unused.
    pub const PAIRING_EXPIRED: &str = "PairingExpired";
    /// Paired: WhatsApp wants a passkey.
    pub const AWAITING_PASSKEY: &str = "AwaitingPasskey";
    /// Paired: WhatsApp or the phone unlinked the device.
    pub const LOGGED_OUT: &str = "LoggedOut";
    /// Paired: `spec.desiredState` is Unlinked, and no device is linked.
    pub const UNLINKED: &str = "Unlinked";
    /// Connected: `spec.desiredState` is Unlinked, and the device is being removed from the account.
    pub const UNLINKING: &str = "Unlinking";
    /// Paired: the bridge no longer has the keys of a session that had been paired.
    pub const SESSION_LOST: &str = "SessionLost";
    /// Paired: the phone used the code, and the link could not be completed; or WhatsApp refused a pairing code.
    pub const PAIRING_FAILED: &str = "PairingFailed";
    /// Paired: WhatsApp gave nothing that a code could be made of.
    pub const PAIRING_CODES_UNUSABLE: &str = "PairingCodesUnusable";
    /// Paired: the account is of a kind that this version of the bridge cannot link.
    pub const COEXISTENCE_NOT_SUPPORTED: &str = "CoexistenceNotSupported";

    /// Connected: yes.
    pub const CONNECTED: &str = "Connected";
    /// Connected: being established.
    pub const CONNECTING: &str = "Connecting";
    /// Connected: `spec.desiredState` is Disconnected.
    pub const STOPPED: &str = "Stopped";
    /// Connected: the connection was lost and is being made again.
    pub const CONNECTION_LOST: &str = "ConnectionLost";
    /// Connected: WhatsApp cannot be reached.
    pub const SERVER_UNREACHABLE: &str = "ServerUnreachable";
    /// Connected: WhatsApp accepts the connection but does not answer.
    pub const SERVER_NOT_ANSWERING: &str = "ServerNotAnswering";
    /// Connected: the server could not prove that it is WhatsApp.
    pub const SERVER_NOT_TRUSTED: &str = "ServerNotTrusted";
    /// Connected: WhatsApp refused the connection.
    pub const SERVER_REFUSED: &str = "ServerRefused";
    /// Connected: WhatsApp asked for fewer requests.
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    /// Connected: another client uses the same session's keys.
    pub const STREAM_REPLACED: &str = "StreamReplaced";
    /// Connected: WhatsApp no longer accepts this version of the client.
    pub const CLIENT_OUTDATED: &str = "ClientOutdated";
    /// Connected, Ready: the account is banned for a time.
    pub const TEMPORARY_BAN: &str = "TemporaryBan";
    /// Connected: WhatsApp has locked the account.
    pub const ACCOUNT_LOCKED: &str = "AccountLocked";
    /// Connected: WhatsApp has banned the account, and not for a time.
    pub const ACCOUNT_BANNED: &str = "AccountBanned";
    /// Ready: connected, but WhatsApp forbids new chats for a time.
    pub const REACHOUT_TIMELOCK: &str = "ReachoutTimelock";
    /// Ready: connected, but WhatsApp acknowledges no message.
    pub const MESSAGES_NOT_ACKNOWLEDGED: &str = "MessagesNotAcknowledged";

    /// Any: the object is being deleted.
    pub const TERMINATING: &str = "Terminating";
    /// Any: not known, because something before it stands in the way.
    pub const UNKNOWN: &str = "Unknown";

    /// WhatsAppBridge Ready: every shard answers.
    pub const ALL_SHARDS_READY: &str = "AllShardsReady";
    /// WhatsAppBridge Ready: the bridge holds sessions that no instance claims.
    pub const UNCLAIMED_SESSIONS: &str = "UnclaimedSessions";
    /// WhatsAppBridge `SessionsClaimed`: the bridge holds sessions of instances that are bound to another bridge or shard.
    pub const BOUND_ELSEWHERE: &str = "SessionsBoundElsewhere";
}

#[cfg(test)]
mod tests {
    /// The values of every `pub const` below `mod reason`.
    fn reasons() -> Vec<&'static str> {
        let source = include_str!("conditions.rs");
        let source = source.split("pub mod reason").nth(1).unwrap().split("mod tests").next().unwrap();
        source.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split('"').nth(1)).collect()
    }

    #[test]
    fn every_reason_has_its_row_in_the_troubleshooting_table() {
        let page = include_str!("../../docs/troubleshooting.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let reasons = reasons();
        assert!(reasons.len() > 30, "only {} reasons were found", reasons.len());
        for reason in reasons {
            let named = format!("`{reason}`");
            let first = |row: &&&str| row.split('|').nth(1).is_some_and(|cell| cell.contains(&named));
            assert!(rows.iter().any(|row| first(&row)), "docs/troubleshooting.md has no row for {reason}");
        }
    }

    #[test]
    fn the_dashboard_says_in_each_language_what_keeps_an_instance_from_being_ready() {
        // Those of conditions that are met, and of bridges.
        let others = [
            super::reason::ACCEPTED,
            super::reason::NO_OWNER,
            super::reason::BRIDGE_READY,
            super::reason::PAIRED,
            super::reason::CONNECTED,
            super::reason::ALL_SHARDS_READY,
            super::reason::UNCLAIMED_SESSIONS,
            super::reason::BOUND_ELSEWHERE,
        ];
        let english = include_str!("../gateway/dashboard/web/words/en_more.js");
        let german = include_str!("../gateway/dashboard/web/words/de_more.js");
        for words in [english, german] {
            let words = words.split("  reason: {").nth(1).unwrap().split("  },").next().unwrap();
            for reason in reasons().into_iter().filter(|reason| !others.contains(reason)) {
                assert!(words.contains(&format!("\n    {reason}: '")), "no words for {reason} in {words}");
            }
        }
    }
}
