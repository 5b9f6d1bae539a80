//! Ending in order: first nobody is sent here any more, then nothing is taken, then the process ends.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// The two steps of an end. Clone it to wherever somebody has to hear of them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// The process has been told to stop: it says that it is not ready, and begins nothing that can be left to others.
    /// It goes on answering, since callers hear of it only after a while.
    pub stopping: CancellationToken,
    /// Callers have had time to hear of it: listeners close.
    pub closing: CancellationToken,
}

impl Shutdown {
    /// Hears SIGTERM and SIGINT. After SIGTERM, `delay` passes until listeners close: Kubernetes takes a pod out of its
    /// Services at the same time as it sends the signal, and for a moment requests still arrive. SIGINT comes from a
    /// person at a terminal, who waits for nothing. A second signal ends the process at once.
    ///
    /// # Errors
    /// When the system refuses to hand over signals.
    pub fn on_signal(delay: Duration) -> io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Self::default();
        let told = shutdown.clone();
        tokio::spawn(async move {
            let delay = tokio::select! { _ = terminate.recv() => delay, _ = interrupt.recv() => Duration::ZERO };
            tracing::info!(delay_ms = delay.as_millis(), "shutting down");
            tokio::spawn(told.begin(delay));
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            // 128 + SIGTERM, as a shell would report it.
            std::process::exit(143);
        });
        Ok(shutdown)
    }

    async fn begin(self, delay: Duration) {
        self.stopping.cancel();
        sleep(delay).await;
        self.closing.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_closes_a_while_after_it_was_told_to_stop() {
        const DELAY: Duration = Duration::from_millis(20);
        let (shutdown, begun) = (Shutdown::default(), Instant::now());
        tokio::spawn(shutdown.clone().begin(DELAY));
        shutdown.stopping.cancelled().await;
        shutdown.closing.cancelled().await;
        assert!(begun.elapsed() >= DELAY);
    }
}
