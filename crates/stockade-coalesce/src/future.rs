//! The response future.

use std::{
    fmt,
    hash::Hash,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::internal::deferred;
use tower_service::Service;

use crate::{shared::Caller, work::Heard};

pin_project! {
    /// The answer of a [`Coalesce`](crate::Coalesce).
    ///
    /// # Panics
    ///
    /// If the call that it began panicked, and if it is polled after it was ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the call to the other callers of its key.
    pub struct ResponseFuture<S, Req, K>
    where
        S: Service<Req>,
        K: Hash,
        K: Eq,
    {
        #[pin]
        state: State<S, Req, K, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, K, F>
    where
        S: Service<Req>,
        K: Hash,
        K: Eq,
    {
        // The call shares its answer with nobody.
        Passing { #[pin] future: F },
        // Taken when it has ended.
        Sharing { sharing: Option<Sharing<S, Req, K>> },
    }
}

struct Sharing<S: Service<Req>, Req, K: Hash + Eq> {
    caller: Caller<K, S::Future>,
    /// What is needed to make the call anew; `None` for the caller that began it.
    spare: Option<(S, Req)>,
    /// The call panicked.
    lost: bool,
}

const AFTER: &str = "`ResponseFuture` polled after it was ready";

// === impl ResponseFuture ===

impl<S: Service<Req>, Req, K: Hash + Eq> ResponseFuture<S, Req, K> {
    pub(crate) const fn passing(future: S::Future) -> Self {
        Self { state: State::Passing { future } }
    }

    pub(crate) const fn sharing(caller: Caller<K, S::Future>, spare: Option<(S, Req)>) -> Self {
        Self { state: State::Sharing { sharing: Some(Sharing { caller, spare, lost: false }) } }
    }
}

impl<S, Req, K> Future for ResponseFuture<S, Req, K>
where
    S: Service<Req> + Clone,
    S::Response: Clone,
    S::Error: Clone,
    K: Hash + Eq + Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Passing { future } => future.poll(cx),
            StateProj::Sharing { sharing } => {
                let ended = ready!(sharing.as_mut().expect(AFTER).poll(cx));
                let Sharing { caller, .. } = sharing.take().expect(AFTER);
                ended?;
                Poll::Ready(caller.result().expect("it was heard that the result is there"))
            }
        }
    }
}

impl<S: Service<Req>, Req, K: Hash + Eq> fmt::Debug for ResponseFuture<S, Req, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Passing { .. } => "passing",
            State::Sharing { sharing: Some(_) } => "sharing",
            State::Sharing { sharing: None } => "done",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

// === impl Sharing ===

impl<S, Req, K> Sharing<S, Req, K>
where
    S: Service<Req> + Clone,
    K: Hash + Eq + Clone,
{
    /// Ready when the result is there, or with an error of readiness.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        loop {
            if self.lost {
                ready!(self.poll_anew(cx))?;
            }
            match ready!(self.caller.poll(cx)) {
                Heard::Done => return Poll::Ready(Ok(())),
                Heard::Lost => self.lost = true,
            }
        }
    }

    /// Makes the call anew, or joins whoever does.
    fn poll_anew(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let Some((service, _)) = &mut self.spare else {
            let panic = self.caller.panic();
            resume_unwind(panic.unwrap_or_else(|| Box::new("the call panicked")));
        };
        ready!(service.poll_ready(cx))?;
        let (caller, leads) = self.caller.rejoin();
        self.caller = caller;
        self.lost = false;
        if leads {
            let (mut service, request) = self.spare.take().expect("it was there above");
            self.caller.begin(|| service.call(request));
        } else {
            deferred::let_go(service);
        }
        Poll::Ready(Ok(()))
    }
}
