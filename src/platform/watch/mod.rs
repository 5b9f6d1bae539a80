//! Watches: one copy of each watched object, several namespaces as if they were one, and a guard against objects that do
//! not parse.

mod cache;
mod changes;
mod guarded;

pub use cache::{Cache, Key};
pub use changes::{Change, changes};
pub use guarded::{Guarded, Salvage, Unfit};
