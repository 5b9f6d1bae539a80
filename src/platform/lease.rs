//! Leader election on a `Lease`: one process reconciles, the others wait.
//!
//! As in client-go, a foreign lease has expired when *we* have watched its record unchanged for its whole duration; no two
//! machines' clocks are compared. Every write carries the resourceVersion it was decided on. Unlike there, a lease that somebody deletes,
//! or whose holder somebody clears, is no free one: who holds it does not know yet, and makes it anew within seconds.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use thiserror::Error;

use super::rbac::{Reach, Right};

/// What leader election needs of Kubernetes.
pub const RIGHTS: &[Right] = &[Right {
    group: "coordination.k8s.io",
    resources: &["leases"],
    verbs: &["get", "create", "update"],
    names: &[],
    reach: Reach::ReleaseNamespace,
    why: "leader election",
}];

/// client-go's defaults: others wait this long,
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// the holder gives up after this long without a successful renewal, which must be shorter,
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// and both try this often,
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// for this long at most, so that one dead connection does not cost the lease.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How long a lease that was given up is said to last, as by client-go. One without a holder that lasts longer was given up by nobody.
const RELEASED: Duration = Duration::from_secs(1);

/// Why the lease is not held.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Another process holds it now.
    #[error("lost the lease to {0}")]
    Taken(String),
    /// It could not be renewed in time.
    #[error("could not renew the lease in time: {0}")]
    NotRenewed(String),
}

/// A lease as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when released.
    pub holder: String,
    /// How long it holds without renewal.
    pub duration: Duration,
    /// Changes with every write.
    pub version: String,
}

impl Record {
    /// Whether its holder gave it up.
    fn is_released(&self) -> bool {
        self.holder.is_empty() && self.duration <= RELEASED
    }
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: create it as ours.
    Create,
    /// It is ours: renew it.
    Renew,
    /// Its holder is gone: take it.
    Take,
    /// It is another's: look again later.
    Wait,
}

/// Decides from the record that there is, from the last one that *we* saw with the moment since when we saw exactly that, and from
/// whether the lease is ours as far as we know.
pub fn decide(
    record: Option<&Record>,
    seen: Option<&(Record, Instant)>,
    now: Instant,
    (me, holds): (&str, bool),
) -> Step {
    let run_out = seen.is_none_or(|(seen, since)| now.duration_since(*since) > seen.duration);
    match record {
        // Somebody deleted it, or cleared its holder, which is us.
        None if holds => Step::Create,
        Some(record) if record.holder.is_empty() && holds => Step::Renew,
        // Its holder renews it for as long as it takes to notice.
        None if run_out || seen.is_some_and(|(seen, _)| seen.is_released()) => Step::Create,
        Some(record) if record.holder == me => Step::Renew,
        Some(record) if record.is_released() || run_out => Step::Take,
        _ => Step::Wait,
    }
}

/// How long a candidate waits before it looks again: not past the moment at which what it has seen runs out.
fn until_next_look(seen: Option<&(Record, Instant)>, now: Instant) -> Duration {
    let pause = jittered(RETRY_PERIOD);
    let left = seen.map(|(record, since)| record.duration.saturating_sub(now.duration_since(*since)));
    match left {
        // It has run out when it is *longer* ago.
        Some(left) if !left.is_zero() => pause.min(left + Duration::from_millis(1)),
        _ => pause,
    }
}

/// Our side of one `Lease`.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    seen: Option<(Record, Instant)>,
    /// When the last write that made it ours, or kept it so, was begun: others count from when they see that write, which
    /// may be long before we hear of it.
    renewed: Option<Instant>,
}

