use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    thread::available_parallelism,
};

use stockade_core::{LayerError, config::allow};
use tokio::runtime::Handle;
use tower_service::Service;

use crate::{
    Pool, PoolLayer,
    shared::{Seat, Settings, Shared},
    worker,
};

/// Describes a pool, and starts it.
#[derive(Clone, Debug)]
#[must_use = "a pool starts when it is built"]
pub struct PoolBuilder {
    settings: Settings,
}

const MOST: usize = 1 << 20;

// === impl PoolBuilder ===

impl Default for PoolBuilder {
    fn default() -> Self {
        let workers = available_parallelism().map_or(1, |cores| cores.get().min(MOST));
        Self { settings: Settings { workers, capacity: 128, measure: false, name: None } }
    }
}

impl PoolBuilder {
    /// How many workers there are, each of which runs one job at a time (default: one per core).
    ///
    /// # Panics
    ///
    /// If `n` is not from 1 to 1,048,576.
    #[track_caller]
    pub fn workers(mut self, n: usize) -> Self {
        self.settings.workers = allow("PoolBuilder::workers", n, 1..=MOST);
        self
    }

    /// How many jobs may wait while all workers are busy (default 128). With 0 a job is accepted only when a
    /// worker is free.
    ///
    /// # Panics
    ///
    /// If `n` is above `u32::MAX - 1,048,577`.
    #[track_caller]
    pub fn queue(mut self, n: usize) -> Self {
        let most = u32::MAX as usize - 1 - MOST;
        self.settings.capacity = allow("PoolBuilder::queue", n, 0..=most);
        self
    }

    /// A name for refusals and events.
    pub fn name(mut self, name: &'static str) -> Self {
        self.settings.name = Some(name);
        self
    }

    /// Measures how long each job is queued and runs, for [`Stats`](crate::Stats) and
    /// [`Outcome`](crate::Outcome). Off by default, because it reads the clock three times a job.
    pub fn measure(mut self) -> Self {
        self.settings.measure = true;
        self
    }

    /// Starts the pool; each worker owns a clone of `service`.
    ///
    /// After a panic, or an error of readiness, the worker goes on with another clone.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[track_caller]
    pub fn build<S, Req>(self, service: S) -> Pool<Req, S::Response, S::Error>
    where
        S: Service<Req> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send + 'static,
        S::Error: LayerError + Send + 'static,
        Req: Send + 'static,
    {
        self.build_make(CloneService(service))
    }

    /// Starts the pool; each worker makes its own service by calling a clone of `make` with the worker's
    /// number, counted from 0. One connection a worker is made so.
    ///
    /// After a panic, or an error of readiness, the worker makes another; until that succeeds, with backoff up
    /// to a second, it takes no job.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[track_caller]
    pub fn build_make<M, S, Req>(self, make: M) -> Pool<Req, S::Response, S::Error>
    where
        M: Service<usize, Response = S> + Clone + Send + 'static,
        M::Future: Send,
        M::Error: fmt::Display + Send,
        S: Service<Req> + Send + 'static,
        S::Future: Send,
        S::Response: Send + 'static,
        S::Error: LayerError + Send + 'static,
        Req: Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            panic!("stockade: a pool is built inside a tokio runtime, and there is none here");
        };
        let shared = Arc::new(Shared::new(self.settings));
        for id in 0..self.settings.workers {
            let seat = Seat::new(Arc::clone(&shared), id);
            let task = shared.tasks.spawn_on(worker::run(seat, make.clone()), &runtime);
            shared.add_worker(task.abort_handle());
        }
        Pool::new(shared)
    }

    /// The pool as a layer, which starts it when it is applied to a service.
    pub fn into_layer<Req>(self) -> PoolLayer<Req> {
        PoolLayer::new(self)
    }
}

/// Makes services by cloning one.
#[derive(Clone, Debug)]
struct CloneService<S>(S);

impl<S: Clone> Service<usize> for CloneService<S> {
    type Response = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: usize) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}
