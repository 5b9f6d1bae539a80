//! Where a session stands: what it is at, its client, its permit, and the code that it shows.

use jiff::Timestamp;
use whatsapp_operator::{bridge_api::PairingMethod, model::Sensitive};

use super::Generation;

/// Where a session stands, with the moment something is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// Offline by wish.
    Stopped,
    /// Starts when its turn after a restart of the bridge comes.
    Turn { at: Timestamp },
    /// Wants a pairing permit.
    Permit,
    /// A client runs and has no code yet.
    Opening { by: Timestamp },
    /// No client: the next try is due then.
    OpeningLater { at: Timestamp },
    /// A code is shown.
    Awaiting { by: Timestamp },
    /// The phone used the code.
    Linking { by: Timestamp },
    /// A passkey is wanted.
    Passkey { by: Timestamp },
    /// The window passed; it reopens by itself then.
    Expired { reopen: Option<Timestamp> },
    /// A client of a paired session runs and is not logged in yet.
    Connecting { by: Timestamp },
    /// Logged in.
    Connected,
    /// No client of a paired session: the next try is due then.
    Later { at: Timestamp },
    /// Replaced, outdated or barred; it is tried again by itself then.
    Ended { again: Option<Timestamp> },
    /// Banned.
    Banned { until: Timestamp },
    /// Unlinked.
    LoggedOut,
    /// Deletion, or the wish to be unlinked: a client runs to have the device removed; `asked` once the server was.
    Unlinking { by: Timestamp, ready: bool, asked: bool },
    /// The same: the next try is due then.
    UnlinkLater { at: Timestamp },
    /// Deletion: the keys go. `unlink`: a device that is linked in this very moment has to be removed from the account first.
    Erasing { unlink: bool },
    /// Deleted.
    Gone,
}

impl Stage {
    /// A client runs to be linked, and no phone has used its code yet.
    pub(super) fn is_pairing(self) -> bool {
        matches!(self, Self::Opening { .. } | Self::Awaiting { .. } | Self::Passkey { .. })
    }
}

/// The session's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// There is none.
    None,
    /// It runs.
    Live(Generation),
    /// It was told to stop, and still may touch the keys.
    Stopping(Generation),
}

/// The session's pairing permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Not wanted.
    None,
    /// Asked for.
    Requested,
    /// Given.
    Held,
}

/// The code shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) method: PairingMethod,
    pub(super) code: Sensitive,
    pub(super) expires_at: Timestamp,
    pub(super) attempt: u32,
    /// How many there are in the window, when the server said so.
    pub(super) of: Option<u32>,
}

/// The pairing window: it was asked for once, and lasts over every connection made for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// The client that opened it. Its codes are good as long as the server says.
    pub(super) opened_by: Generation,
    /// When it ends for every later client.
    pub(super) ends: Timestamp,
}
