//! The thread that writes: everything that waits goes into one transaction.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{Change, StoreError, Told};

/// Writes that may wait; beyond it the writers do.
pub(super) const QUEUE: usize = 256;

/// After so many writes in one transaction more are coming: those that are answered ask again.
const BUSY: usize = 8;
/// How long the first of the next ones then waits for others. A flush takes longer than that, and who writes alone does not wait.
const LINGER: Duration = Duration::from_millis(2);

/// Changes that are made together or not at all, and where to say so.
pub(super) struct Write {
    pub(super) changes: Vec<Change>,
    pub(super) done: oneshot::Sender<Result<Vec<Told>, StoreError>>,
}

/// Writes until nobody can ask for it any more; `failing` says whether the last transaction failed, `commits`
/// how many were made. `listener` hears what came
/// of every change, in the order in which they were made.
pub(super) fn run(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Write>,
    failing: &AtomicBool,
    commits: &AtomicU64,
    listener: &dyn Fn(&Told),
) {
    let mut last = 0;
    while let Some(first) = queue.blocking_recv() {
        if last >= BUSY {
            thread::sleep(LINGER);
        }
        let mut batch = vec![first];
        while batch.len() < QUEUE
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        last = batch.len();
        let result = commit(&mut connection, &batch);
        failing.store(result.is_err(), Ordering::Relaxed);
        commits.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
        let results = result.unwrap_or_else(|error| vec![Err(error); batch.len()]);
        for told in results.iter().flatten().flatten() {
            listener(told);
        }
        for (write, result) in batch.into_iter().zip(results) {
            // Whoever asked may be gone; what was asked is written all the same.
            let _ = write.done.send(result);
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
