//! Watches: one copy of each watched object, several namespaces as if they were one, a guard against objects that do not
//! parse, and whether the watches work.

mod cache;
mod changes;
mod fit;
mod guarded;
mod health;
mod merge;
mod one;
mod pauses;
mod recent;
mod source;

pub use cache::Cache;
pub use changes::{changes, changes_in};
pub use fit::watch_error;
pub use guarded::{Guarded, Salvage, Unfit};
pub use health::{Blind, Health};
pub use one::{changes_of_one, watch_object};

use std::sync::Arc;

use kube::runtime::watcher;

use super::kubernetes::ObjectRef;

/// How long the API server is asked to keep a watch open, in seconds. A connection that is dead without having been
/// closed, as behind a router that forgot it, is noticed only when nothing comes for longer than this.
const WATCH_SECONDS: u32 = 20;

/// How a kind is watched: as kube does by default, but with watches short enough to notice dead connections.
pub fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Namespace (empty for what has none) and name of an object. Shared, since several indexes hold it.
pub type Key = Arc<ObjectRef>;

/// What became of one object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It is there, like this.
    Present(Key, K),
    /// It is there, of this uid, and does not fit this version's types: nothing more is known of it.
    Unfit(Key, Option<String>),
    /// It is gone.
    Gone(Key),
    /// A list has begun: it shows everything as it is, what was written before this included.
    Listing,
    /// Everything has been listed once.
    Listed,
}
