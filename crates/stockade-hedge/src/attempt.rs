//! A further attempt: an instance that is made ready, and then called.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use stockade_core::deadline;
use tower_service::Service;

pub(crate) struct Attempt<S: Service<Req>, Req> {
    // Taken when the call starts.
    waiting: Option<(S, Req)>,
    future: Option<Pin<Box<S::Future>>>,
}

// === impl Attempt ===

impl<S: Service<Req>, Req> Attempt<S, Req> {
    pub(crate) const fn new(service: S, request: Req) -> Self {
        Self { waiting: Some((service, request)), future: None }
    }

    /// Ready with its answer. `None`: it was not called, because its instance failed to become ready, or no time is left.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Response, S::Error>>> {
        if let Some((service, _)) = &mut self.waiting {
            let is_ready = ready!(service.poll_ready(cx)).is_ok() && !deadline::has_passed();
            let waiting = self.waiting.take().filter(|_| is_ready);
            self.future = waiting.map(|(mut service, request)| Box::pin(service.call(request)));
        }
        match &mut self.future {
            Some(future) => future.as_mut().poll(cx).map(Some),
            None => Poll::Ready(None),
        }
    }
}
