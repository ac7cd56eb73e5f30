//! A queue in memory, which gets jobs back.

use std::{future::Ready, future::ready, sync::Arc, time::Duration};

use apalis_core::{
    backend::memory::{MemorySink, MemoryStorage},
    error::BoxDynError,
    task::{
        Task,
        task_id::{RandomId, TaskId},
    },
};
use futures_channel::mpsc::{self, UnboundedSender};
use futures_util::{SinkExt, StreamExt, lock::Mutex};
use tokio::time::sleep;

use super::again;

/// The way into a queue in memory. Clones lead into the same one, and may be used by many threads at once, which the
/// sink of the backend itself does not bear. Idempotency keys mean nothing to it.
#[derive(Debug)]
pub struct MemoryQueue<Args> {
    sender: UnboundedSender<Task<Args>>,
}

/// The in-memory backend of apalis, and the way into its queue.
///
/// Nothing of it survives the process: it is for tests, and for trying things out.
pub fn memory<Args: Send + 'static>() -> (MemoryStorage<Args>, MemoryQueue<Args>) {
    let (sender, receiver) = mpsc::unbounded();
    let sink = sender.clone().sink_map_err(Into::into);
    let sink = MemorySink::new(Arc::new(Mutex::new(Box::new(sink))));
    (MemoryStorage::new_with(sink, receiver.boxed()), MemoryQueue { sender })
}

// === impl MemoryQueue ===

impl<Args: Send + 'static> MemoryQueue<Args> {
    /// Puts a job behind the others.
    ///
    /// # Errors
    ///
    /// When the backend is gone.
    pub fn push(&self, args: Args) -> Result<(), BoxDynError> {
        self.push_task(Task::new(args))
    }

    /// The same, for a job that has more to it, such as a [`Due`](super::Due).
    ///
    /// # Errors
    ///
    /// When the backend is gone.
    pub fn push_task(&self, job: Task<Args>) -> Result<(), BoxDynError> {
        let id = TaskId::from_string(RandomId::default());
        let job = job.into_builder().task_id(id).build();
        self.sender.unbounded_send(job).map_err(|_| "the backend is gone".into())
    }

    /// Puts a job back, for [`JobsLayer::new`](super::JobsLayer::new). It waits in a task of its own, because the
    /// backend knows no later.
    ///
    /// # Errors
    ///
    /// When the backend is gone already.
    pub fn requeue(&self, job: Task<Args>, after: Duration) -> Ready<Result<(), BoxDynError>> {
        if self.sender.is_closed() {
            return ready(Err("the backend is gone".into()));
        }
        let queue = self.clone();
        tokio::spawn(async move {
            sleep(after).await;
            // It fails when the backend is gone, and all its jobs are.
            let _ = queue.push_task(again(job, Duration::ZERO));
        });
        ready(Ok(()))
    }
}

impl<Args> Clone for MemoryQueue<Args> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}
