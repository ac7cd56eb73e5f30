//! A further attempt: an instance that is made ready, and then called.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use stockade_core::deadline;
use tower_service::Service;

pub(crate) struct Attempt<S: Service<Req>, Req> {
    service: S,
    // Taken when the call starts.
    request: Option<Req>,
    future: Option<Pin<Box<S::Future>>>,
}

// === impl Attempt ===

impl<S: Service<Req>, Req> Attempt<S, Req> {
    pub(crate) const fn new(service: S, request: Req) -> Self {
        Self { service, request: Some(request), future: None }
    }

    /// Ready with its answer. `None`: it was not called, because its instance failed to become ready, or no time is left.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Response, S::Error>>> {
        if let Some(future) = &mut self.future {
            return future.as_mut().poll(cx).map(Some);
        }
        let is_ready = ready!(self.service.poll_ready(cx)).is_ok() && !deadline::has_passed();
        let Some(request) = self.request.take().filter(|_| is_ready) else {
            return Poll::Ready(None);
        };
        let future = self.future.insert(Box::pin(self.service.call(request)));
        future.as_mut().poll(cx).map(Some)
    }
}
