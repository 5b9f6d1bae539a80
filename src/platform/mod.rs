//! Plumbing with no opinion on WhatsApp: the Kubernetes client, watch caches, the work queue, the lease, rights, the admin
//! server, HTTPS, access and tokens, telemetry, shutdown, QR codes.

pub mod access;
pub mod admin;
pub mod anew;
pub mod announce;
pub mod arguments;
pub mod backoff;
pub mod causes;
pub mod cluster_proxy;
pub mod credentials;
pub mod hex;
pub mod https;
pub mod kubeconfig;
pub mod kubernetes;
pub mod lease;
pub mod metrics;
pub mod namespaces;
pub mod on_behalf;
pub mod packed;
pub mod pages;
pub mod qr;
pub mod random;
pub mod rbac;
pub mod refusal;
mod repeated;
pub mod server_sent;
pub mod shutdown;
pub mod telemetry;
pub mod tokens;
pub mod trace;
pub mod watch;
pub mod work_queue;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

/// Locks, also after a panic elsewhere: what these locks guard is valid after every single statement.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So long after a time; the last time that there is when that is too long.
pub fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}
