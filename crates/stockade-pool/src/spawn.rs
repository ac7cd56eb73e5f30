//! Workers as tasks of the runtime, or as threads of their own.

use std::{
    fmt, io,
    pin::pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use stockade_core::{
    LayerError,
    internal::{lock, sync::Mutex},
};
use tokio::{runtime::Handle, time::sleep};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::{
    contain::discard,
    rebuild::Rebuild,
    roster::Stop,
    serve,
    shared::{Hired, Shared, Spawn},
    worker::Worker,
};

/// What workers are made of. It is kept so that a worker can be started whenever one is missing.
pub(crate) struct Parts<M, R> {
    /// Each worker clones it for itself, so a clone that panics is the worker's to try again.
    make: Arc<Mutex<M>>,
    rebuild: Arc<R>,
    runtime: Handle,
}

/// Starts a worker as a task.
pub(crate) struct Tasks<M, R>(Parts<M, R>);

/// Starts a worker as a thread, where the runtime's timers and `spawn` work. The thread polls the worker itself, and not
/// inside the runtime, so a job may block on the runtime's handle.
pub(crate) struct Threads<M, R> {
    parts: Parts<M, R>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// When a thread that could not be spawned is tried again.
const AGAIN: Duration = Duration::from_millis(100);

// === impl Parts ===

impl<M, R> Parts<M, R> {
    pub(crate) fn new(make: M, rebuild: R, runtime: Handle) -> Self {
        Self { make: Arc::new(Mutex::new(make)), rebuild: Arc::new(rebuild), runtime }
    }
}

// === impl Tasks ===

impl<M, R> Tasks<M, R> {
    pub(crate) fn new(parts: Parts<M, R>) -> Self {
        Self(parts)
    }
}

impl<M, R, S, Req> Spawn<Req, S::Response, S::Error> for Tasks<M, R>
where
    M: Service<usize, Response = S> + Clone + Send + 'static,
    M::Future: Send,
    M::Error: fmt::Display + Send,
    S: Service<Req> + Send + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: LayerError + Send + 'static,
    Req: Send + 'static,
    R: Rebuild<S::Response, S::Error>,
{
    fn spawn(
        &self,
        shared: &Arc<Shared<Req, S::Response, S::Error>>,
        hired: Hired,
    ) -> io::Result<Stop> {
        let Parts { make, rebuild, runtime } = &self.0;
        let worker = Worker::new(Arc::clone(shared), hired);
        let task = runtime.spawn(serve::run(worker, Arc::clone(make), Arc::clone(rebuild)));
        Ok(Stop::Task(task.abort_handle()))
    }
}

// === impl Threads ===

impl<M, R> Threads<M, R> {
    pub(crate) fn new(parts: Parts<M, R>) -> Self {
        Self { parts, threads: Mutex::new(Vec::new()) }
    }
}

impl<M, R, S, Req> Spawn<Req, S::Response, S::Error> for Threads<M, R>
where
    M: Service<usize, Response = S> + Clone + Send + 'static,
    M::Future: Send,
    M::Error: fmt::Display + Send,
    S: Service<Req> + Send + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: LayerError + Send + 'static,
    Req: Send + 'static,
    R: Rebuild<S::Response, S::Error>,
{
    fn spawn(
        &self,
        shared: &Arc<Shared<Req, S::Response, S::Error>>,
        hired: Hired,
    ) -> io::Result<Stop> {
        let Parts { make, rebuild, runtime } = &self.parts;
        let name = shared.config.name.unwrap_or("stockade-pool");
        let name = format!("{name}-{}", hired.badge.number);
        let worker = Worker::new(Arc::clone(shared), hired);
        let stopped = CancellationToken::new();
        let token = stopped.clone();
        let run = serve::run(worker, Arc::clone(make), Arc::clone(rebuild));
        let runtime_of_thread = runtime.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _inside = runtime_of_thread.enter();
            block_on(token.run_until_cancelled_owned(run));
        });
        // Without a thread the worker is dropped, and so it is off the roster.
        let thread = thread.inspect_err(|_| drop(runtime.spawn(again(Arc::downgrade(shared)))))?;
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(Stop::Thread(stopped))
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A worker does not panic, and what it could say then has been printed.
            discard(thread.join());
        }
    }
}

/// A task that lives as long as the workers of a pool. If its runtime ends earlier, so do they.
pub(crate) fn watch_runtime<Req, T, E>(
    shared: &Arc<Shared<Req, T, E>>,
) -> impl Future<Output = ()> + use<Req, T, E> {
    let (tasks, watch) = (shared.tasks.clone(), Watch(Arc::downgrade(shared)));
    async move {
        let _watch = watch;
        tasks.wait().await;
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
        shared.start_missing();
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
