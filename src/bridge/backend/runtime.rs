//! What a client's tasks run on.

use std::{future::Future, pin::Pin, time::Duration};

use tokio_util::sync::CancellationToken;
use wacore::runtime::{AbortHandle, Runtime};
use whatsapp_rust::TokioRuntime;

/// How long the library waits for the account's settings before it hangs up to try again (whatsapp-rust 0.7.0, client/node_io.rs,
/// `CRITICAL_SYNC_TIMEOUT_SECS`). It sleeps for exactly this long for nothing else.
const SETTINGS_OVERDUE: Duration = Duration::from_secs(180);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The runtime under the library's client, except that the client never hangs up for settings that do not come. Nothing that a session
/// does needs them, and each of its logins would last three minutes, for as long as the phone keeps their key or the server does not
/// answer the question.
pub struct ClientRuntime<R = TokioRuntime> {
    under: R,
    over: CancellationToken,
}

impl ClientRuntime {
    /// For one client; `over` says that it has ended, and what waited for the settings goes then.
    pub fn new(over: CancellationToken) -> Self {
        Self { under: TokioRuntime, over }
    }
}

impl<R: Runtime> Runtime for ClientRuntime<R> {
    fn spawn(&self, task: Task) -> AbortHandle {
        self.under.spawn(task)
    }

    fn spawn_detached(&self, task: Task) {
        self.under.spawn_detached(task);
    }

    fn sleep(&self, duration: Duration) -> Task {
        if duration == SETTINGS_OVERDUE {
            return Box::pin(self.over.clone().cancelled_owned());
        }
        self.under.sleep(duration)
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> Task {
        self.under.spawn_blocking(work)
    }

    fn yield_now(&self) -> Option<Task> {
        self.under.yield_now()
    }

    fn yield_frequency(&self) -> u32 {
        self.under.yield_frequency()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        task::{Context, Waker},
    };

    use super::*;

    /// A runtime under which any time has passed.
    struct Passed;

    impl Runtime for Passed {
        fn spawn(&self, _: Task) -> AbortHandle {
            AbortHandle::noop()
        }

        fn sleep(&self, _: Duration) -> Task {
            Box::pin(ready(()))
        }

        fn spawn_blocking(&self, _: Box<dyn FnOnce() + Send + 'static>) -> Task {
            Box::pin(ready(()))
        }

        fn yield_now(&self) -> Option<Task> {
            None
        }
    }

    #[test]
    fn who_waits_for_the_settings_waits_until_the_client_is_over_and_nobody_else_does() {
        let over = CancellationToken::new();
        let runtime = ClientRuntime { under: Passed, over: over.clone() };
        let is_over = |sleep: &mut Task| sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        for seconds in [1, 179, 181, 300] {
            assert!(is_over(&mut runtime.sleep(Duration::from_secs(seconds))), "{seconds} s have passed");
        }
        let mut settings = runtime.sleep(Duration::from_secs(180));
        assert!(!is_over(&mut settings));
        over.cancel();
        assert!(is_over(&mut settings));
    }
}
