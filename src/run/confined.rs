//! Work that can be ended at once, with everything it has begun.

use std::{future::Future, io};

use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinError, JoinHandle},
};

/// A piece of work on threads of its own, and whatever tasks it spawns there. Dropping it ends them all: none gets further
/// than to where it waits next. So who must not write any more need not be asked task by task, and the rest of the process
/// goes on.
///
/// What it shares with the rest must not depend on its tasks: a client opens its connections where it is used, so the work
/// brings its own.
pub(super) struct Confined<T> {
    /// There until it is dropped: a runtime that is simply dropped would wait, which a task may not.
    runtime: Option<Runtime>,
    work: JoinHandle<T>,
}

impl<T: Send + 'static> Confined<T> {
    /// Begins it.
    pub fn start(name: &str, work: impl Future<Output = T> + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().thread_name(name).build()?;
        let work = runtime.spawn(work);
        Ok(Self { runtime: Some(runtime), work })
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> Result<T, JoinError> {
        (&mut self.work).await
    }
}

impl<T> Drop for Confined<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn dropping_it_ends_also_what_it_has_spawned() {
        let (wrote, mut written) = mpsc::channel(1);
        let work = Confined::start("test", async move {
            // As the settlements of owners: a task of a task, which nobody holds.
            tokio::spawn(async move {
                tokio::spawn(async move { while wrote.send(()).await.is_ok() {} });
            });
            std::future::pending::<()>().await;
        });
        let work = work.unwrap();
        written.recv().await.unwrap();
        drop(work);
        // It ends only when nothing can write any more.
        while written.recv().await.is_some() {}
    }

    #[tokio::test]
    async fn it_says_how_it_ended() {
        let mut work = Confined::start("test", async { 7 }).unwrap();
        assert_eq!(work.ended().await.unwrap(), 7);
    }
}
