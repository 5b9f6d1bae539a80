//! Ending in order: first no new callers are sent here, then nothing is accepted, then the process ends.

use std::{io, thread, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// The two steps of an end. Cloned to each part that has to hear of them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// The process has been told to stop: it says that it is not ready, and begins nothing that can be left to others.
    /// It goes on answering, since callers learn that only after a while.
    pub stopping: CancellationToken,
    /// Callers have had time to hear of it: listeners close.
    pub closing: CancellationToken,
    /// The process itself wants to end: [`Self::begin_by_itself`].
    pub wanted: CancellationToken,
}

/// After its listeners have closed, a program has this long to bring everything to an end. Kubernetes kills 30 s after the
/// signal; with the usual delay a program ends by itself within 22 s. What takes longest is requests that are under way (12 s), then the
/// last steps of traces (2 s) and threads that wait for a disk (1 s and 1 s).
const LIMIT: Duration = Duration::from_secs(17);

impl Shutdown {
    /// Hears SIGTERM and SIGINT. After SIGTERM, `delay` passes until listeners close: Kubernetes takes a pod out of its
    /// Services at the same time as it sends the signal, and for a moment requests still arrive. SIGINT comes from a
    /// person at a terminal, who waits for nothing. A second signal ends the process at once, and so does the end of the
    /// time it has for this.
    ///
    /// # Errors
    /// When the system refuses to hand over signals.
    pub fn on_signal(delay: Duration) -> io::Result<Self> {
        // On a thread of its own: whatever hangs, be it every thread of the program's runtime, the process ends.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt) = {
            let _here = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let shutdown = Self::default();
        let told = shutdown.clone();
        let listen = async move {
            let (delay, signals) = tokio::select! {
                _ = terminate.recv() => (delay, 1),
                _ = interrupt.recv() => (Duration::ZERO, 1),
                () = told.wanted.cancelled() => (delay, 0),
            };
            tracing::info!(delay_ms = delay.as_millis(), "shutting down");
            let impatient = async {
                // One that comes after the process began by itself is the first.
                for _ in signals..2 {
                    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                }
            };
            let end = async {
                told.begin(delay).await;
                sleep(LIMIT).await;
            };
            tokio::select! {
                () = impatient => {}
                () = end => {
                    tracing::error!("something hangs: ending without it");
                    std::process::exit(1);
                }
            }
            // 128 + SIGTERM, as a shell would report it.
            std::process::exit(143);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(listen))?;
        Ok(shutdown)
    }

    /// Takes the same steps as after SIGTERM, without one: for a process that cannot go on and still has callers.
    pub fn begin_by_itself(&self) {
        self.stopping.cancel();
        self.wanted.cancel();
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

    #[test]
    fn a_process_that_begins_by_itself_stops_at_once_and_closes_nothing_yet() {
        let shutdown = Shutdown::default();
        shutdown.begin_by_itself();
        assert!(shutdown.stopping.is_cancelled() && shutdown.wanted.is_cancelled() && !shutdown.closing.is_cancelled());
    }
}
