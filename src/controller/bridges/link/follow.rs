//! Following a shard: connect, follow until something breaks, pause, and again.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::Client;

use super::{Link, credentials::is_about_the_secret, fault::Broken};
use crate::{
    bridge_api::BridgeError,
    controller::decide::facts::LinkState,
    drivers::{ResumePoint, Update, Updates},
    platform::lock,
};

/// The first pause after a failure; it doubles up to [`LAST_PAUSE`], jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: how late a shard that is back may be noticed.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted this long held.
const STEADY: Duration = Duration::from_secs(2);
/// A bridge that was started anew resets its followers once, and a new token makes a new connection: no reason to wait.
const FREE_RESTARTS: u32 = 2;
/// A shard that was up may be gone this long (a restart) before its instances are told.
const PATIENCE: Duration = Duration::from_secs(3);
/// For so long the API server fails to read a bridge's Secret before instances are told.
const UNREAD: Duration = Duration::from_secs(30);
/// A rotated token, and another authority, is picked up at least this often; a refused one at once.
const TOKEN_CHECK: Duration = Duration::from_mins(10);

impl Link {
    pub(super) async fn run(&self, kubernetes: Client) {
        let mut since = None;
        let mut pause = FIRST_PAUSE;
        let mut down_since: Option<Instant> = None;
        let mut unread_since: Option<Instant> = None;
        let mut hasty = 0_u32;
        loop {
            let started = Instant::now();
            let broken = self.follow(&kubernetes, &mut since).await;
            let was_up = lock(&self.shared).state == LinkState::Up;
            if was_up {
                down_since = None;
            }
            // Two processes behind one address, each of which knows nothing of the other's resume points, break every connection
            // at once: only one that held makes the next one cheap.
            if started.elapsed() >= STEADY {
                (pause, hasty) = (FIRST_PAUSE, 0);
            }
            if let Broken::Kubernetes(error) = &broken {
                tracing::warn!(bridge = self.shard.name, %error, "the token of the bridge cannot be read; trying again");
                // One that is there and fails over this very Secret may do so for long (a key of its encryption is gone, say), and
                // new instances of other bridges wait for this shard.
                if !is_about_the_secret(error) {
                    unread_since = None;
                } else if unread_since.get_or_insert_with(Instant::now).elapsed() >= UNREAD
                    && let Some(fault) = self.fault(&Broken::Credentials(
                        self.wrong("the API server fails to read it or does not answer; its log says why"),
                    ))
                {
                    self.set_state(&self.steady(fault, true));
                }
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LAST_PAUSE);
                continue;
            }
            let Some(fault) = self.fault(&broken) else {
                hasty = hasty.saturating_add(1);
                if hasty > FREE_RESTARTS {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                continue;
            };
            let first = *down_since.get_or_insert_with(Instant::now);
            let brief = matches!(&broken, Broken::Bridge(error) if error.may_be_brief());
            if !brief {
                since = None;
            }
            let patient = brief && since.is_some() && first.elapsed() < PATIENCE;
            self.set_state(&if patient { LinkState::Unknown } else { self.steady(fault, brief) });
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(if patient { PATIENCE / 3 } else { LAST_PAUSE });
        }
    }

    /// Connects and follows until something breaks.
    async fn follow(&self, kubernetes: &Client, since: &mut Option<ResumePoint>) -> Broken {
        match self.connected(kubernetes, since).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn connected(&self, kubernetes: &Client, since: &mut Option<ResumePoint>) -> Result<Infallible, Broken> {
        let credentials = self.credentials(kubernetes).await?;
        let driver = self.endpoint.driver(credentials.clone())?;
        let info = driver.info().await?;
        let Updates { snapshot, since: start, mut stream } = driver.updates(since.as_ref()).await?;
        *since = Some(start);
        let heard = snapshot.is_some();
        if let Some(snapshot) = snapshot {
            self.replace(snapshot);
        }
        {
            let mut shared = lock(&self.shared);
            shared.heard = heard;
            shared.driver = Some(Arc::clone(&driver));
            shared.credentials = Some(credentials.clone());
            shared.info = Some(info);
        }
        self.set_state(&LinkState::Up);
        let mut token_check = tokio::time::interval(TOKEN_CHECK.mul_f64(0.9 + fastrand::f64() / 5.0));
        token_check.reset();
        loop {
            tokio::select! {
                update = stream.next() => {
                    let (at, update) = update.ok_or(BridgeError::StreamEnded)??;
                    if update == Update::Missed {
                        *since = None;
                        return Err(Broken::Restart);
                    }
                    self.apply(update);
                    if at.is_some() {
                        *since = at;
                    }
                }
                () = self.again.notified() => {
                    if self.credentials(kubernetes).await? != credentials {
                        return Err(Broken::Restart);
                    }
                    // What was refused may have been the token before this one.
                    driver.info().await?;
                }
                _ = token_check.tick() => {
                    if self.credentials(kubernetes).await? != credentials {
                        return Err(Broken::Restart);
                    }
                }
            }
        }
    }
}
