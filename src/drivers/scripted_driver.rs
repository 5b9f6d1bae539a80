//! A driver that does as its script says: the second implementation of the trait, for tests of those who use it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::{StreamExt as _, channel::mpsc};

use super::{Driver, ResumePoint, Snapshot, Update, Updates};
use crate::{
    bridge_api::{BridgeError, Capability, Deletion, Info, Session, SessionSpec},
    platform::lock,
};

type Next = Result<(Option<ResumePoint>, Update), BridgeError>;

/// What the driver answers, and what it was asked.
#[derive(Debug, Default)]
pub struct Script {
    /// What a snapshot holds.
    pub snapshot: Snapshot,
    /// What the next `put` answers; refused when there is nothing.
    pub put: Option<Session>,
    /// Whether it answers neither `put` nor `delete`, for ever.
    pub hangs: bool,
    /// Where each follower began: at a resume point, or with a snapshot.
    pub followed: Vec<Option<String>>,
    /// The way to the one who follows now.
    pub follower: Option<mpsc::UnboundedSender<Next>>,
}

/// The driver. Clones share the script.
#[derive(Clone, Debug, Default)]
pub struct Scripted(pub Arc<Mutex<Script>>);

impl PartialEq for Scripted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Scripted {}

impl Scripted {
    async fn may_answer(&self) {
        if lock(&self.0).hangs {
            std::future::pending::<()>().await;
        }
    }

    /// Tells whoever follows; the update stands at `point`.
    pub fn tell(&self, point: &str, update: Update) {
        let script = lock(&self.0);
        let follower = script.follower.as_ref().unwrap();
        follower.unbounded_send(Ok((Some(ResumePoint(point.to_owned())), update))).unwrap();
    }
}

#[async_trait]
impl Driver for Scripted {
    async fn info(&self) -> Result<Info, BridgeError> {
        Ok(Info { version: "script".into(), capabilities: [Capability::Qr].into_iter().collect(), sessions: 0 })
    }

    async fn updates(&self, since: Option<&ResumePoint>) -> Result<Updates, BridgeError> {
        let mut script = lock(&self.0);
        let (follower, stream) = mpsc::unbounded();
        script.follower = Some(follower);
        script.followed.push(since.map(|point| point.0.clone()));
        Ok(Updates {
            snapshot: since.is_none().then(|| script.snapshot.clone()),
            since: since.cloned().unwrap_or_else(|| ResumePoint("start".to_owned())),
            stream: stream.boxed(),
        })
    }

    async fn put(&self, _session: &str, _wanted: &SessionSpec) -> Result<Session, BridgeError> {
        self.may_answer().await;
        lock(&self.0).put.take().ok_or(BridgeError::NotFound)
    }

    async fn delete(&self, _session: &str, _unlink: bool) -> Result<Deletion, BridgeError> {
        self.may_answer().await;
        Ok(Deletion::Gone)
    }
}
