//! Who may take the machine for themselves: it has two cores, and the tests run side by side.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// Held while requests are made by the hundred. Storms take turns: several at once would only show how long everybody
/// else can be made to wait.
pub async fn storm() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// Held while seconds are measured: there is no storm meanwhile.
pub async fn calm() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}