impl Candidate {
    /// A candidate for the lease `namespace/name` under the identity `me`, unique per process.
    pub fn new(client: Client, namespace: &str, name: &str, me: String) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.into(), me, seen: None, renewed: None }
    }

    /// Waits until the lease is ours. `looked` hears of every attempt whether it got as far as the lease.
    pub async fn acquire(&mut self, mut looked: impl FnMut(bool)) {
        let mut last = None;
        loop {
            let outcome = tokio::time::timeout(ATTEMPT, self.attempt()).await;
            looked(matches!(outcome, Ok(Ok(_))));
            match outcome {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(holder))) => {
                    if last.as_ref() != Some(&holder) {
                        tracing::info!(lease = self.name, holder, "waiting for the lease");
                    }
                    last = Some(holder);
                }
                Ok(Err(error)) => tracing::warn!(lease = self.name, error = short(&error), "cannot reach the lease"),
                Err(_) => tracing::warn!(lease = self.name, error = "no answer in time", "cannot reach the lease"),
            }
            tokio::time::sleep(until_next_look(self.seen.as_ref(), Instant::now())).await;
        }
    }

    /// Renews the lease until it is lost.
    pub async fn hold(&mut self) -> LeaseError {
        let start = Instant::now();
        let mut trouble = String::from("no answer");
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(self.renewed.unwrap_or(start).elapsed());
            match tokio::time::timeout(left.min(ATTEMPT), self.attempt()).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(holder))) => return LeaseError::Taken(holder),
                Ok(Err(error)) => trouble = short(&error),
                Err(_) => trouble = "no answer in time".into(),
            }
            if self.renewed.unwrap_or(start).elapsed() >= RENEW_DEADLINE {
                return LeaseError::NotRenewed(trouble);
            }
        }
    }

    /// Gives the lease up, so that the next one need not wait for it to expire.
    pub async fn release(&mut self) {
        let release = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            let ours = spec.holder_identity.as_deref() == Some(&self.me);
            if ours {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = RELEASED.as_secs().try_into().ok();
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<bool, kube::Error>(ours)
        };
        match tokio::time::timeout(RETRY_PERIOD, release).await {
            Ok(Ok(true)) => tracing::info!(lease = self.name, "released the lease"),
            Ok(Ok(false)) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(lease = self.name, "could not release the lease; if it is ours, it expires by itself");
            }
        }
    }

    /// One look and at most one write. `Ok(None)`: ours; `Ok(Some(holder))`: another's.
    async fn attempt(&mut self) -> Result<Option<String>, kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let now = Instant::now();
        let record = found.as_ref().map(record);
        if let Some(record) = &record
            && self.seen.as_ref().is_none_or(|(seen, _)| seen != record)
        {
            self.seen = Some((record.clone(), now));
        }
        let step = decide(record.as_ref(), self.seen.as_ref(), now, (&self.me, self.holds()));
        let written = match (step, found) {
            (Step::Wait, _) => {
                return Ok(Some(self.seen.as_ref().map(|(seen, _)| seen.holder.clone()).unwrap_or_default()));
            }
            (_, None) => self.api.create(&PostParams::default(), &self.fresh()).await,
            (step, Some(mut lease)) => {
                let spec = lease.spec.get_or_insert_default();
                let now = MicroTime(Timestamp::now());
                if step == Step::Take {
                    spec.acquire_time = Some(now.clone());
                    spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
                }
                spec.holder_identity = Some(self.me.clone());
                spec.lease_duration_seconds = Some(LEASE_DURATION.as_secs().try_into().unwrap_or(i32::MAX));
                spec.renew_time = Some(now);
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => {
                self.renewed = Some(now);
                Ok(None)
            }
            // An earlier renewal of ours, given up as too slow, may have arrived after all.
            Err(kube::Error::Api(status)) if status.is_conflict() && step == Step::Renew => {
                let holder = record_holder(self.api.get_opt(&self.name).await?);
                if holder == self.me { Err(kube::Error::Api(status)) } else { Ok(Some(holder)) }
            }
            // Another process wrote between our look and our write: it holds the lease, or the next look shows who does.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Some("another candidate".into()))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it is ours, as far as we know.
    fn holds(&self) -> bool {
        self.renewed.is_some_and(|at| at.elapsed() < RENEW_DEADLINE)
    }

    fn fresh(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: Some(LEASE_DURATION.as_secs().try_into().unwrap_or(i32::MAX)),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// An identity no other process has: the pod's or machine's name and something random.
pub fn identity() -> String {
    let name = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "operator".into());
    format!("{name}_{:016x}", fastrand::u64(..))
}

fn record_holder(lease: Option<Lease>) -> String {
    lease.as_ref().map(record).unwrap_or_default().holder
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|s| s.try_into().ok()).unwrap_or(LEASE_DURATION.as_secs());
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(seconds),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn jittered(period: Duration) -> Duration {
    period.mul_f64(1.0 + fastrand::f64() * 0.2)
}

fn short(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A candidate that does not hold it.
    const ME: (&str, bool) = ("me", false);

    fn held_by(holder: &str) -> Record {
        Record { holder: holder.into(), duration: LEASE_DURATION, version: "1".into() }
    }

    fn released() -> Record {
        Record { duration: RELEASED, ..held_by("") }
    }

    #[test]
    fn a_lease_that_never_was_is_created_and_a_released_one_taken_at_once() {
        let now = Instant::now();
        assert_eq!(decide(None, None, now, ME), Step::Create);
        let seen = (released(), now);
        assert_eq!(decide(Some(&seen.0), Some(&seen), now, ME), Step::Take);
        assert_eq!(decide(None, Some(&seen), now, ME), Step::Create);
    }

    #[test]
    fn our_own_is_renewed_however_old_and_made_anew_when_it_was_deleted() {
        let since = Instant::now();
        let seen = (held_by("me"), since);
        assert_eq!(decide(Some(&seen.0), Some(&seen), since + LEASE_DURATION * 9, ME), Step::Renew);
        let (cleared, holder) = ((held_by(""), since), ("me", true));
        for seen in [&seen, &cleared] {
            assert_eq!(decide(None, Some(seen), since, holder), Step::Create);
            assert_eq!(decide(Some(&cleared.0), Some(seen), since, holder), Step::Renew);
            // One that has not renewed it for long is no holder any more: another one may be, whom it has not seen.
            assert_eq!(decide(None, Some(seen), since, ME), Step::Wait);
        }
    }

    #[test]
    fn anothers_is_taken_only_after_we_saw_it_unchanged_for_its_whole_duration() {
        let since = Instant::now();
        let seen = (held_by("you"), since);
        let (run_out, cleared) = (since + LEASE_DURATION + Duration::from_millis(1), (held_by(""), since));
        for (record, seen, then) in [
            (Some(&seen.0), &seen, Step::Take),
            // Deleted by somebody, or without a holder because somebody cleared it: who holds it does not know yet.
            (None, &seen, Step::Create),
            (Some(&cleared.0), &cleared, Step::Take),
        ] {
            assert_eq!(decide(record, Some(seen), since, ME), Step::Wait);
            assert_eq!(decide(record, Some(seen), since + LEASE_DURATION, ME), Step::Wait);
            assert_eq!(decide(record, Some(seen), run_out, ME), then);
        }
    }

    /// What an API server has of a lease, and how often one was made.
    #[derive(Default)]
    struct There {
        lease: Option<Lease>,
        made: usize,
    }

    /// An API server without a lease.
    fn without_a_lease() -> (Client, Arc<Mutex<There>>) {
        use axum::{Json, http::StatusCode, response::IntoResponse as _, routing};
        let there: Arc<Mutex<There>> = Arc::default();
        let leases = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
        let (found, made, replaced) = (there.clone(), there.clone(), there.clone());
        let get = async move || {
            let lease: Option<Lease> = found.lock().unwrap().lease.clone();
            let missing = || {
                let status = serde_json::json!({"status": "Failure", "reason": "NotFound", "code": 404});
                (StatusCode::NOT_FOUND, Json(status)).into_response()
            };
            lease.map_or_else(missing, |lease| Json(lease).into_response())
        };
        let post = async move |Json(lease): Json<Lease>| {
            let mut there = made.lock().unwrap();
            *there = There { lease: Some(lease.clone()), made: there.made + 1 };
            (StatusCode::CREATED, Json(lease))
        };
        let put = async move |Json(lease): Json<Lease>| {
            replaced.lock().unwrap().lease = Some(lease.clone());
            Json(lease)
        };
        let app = axum::Router::new()
            .route(leases, routing::post(post))
            .route(&format!("{leases}/operator"), routing::get(get).put(put));
        (Client::new(app, "ns"), there)
    }

    #[tokio::test]
    async fn a_lease_that_somebody_deletes_or_clears_stays_with_its_holder() {
        let (client, there) = without_a_lease();
        let candidate = |me: &str| Candidate::new(client.clone(), "ns", "operator", me.into());
        let (mut holder, mut standby) = (candidate("holder"), candidate("standby"));
        let holds = Some("holder".to_owned());
        assert_eq!((holder.attempt().await.unwrap(), standby.attempt().await.unwrap()), (None, holds.clone()));
        there.lock().unwrap().lease = None;
        assert_eq!(standby.attempt().await.unwrap(), holds, "it does not know yet");
        assert_eq!((holder.attempt().await.unwrap(), there.lock().unwrap().made), (None, 2));
        assert_eq!(standby.attempt().await.unwrap(), holds);
        there.lock().unwrap().lease.as_mut().unwrap().spec.as_mut().unwrap().holder_identity = None;
        assert_eq!(standby.attempt().await.unwrap(), Some(String::new()));
        assert_eq!(holder.attempt().await.unwrap(), None);
        assert_eq!(standby.attempt().await.unwrap(), holds);
        holder.release().await;
        assert_eq!(standby.attempt().await.unwrap(), None, "given up, it is taken at once");
    }

    #[test]
    fn a_candidate_looks_when_a_lease_runs_out_and_not_a_while_later() {
        let since = Instant::now();
        let seen = (held_by("you"), since);
        let look = |ago: Duration| until_next_look(Some(&seen), since + ago);
        assert!(look(Duration::ZERO) >= RETRY_PERIOD);
        let ago = LEASE_DURATION.checked_sub(Duration::from_millis(300)).unwrap();
        let at = since + ago + look(ago);
        assert!(look(ago) < RETRY_PERIOD / 2, "{:?}", look(ago));
        assert_eq!(decide(Some(&seen.0), Some(&seen), at, ME), Step::Take);
        // What has run out and could not be taken is not asked for without a pause.
        for seen in [Some(&seen), None] {
            assert!(until_next_look(seen, since + LEASE_DURATION) >= RETRY_PERIOD);
        }
    }

    #[test]
    fn the_holder_gives_up_before_others_may_take_over() {
        const { assert!(RENEW_DEADLINE.as_secs() + RETRY_PERIOD.as_secs() < LEASE_DURATION.as_secs()) };
    }

    #[tokio::test]
    async fn the_time_an_answer_takes_is_not_added_to_the_lease() {
        use axum::{Json, http::StatusCode, routing::get};
        const SLOW: Duration = Duration::from_millis(300);
        let created = async |lease: Json<Lease>| {
            tokio::time::sleep(SLOW).await;
            (StatusCode::CREATED, lease)
        };
        let leases = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
        let missing = || async {
            let status = serde_json::json!({ "status": "Failure", "reason": "NotFound", "code": 404 });
            (StatusCode::NOT_FOUND, Json(status))
        };
        let app = axum::Router::new()
            .route(leases, axum::routing::post(created))
            .route(&format!("{leases}/operator"), get(missing));
        let mut candidate = Candidate::new(Client::new(app, "ns"), "ns", "operator", "me".into());
        candidate.acquire(|_| {}).await;
        assert!(candidate.renewed.unwrap().elapsed() >= SLOW);
    }

    #[tokio::test]
    async fn a_candidate_that_may_not_read_the_lease_says_so_and_one_that_only_waits_does_not() {
        use axum::{Json, http::StatusCode, response::IntoResponse, routing::get};
        use std::sync::atomic::{AtomicBool, Ordering};
        static GRANTED: AtomicBool = AtomicBool::new(false);
        let lease = || async {
            if GRANTED.load(Ordering::Relaxed) {
                let spec = serde_json::json!({ "holderIdentity": "another", "leaseDurationSeconds": 15 });
                return Json(serde_json::json!({ "metadata": { "name": "operator" }, "spec": spec })).into_response();
            }
            let status = serde_json::json!({ "status": "Failure", "reason": "Forbidden", "code": 403 });
            (StatusCode::FORBIDDEN, Json(status)).into_response()
        };
        let app = axum::Router::new().route("/apis/coordination.k8s.io/v1/namespaces/ns/leases/operator", get(lease));
        let mut candidate = Candidate::new(Client::new(app, "ns"), "ns", "operator", "me".into());
        let (told, mut looks) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move { candidate.acquire(|reached| told.send(reached).unwrap_or_default()).await });
        assert_eq!(looks.recv().await, Some(false));
        GRANTED.store(true, Ordering::Relaxed);
        assert_eq!(looks.recv().await, Some(true));
    }

    #[test]
    fn two_processes_on_one_machine_are_two_candidates() {
        assert_ne!(identity(), identity());
    }
}
