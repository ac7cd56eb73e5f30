//! A queue in memory, which gets jobs back.

use std::{sync::Arc, time::Duration};

use apalis_core::{
    backend::memory::{MemorySink, MemoryStorage},
    error::BoxDynError,
    task::Task,
};
use futures_channel::mpsc;
use futures_util::{SinkExt, StreamExt, lock::Mutex};
use tokio::time::sleep;

use super::again;

/// The way into a queue in memory. Clones lead into the same one.
#[derive(Debug)]
pub struct MemoryQueue<Args> {
    sink: MemorySink<Args>,
}

/// The in-memory backend of apalis, and the way into its queue, which that alone does not give away.
///
/// Nothing of it survives the process: it is for tests, and for trying things out.
pub fn memory<Args: Send + 'static>() -> (MemoryStorage<Args>, MemoryQueue<Args>) {
    let (sender, receiver) = mpsc::unbounded();
    let sender = sender.sink_map_err(Into::into);
    let sink = MemorySink::new(Arc::new(Mutex::new(Box::new(sender))));
    (MemoryStorage::new_with(sink.clone(), receiver.boxed()), MemoryQueue { sink })
}

// === impl MemoryQueue ===

impl<Args: Send + 'static> MemoryQueue<Args> {
    /// Puts a job behind the others.
    ///
    /// # Errors
    ///
    /// When the backend is gone.
    pub async fn push(&self, args: Args) -> Result<(), BoxDynError> {
        self.push_task(Task::new(args)).await
    }

    /// The same, for a job that has more to it, such as a [`Due`](super::Due).
    ///
    /// # Errors
    ///
    /// When the backend is gone.
    pub async fn push_task(&self, job: Task<Args>) -> Result<(), BoxDynError> {
        Ok(self.sink.clone().send(job).await?)
    }

    /// Puts a job back, for [`JobsLayer::new`](super::JobsLayer::new). It waits in a task of its own, because the
    /// backend knows no later.
    ///
    /// # Errors
    ///
    /// When the backend is gone already.
    pub fn requeue(
        &self,
        job: Task<Args>,
        after: Duration,
    ) -> std::future::Ready<Result<(), BoxDynError>> {
        let mut sink = self.sink.clone();
        tokio::spawn(async move {
            sleep(after).await;
            // It fails when the backend is gone, and all its jobs are.
            let _ = sink.send(again(job, Duration::ZERO)).await;
        });
        std::future::ready(Ok(()))
    }
}

impl<Args> Clone for MemoryQueue<Args> {
    fn clone(&self) -> Self {
        Self { sink: self.sink.clone() }
    }
}
