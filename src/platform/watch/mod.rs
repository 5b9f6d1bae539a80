//! Watches: one copy of each watched object, several namespaces as if they were one, and a guard against objects that do
//! not parse.

mod cache;
mod changes;
mod guarded;

pub use cache::Cache;
pub use changes::changes;
pub use guarded::{Guarded, Salvage, Unfit};

use std::sync::Arc;

use super::kubernetes::ObjectRef;

/// Namespace (empty for what has none) and name of an object. Shared, since several indexes hold it.
pub type Key = Arc<ObjectRef>;

/// What became of one object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It is there, like this.
    Present(Key, K),
    /// It is gone.
    Gone(Key),
    /// Everything has been listed once.
    Listed,
}
