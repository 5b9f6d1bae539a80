//! Following a shard: connect, follow until something breaks, pause, and again.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::Client;

use super::{
    Link,
    course::{Course, Ended, Next, Tell},
    fault::{Broken, down, fault, unread_credentials},
};
use crate::{
    bridge_api::BridgeError,
    controller::decide::facts::LinkState,
    drivers::{ResumePoint, Update, Updates},
    platform::{
        backoff::{spread, spread_by},
        lock,
    },
};

/// A rotated token, and another authority, is picked up at least this often; a refused one at once.
const TOKEN_CHECK: Duration = Duration::from_mins(10);

impl Link {
    /// Follows the shard for ever, one connection after the other.
    pub(super) async fn run(&self, kubernetes: Client) {
        let (mut since, mut course) = (None, Course::new());
        loop {
            let started = Instant::now();
            let broken = self.follow(&kubernetes, &mut since).await;
            if let Broken::Kubernetes(error) = &broken {
                tracing::warn!(bridge = self.shard.name, %error, "the token of the bridge cannot be read; trying again");
            }
            let was_up = lock(&self.shared).state == LinkState::Up;
            let ended = Ended { was_up, lasted: started.elapsed(), can_resume: since.is_some() };
            let Next { tell, pause, list_anew } = course.broke(&broken, ended, Instant::now());
            if list_anew {
                since = None;
            }
            if let Some(state) = tell.and_then(|tell| self.state_after(tell, &broken)) {
                self.set_state(&state);
            }
            tokio::time::sleep(spread(pause)).await;
        }
    }

    fn state_after(&self, tell: Tell, broken: &Broken) -> Option<LinkState> {
        let (fault, brief) = match tell {
            Tell::Unknown => return Some(LinkState::Unknown),
            Tell::Down { brief } => (fault(&self.shard, &self.endpoint, broken)?, brief),
            Tell::CredentialsUnread => (unread_credentials(&self.endpoint), true),
        };
        Some(down(&lock(&self.shared).state, fault, brief))
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
            shared.info = Some(info);
        }
        self.set_state(&LinkState::Up);
        let mut token_check = tokio::time::interval(spread_by(TOKEN_CHECK, 0.1));
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
