//! The thread that writes: everything that waits goes into one transaction.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{Change, StoreError, Told};

/// Writes that may wait; beyond it the writers do.
pub(super) const QUEUE: usize = 256;

/// Above this rate of writes a transaction waits [`LINGER`] for more, because a flush per write would cost more CPU than is available.
const BUSY: Duration = Duration::from_micros(160);
/// How long it waits.
const LINGER: Duration = Duration::from_millis(2);
/// Over so long writes are counted.
const WINDOW: Duration = Duration::from_millis(100);

/// Changes that are made together or not at all, and where to say so.
pub(super) struct Write {
    pub(super) changes: Vec<Change>,
    pub(super) done: oneshot::Sender<Result<Vec<Told>, StoreError>>,
}

/// Writes until every handle to the store is gone; `failing` says whether the last transaction failed, `commits` how many were made.
/// `listener` hears what came of every change, in the order in which they were made.
pub(super) fn run(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Write>,
    failing: &AtomicBool,
    commits: &AtomicU64,
    listener: &dyn Fn(&Told),
) {
    let mut rate = Rate::new(Instant::now());
    while let Some(first) = queue.blocking_recv() {
        if rate.is_busy() {
            thread::sleep(LINGER);
        }
        let mut batch = vec![first];
        while batch.len() < QUEUE
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        rate.count(batch.len(), Instant::now());
        let result = commit(&mut connection, &batch);
        failing.store(result.is_err(), Ordering::Relaxed);
        commits.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
        let results = result.unwrap_or_else(|error| vec![Err(error); batch.len()]);
        for told in results.iter().flatten().flatten() {
            listener(told);
        }
        for (write, result) in batch.into_iter().zip(results) {
            // The task that asked may be gone; its changes are written all the same.
            let _ = write.done.send(result);
        }
    }
}

/// The rate of writes. The size of a transaction is no measure of load: a transaction that lingers is large because it lingered.
struct Rate {
    since: Instant,
    writes: u32,
    busy: bool,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { since: now, writes: 0, busy: false }
    }

    /// Whether there were many of late.
    fn is_busy(&self) -> bool {
        self.busy
    }

    /// There were so many more.
    fn count(&mut self, writes: usize, now: Instant) {
        self.writes = self.writes.saturating_add(u32::try_from(writes).unwrap_or(u32::MAX));
        let past = now - self.since;
        if past >= WINDOW {
            self.busy = past <= BUSY * self.writes;
            (self.since, self.writes) = (now, 0);
        }
    }
}

/// Writes the batch in one transaction. A write that cannot be made by its own fault is left out of it.
fn commit(connection: &mut Connection, batch: &[Write]) -> Result<Vec<Result<Vec<Told>, StoreError>>, StoreError> {
    let failed = |source| StoreError::of("write", source);
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let mut results = Vec::with_capacity(batch.len());
    for write in batch {
        // Rolled back when dropped.
        let part = transaction.savepoint().map_err(failed)?;
        let mut told = Vec::new();
        match write.changes.iter().try_for_each(|change| change.write(&part, &mut told)).map_err(failed) {
            Ok(()) => {
                part.commit().map_err(failed)?;
                results.push(Ok(told));
            }
            Err(error) if error.is_about_the_change() => results.push(Err(error)),
            Err(error) => return Err(error),
        }
    }
    transaction.commit().map_err(failed)?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_waits_for_others_only_where_there_are_many() {
        let mut now = Instant::now();
        let mut rate = Rate::new(now);
        let mut writes_every = |rate: &mut Rate, writes: usize, pause: Duration| {
            for _ in 0..200 {
                now += pause;
                rate.count(writes, now);
            }
            rate.is_busy()
        };
        let millis = Duration::from_millis;
        assert!(!writes_every(&mut rate, 1, millis(100)));
        // Many in each, and few in all.
        assert!(!writes_every(&mut rate, 100, millis(50)));
        assert!(writes_every(&mut rate, 7, millis(1)));
        // Also while they wait for one another.
        assert!(writes_every(&mut rate, 70, millis(10)));
        assert!(!writes_every(&mut rate, 5, millis(1)));
        assert!(!writes_every(&mut rate, 1, Duration::from_secs(5)));
    }
}
