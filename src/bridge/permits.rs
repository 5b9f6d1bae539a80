//! The right to open a pairing window now: so many at once, and none while memory is short.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};

/// The permits of pairing windows.
pub struct Permits {
    windows: Arc<Semaphore>,
    open: watch::Sender<bool>,
}

impl Permits {
    /// So many windows at once.
    pub fn new(windows: usize) -> Self {
        Self { windows: Arc::new(Semaphore::new(windows)), open: watch::Sender::new(true) }
    }

    /// Whether windows may be opened at all now. Those that are open stay open.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// A permit, if there is one.
    ///
    /// # Errors
    /// When there is none now.
    pub fn try_acquire(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        if !*self.open.borrow() {
            return Err(TryAcquireError::NoPermits);
        }
        Arc::clone(&self.windows).try_acquire_owned()
    }

    /// A permit in its turn.
    ///
    /// # Errors
    /// Never: the permits end with the process.
    pub async fn acquire(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        loop {
            // The sender is ours.
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            let permit = Arc::clone(&self.windows).acquire_owned().await?;
            // While this one waited for its turn they may have been closed: the permit goes back, and the next in the queue sees that too.
            if *self.open.borrow() {
                return Ok(permit);
            }
        }
    }

    #[cfg(test)]
    pub fn available(&self) -> usize {
        self.windows.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn nobody_gets_one_while_they_are_closed_not_even_whoever_is_next() {
        let permits = Arc::new(Permits::new(1));
        let first = permits.try_acquire().unwrap();
        let waiting = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { permits.acquire().await.unwrap() }
        });
        // It is in the queue for the one permit.
        tokio::task::yield_now().await;
        permits.set_open(false);
        assert!(permits.try_acquire().is_err());
        drop(first);
        // It was given back.
        timeout(SOON, async {
            while permits.available() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(!waiting.is_finished() && permits.try_acquire().is_err());
        permits.set_open(true);
        let second = timeout(SOON, waiting).await.unwrap().unwrap();
        assert!(permits.try_acquire().is_err());
        drop(second);
        assert!(permits.try_acquire().is_ok());
    }
}
