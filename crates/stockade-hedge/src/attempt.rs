//! A further attempt: an instance that is made ready, and then called.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::deadline;
use tower_service::Service;

pin_project! {
    #[project = AttemptProj]
    pub(crate) enum Attempt<S, Req, F> {
        // Leaves to Calling when the instance is ready.
        Readying { service: S, request: Option<Req> },
        Calling { #[pin] future: F },
    }
}

// === impl Attempt ===

impl<S: Service<Req>, Req> Attempt<S, Req, S::Future> {
    pub(crate) const fn new(service: S, request: Req) -> Self {
        Self::Readying { service, request: Some(request) }
    }

    /// Ready with its answer. `None`: it was not called, because its instance failed to become ready, or no time is left.
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Response, S::Error>>> {
        loop {
            match self.as_mut().project() {
                AttemptProj::Readying { service, request } => {
                    let ready = ready!(service.poll_ready(cx)).is_ok() && !deadline::has_passed();
                    let Some(request) = request.take().filter(|_| ready) else {
                        return Poll::Ready(None);
                    };
                    let future = service.call(request);
                    self.set(Self::Calling { future });
                }
                AttemptProj::Calling { future } => return future.poll(cx).map(Some),
            }
        }
    }
}
