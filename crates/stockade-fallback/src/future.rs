//! The response future.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::Bypass;

use crate::Handler;

pin_project! {
    /// The answer of a [`Fallback`](crate::Fallback): that of the call, or that of the fallback.
    ///
    /// The failed call is dropped before the fallback begins, so it gives back what it held.
    ///
    /// # Panics
    ///
    /// If it is polled after it was ready.
    pub struct ResponseFuture<F, Req, T, E, H, O>
    where
        H: Handler<Req, T, E>,
    {
        #[pin]
        pub(crate) state: State<F, H::Future>,
        // None for a call that passes by, and once it has been used.
        pub(crate) kept: Option<H::Kept>,
        pub(crate) handler: H,
        // Errors pass by that the fallback does not answer.
        pub(crate) on: O,
        pub(crate) name: Option<&'static str>,
    }
}

pin_project! {
    #[project = StateProj]
    pub(crate) enum State<F, A> {
        Calling { #[pin] future: F },
        Answering { #[pin] answer: A },
        Done,
    }
}

// === impl ResponseFuture ===

impl<F, Req, T, E, H, O> Future for ResponseFuture<F, Req, T, E, H, O>
where
    F: Future<Output = Result<T, E>>,
    H: Handler<Req, T, E>,
    O: Bypass<E>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { future } => {
                    let result = ready!(future.poll(cx));
                    this.state.set(State::Done);
                    let kept = this.kept.take();
                    match (result, kept) {
                        (Err(error), Some(kept)) if !this.on.passes_by(&error) => {
                            tell(*this.name);
                            let answer = this.handler.answer(kept, error);
                            this.state.set(State::Answering { answer });
                        }
                        (result, _) => return Poll::Ready(result),
                    }
                }
                StateProj::Answering { answer } => {
                    let result = ready!(answer.poll(cx));
                    this.state.set(State::Done);
                    return Poll::Ready(result);
                }
                StateProj::Done => panic!("`ResponseFuture` polled after it was ready"),
            }
        }
    }
}

fn tell(name: Option<&'static str>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "stockade", layer = "fallback", name, "answered in place of a failed call");
    #[cfg(not(feature = "tracing"))]
    let _ = name;
}

impl<F, Req, T, E, H: Handler<Req, T, E>, O> fmt::Debug for ResponseFuture<F, Req, T, E, H, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Calling { .. } => "calling",
            State::Answering { .. } => "answering",
            State::Done => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
