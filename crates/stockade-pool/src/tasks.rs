//! A pool that runs futures.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use stockade_core::Error;
use tower_service::Service;

use crate::{Job, Pool, PoolBuilder};

/// A future that a pool of tasks runs.
pub type Task<T> = Pin<Box<dyn Future<Output = Result<T, Error<Infallible>>> + Send>>;

/// A pool whose requests are futures. Made by [`Pool::tasks`] and [`PoolBuilder::build_tasks`].
pub type Tasks<T> = Pool<Task<T>, T, Error<Infallible>>;

/// The service whose calls are what it is called with.
#[derive(Clone)]
pub(crate) struct RunTask;

impl Pool<(), (), ()> {
    /// A pool that runs futures: one worker per core, and a queue of 128. [`PoolBuilder::build_tasks`] makes one with
    /// other settings.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Example
    ///
    /// ```
    /// use stockade_pool::Pool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let pool = Pool::tasks();
    /// assert_eq!(pool.spawn(async { 6 * 7 }).await, Ok(42));
    /// # }
    /// ```
    #[track_caller]
    pub fn tasks<T: Send + 'static>() -> Tasks<T> {
        PoolBuilder::default().build_tasks()
    }
}

impl<T: Send + 'static> PoolBuilder<Task<T>> {
    /// Starts a pool that runs futures.
    ///
    /// # Panics
    ///
    /// As [`build`](Self::build) does.
    #[track_caller]
    pub fn build_tasks(self) -> Tasks<T> {
        self.build(RunTask)
    }
}

impl<T: Send + 'static> Pool<Task<T>, T, Error<Infallible>> {
    /// Submits a future, as [`submit`](Self::submit) does a request.
    pub fn spawn(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Job<Task<T>, T, Error<Infallible>> {
        self.submit(Box::pin(async { Ok(task.await) }))
    }
}

// === impl RunTask ===

impl<T> Service<Task<T>> for RunTask {
    type Response = T;
    type Error = Error<Infallible>;
    type Future = Task<T>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<T>) -> Self::Future {
        task
    }
}
