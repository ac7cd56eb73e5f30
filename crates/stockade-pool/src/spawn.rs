//! Workers as tasks of the runtime, or as threads of their own.

use std::{
    io,
    pin::pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use stockade_core::internal::{lock, sync::Mutex};
use tokio::{runtime::Handle, time::sleep};
use tower_service::Service;

use crate::{
    MakeWorker, PoolService,
    contain::discard,
    serve,
    shared::{Hired, Shared, Spawn},
    worker::Worker,
};

/// Starts workers, whenever one is missing.
pub(crate) struct Workers<M> {
    /// Each worker clones it for itself, so a clone that panics is the worker's to try again.
    make: Arc<Mutex<M>>,
    runtime: Handle,
    /// None if workers are tasks. A thread of a worker is one where the runtime's timers and `spawn` work. It polls the
    /// worker itself, and not inside the runtime, so a job may block on the runtime's handle.
    threads: Option<Mutex<Vec<JoinHandle<()>>>>,
}

/// When a thread that could not be spawned is tried again.
const AGAIN: Duration = Duration::from_millis(100);

// === impl Workers ===

impl<M> Workers<M> {
    pub(crate) fn new(make: M, runtime: Handle, threads: bool) -> Self {
        let threads = threads.then(|| Mutex::new(Vec::new()));
        Self { make: Arc::new(Mutex::new(make)), runtime, threads }
    }
}

impl<M, S, Req> Spawn<Req, S::Response, S::Error> for Workers<M>
where
    M: MakeWorker<S> + Service<usize, Response = S>,
    S: PoolService<Req>,
    Req: Send + 'static,
{
    fn spawn(
        &self,
        shared: &Arc<Shared<Req, S::Response, S::Error>>,
        hired: Hired,
    ) -> io::Result<()> {
        let name = shared.config.name.unwrap_or("stockade-pool");
        let name = format!("{name}-{}", hired.number);
        let worker = Worker::new(Arc::clone(shared), hired);
        let run = serve::run(worker, Arc::clone(&self.make));
        let Some(threads) = &self.threads else {
            drop(self.runtime.spawn(run));
            return Ok(());
        };
        let runtime = self.runtime.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _inside = runtime.enter();
            block_on(run);
        });
        // Without a thread the worker is dropped, and so it is off the roster.
        let again = |_: &io::Error| drop(self.runtime.spawn(again(Arc::downgrade(shared))));
        let thread = thread.inspect_err(again)?;
        let mut threads = lock(threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    fn join(&self) {
        let threads = self.threads.as_ref().map(|threads| std::mem::take(&mut *lock(threads)));
        for thread in threads.into_iter().flatten() {
            // A worker does not panic, and what it could say then has been printed.
            discard(thread.join());
        }
    }
}

/// A task that lives as long as the workers of a pool. If its runtime ends earlier, so do they.
pub(crate) fn watch_runtime<Req, T, E>(
    shared: &Arc<Shared<Req, T, E>>,
) -> impl Future<Output = ()> + use<Req, T, E> {
    let (ended, watch) = (shared.ended(), Watch(Arc::downgrade(shared)));
    async move {
        let _watch = watch;
        ended.await;
    }
}

/// Dropped when the workers have ended, or their runtime has.
struct Watch<Req, T, E>(Weak<Shared<Req, T, E>>);

impl<Req, T, E> Drop for Watch<Req, T, E> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.abandon();
        }
    }
}

/// Starts the workers that are missing a little later.
async fn again<Req, T, E>(shared: Weak<Shared<Req, T, E>>) {
    sleep(AGAIN).await;
    if let Some(shared) = shared.upgrade() {
        // It may fail again.
        let _ = shared.start();
    }
}

/// Polls a future on this thread, which is parked in between.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}
