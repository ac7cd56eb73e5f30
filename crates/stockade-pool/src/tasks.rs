//! A pool that runs futures.

use std::{
    convert::Infallible,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use stockade_core::Error;
use tower_service::Service;

use crate::{Job, Pool, PoolBuilder};

/// A future that a pool of tasks runs.
pub type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A pool whose requests are futures. Made by [`Pool::tasks`] and [`PoolBuilder::build_tasks`].
pub type Tasks<T> = Pool<Task<T>, T, Error<Infallible>>;

/// The service that polls the future it is called with.
pub(crate) struct RunTask<T>(PhantomData<fn() -> T>);

/// The future of a [`RunTask`].
pub(crate) struct Running<T>(Task<T>);

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

impl PoolBuilder {
    /// Starts a pool that runs futures.
    ///
    /// # Panics
    ///
    /// As [`build`](Self::build) does.
    #[track_caller]
    pub fn build_tasks<T: Send + 'static>(self) -> Tasks<T> {
        self.build(RunTask(PhantomData))
    }
}

impl<T: Send + 'static> Pool<Task<T>, T, Error<Infallible>> {
    /// Submits a future, as [`submit`](Self::submit) does a request.
    pub fn spawn(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Job<Task<T>, T, Error<Infallible>> {
        self.submit(Box::pin(task))
    }
}

// === impl RunTask ===

impl<T> Service<Task<T>> for RunTask<T> {
    type Response = T;
    type Error = Error<Infallible>;
    type Future = Running<T>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<T>) -> Self::Future {
        Running(task)
    }
}

impl<T> Clone for RunTask<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T> Future for Running<T> {
    type Output = Result<T, Error<Infallible>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}
