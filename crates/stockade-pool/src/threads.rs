//! Workers as threads of their own.

use std::{
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
};

use stockade_core::{
    LayerError,
    internal::{lock, sync::Mutex},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::{
    scale::Stop,
    seat::Seat,
    shared::{Chair, Shared, Start},
    worker,
};

/// Starts a worker as a thread, on which the runtime's timers and spawn work. While the worker has nothing to do
/// its thread is parked.
pub(crate) struct Threads<M> {
    make: Mutex<M>,
    runtime: Handle,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

// === impl Threads ===

impl<M> Threads<M> {
    pub(crate) fn new(make: M, runtime: Handle) -> Self {
        Self { make: Mutex::new(make), runtime, threads: Mutex::new(Vec::new()) }
    }
}

impl<M, S, Req> Start<Req, S::Response, S::Error> for Threads<M>
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
    fn start(&self, shared: &Arc<Shared<Req, S::Response, S::Error>>, chair: Chair) -> Stop {
        let name = shared.settings.name.unwrap_or("stockade-pool");
        let name = format!("{name}-{}", chair.badge.id);
        let seat = Seat::new(Arc::clone(shared), chair);
        let make = lock(&self.make).clone();
        let (runtime, token) = (self.runtime.clone(), CancellationToken::new());
        let stopped = token.clone();
        // Without a thread the seat is dropped, and with it the worker is off the books.
        let thread = thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(stopped.run_until_cancelled(worker::run(seat, make)));
        });
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.extend(thread);
        Stop::Thread(token)
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A worker does not panic, and what it could say then has been printed.
            let _ = thread.join();
        }
    }
}
