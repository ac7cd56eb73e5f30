//! Workers as tasks of the runtime.

use std::{fmt, sync::Arc};

use stockade_core::{
    LayerError,
    internal::{lock, sync::Mutex},
};
use tokio::runtime::Handle;
use tower_service::Service;

use crate::{
    scale::Stop,
    seat::Seat,
    shared::{Chair, Shared, Start},
    worker,
};

/// Starts a worker as a task. It keeps what makes the services, so that a worker can be started whenever one is
/// missing, from whatever thread.
pub(crate) struct Tasks<M> {
    make: Mutex<M>,
    runtime: Handle,
}

// === impl Tasks ===

impl<M> Tasks<M> {
    pub(crate) fn new(make: M, runtime: Handle) -> Self {
        Self { make: Mutex::new(make), runtime }
    }
}

impl<M, S, Req> Start<Req, S::Response, S::Error> for Tasks<M>
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
        let seat = Seat::new(Arc::clone(shared), chair);
        let make = lock(&self.make).clone();
        Stop::Task(self.runtime.spawn(worker::run(seat, make)).abort_handle())
    }
}
