//! When a process is ready, beyond what its lease and its certificates say.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::platform::{
    admin::{Admin, Part},
    shutdown::Shutdown,
    watch::Health,
};

/// How long a leader may take to list everything before it is called not ready. A standby that takes over is ready, and
/// stays so while it reads some thousand objects.
const LISTING: Duration = Duration::from_secs(20);

/// Shown while not ready.
const STOPPING: &str = "stopping";
const UNLISTED: &str = "not everything that is to be watched can be listed; the log says why";
const UNSEEN: &str = "cannot be watched any more; the log says why";

/// Not ready from the moment the process is told to stop, so that no callers are sent here, whatever it waits for by then.
pub(super) fn never_when_stopping(admin: &Admin, shutdown: &Shutdown) {
    let (admin, stopping) = (admin.clone(), shutdown.stopping.clone());
    tokio::spawn(async move {
        stopping.cancelled().await;
        admin.unready(Part::Shutdown, STOPPING);
    });
}

/// A leader that cannot list, or does not hear of changes any more, does no work, and no other process does it instead.
pub(super) async fn while_it_sees(admin: Admin, synced: CancellationToken, health: Health) {
    if tokio::time::timeout(LISTING, synced.cancelled()).await.is_err() {
        tracing::error!("holding the lease, but {UNLISTED}");
        admin.unready(Part::Objects, UNLISTED);
        synced.cancelled().await;
    }
    admin.ready(Part::Objects);
    admin.ready(Part::Start);
    follow(&admin, &health, "holding the lease, but blind: ").await;
}

/// Ready while the watches work. `who` begins the line in the log when they do not.
pub(super) async fn follow(admin: &Admin, health: &Health, who: &str) {
    let mut blind = health.follow();
    loop {
        match blind.changed().await {
            None => admin.ready(Part::Objects),
            Some(kinds) => {
                tracing::error!(%kinds, "{who}{UNSEEN}");
                admin.unready(Part::Objects, format!("{kinds} {UNSEEN}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Json, Router,
        extract::Query,
        http::StatusCode,
        response::{IntoResponse as _, Response},
        routing::get,
    };
    use kube::Client;
    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        platform::admin::Shown as _,
        run::{
            testing::{Asked, owner_list},
            webhook::follow_owners,
        },
    };

    /// What the API server knows of owners: so many, and whether we may read them.
    type World = (usize, bool);

    async fn owners(asked: Asked, mut world: watch::Receiver<World>) -> Response {
        if asked.watch {
            // A watch is open for as long as it is allowed.
            let _ = world.wait_for(|(_, allowed)| !allowed).await;
        }
        let (count, allowed) = *world.borrow();
        if !allowed {
            let status =
                json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": ""});
            return (StatusCode::FORBIDDEN, Json(status)).into_response();
        }
        let owner = |n: usize| json!({"metadata": {"name": format!("owner-{n}")}, "spec": {"owner": format!("{n}")}});
        owner_list((0..count).map(owner).collect())
    }

    async fn until(admin: &Admin, wanted: Option<&str>) {
        let reached = async {
            while admin.obstacle().await.as_deref() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        assert!(reached.is_ok(), "{:?} instead of {wanted:?}", admin.obstacle().await);
    }

    #[tokio::test]
    async fn who_may_not_watch_any_more_is_not_ready_until_it_may_again_and_has_missed_nothing() {
        let (world, seen) = watch::channel((1, true));
        let api = Router::new().route(
            "/apis/whatsapp-operator.dev/v1alpha1/whatsappowners",
            get(move |Query(asked)| owners(asked, seen.clone())),
        );
        let (health, admin, listed) =
            (Health::with_patience(Duration::ZERO), Admin::default(), CancellationToken::new());
        let cache = follow_owners(&Client::new(api, "ns"), &health, &CancellationToken::new());
        tokio::spawn(while_it_sees(admin.clone(), listed.clone(), health));
        cache.until_listed().await;
        listed.cancel();
        until(&admin, None).await;
        // Its rights are taken away; or, as it looks from here, the definition is deleted.
        world.send_replace((1, false));
        until(&admin, Some("whatsappowners cannot be watched any more; the log says why")).await;
        world.send_replace((2, true));
        until(&admin, None).await;
        // The watch is well a moment before the cache has taken in what it shows.
        let taken_in = async {
            while cache.len() != 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), taken_in).await.is_ok(), "{} owners", cache.len());
    }
}
