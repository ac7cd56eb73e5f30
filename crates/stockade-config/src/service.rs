use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_timeout::TimeoutHandle;
use tokio::sync::futures::OwnedNotified;
use tower_service::Service;

use crate::{gate::Gate, kept::Kept};

/// A service with the layers of a [`StackLayer`](crate::StackLayer).
///
/// - `poll_ready` is that of the layers.
/// - `call` makes the call at once; in the instant in which settings change, its response future does.
/// - A clone shares all with it, and is not ready.
#[derive(Clone, Debug)]
pub struct StackService<S> {
    inner: S,
    gate: Arc<Gate>,
    attempt_timeout: Option<TimeoutHandle>,
}

stockade_core::accessors!(StackService<S>);

pin_project! {
    /// The response future of a [`StackService`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call inside.
    #[derive(Debug)]
    pub struct ResponseFuture<F, S, Req> {
        // Nothing while it waits.
        #[pin]
        call: Option<F>,
        kept: Kept,
        waiting: Option<Box<Waiting<S, Req>>>,
    }
}

/// A call that was to be made while settings changed.
#[derive(Debug)]
struct Waiting<S, Req> {
    stack: StackService<S>,
    request: Option<Req>,
    opened: Option<Pin<Box<OwnedNotified>>>,
}

// === impl StackService ===

impl<S> StackService<S> {
    pub(crate) fn new(inner: S, gate: Arc<Gate>, attempt_timeout: Option<TimeoutHandle>) -> Self {
        Self { inner, gate, attempt_timeout }
    }
}

impl<S, Req> Service<Req> for StackService<S>
where
    S: Service<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let mut request = Some(request);
        let begun = begin(&mut self.inner, &self.gate, self.attempt_timeout.as_ref(), &mut request);
        if let Some((call, kept)) = begun {
            return ResponseFuture { call: Some(call), kept, waiting: None };
        }
        // The instance that is ready goes with the call.
        let fresh = self.clone();
        let stack = mem::replace(self, fresh);
        let waiting = Some(Box::new(Waiting { stack, request, opened: None }));
        ResponseFuture { call: None, kept: Kept::default(), waiting }
    }
}

/// Makes the call, unless settings are being changed.
fn begin<S: Service<Req>, Req>(
    inner: &mut S,
    gate: &Gate,
    attempt_timeout: Option<&TimeoutHandle>,
    request: &mut Option<Req>,
) -> Option<(S::Future, Kept)> {
    let _inside = gate.enter()?;
    let kept = Kept::now(attempt_timeout);
    let _scope = kept.scope();
    Some((inner.call(request.take()?), kept))
}

// === impl ResponseFuture ===

impl<F, S, Req> Future for ResponseFuture<F, S, Req>
where
    S: Service<Req, Future = F>,
    F: Future<Output = Result<S::Response, S::Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let Some(waiting) = this.waiting {
            let (call, kept) = ready!(waiting.poll(cx));
            this.call.set(Some(call));
            (*this.kept, *this.waiting) = (kept, None);
        }
        let _scope = this.kept.scope();
        this.call.as_pin_mut().expect("it was made").poll(cx)
    }
}

// === impl Waiting ===

impl<S, Req> Waiting<S, Req> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(S::Future, Kept)>
    where
        S: Service<Req>,
    {
        let Self { stack: StackService { inner, gate, attempt_timeout }, request, opened } = self;
        loop {
            if let Some(opened) = opened {
                ready!(opened.as_mut().poll(cx));
            }
            // Before it is tried, so that no opening is missed.
            *opened = Some(Box::pin(Arc::clone(&gate.opened).notified_owned()));
            if let Some(begun) = begin(inner, gate, attempt_timeout.as_ref(), request) {
                return Poll::Ready(begun);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use stockade_timeout::{PerRequest, TimeoutLayer};
    use tokio_test::{assert_pending, assert_ready, task};
    use tower::service_fn;

    use super::*;
    use crate::kept::KeptLimit;

    type Answer = Result<u64, ()>;

    /// Returns the limit that an attempt timeout would find, in seconds.
    fn found(_: ()) -> Ready<Answer> {
        ready(Ok(KeptLimit.limit(&()).map_or(0, |limit| limit.as_secs())))
    }

    fn stack<F: FnMut(()) -> Ready<Answer> + Clone>(
        limit: u64,
        found: F,
    ) -> (
        StackService<impl Service<(), Response = u64, Error = (), Future = Ready<Answer>> + Clone>,
        TimeoutHandle,
    ) {
        let (_, handle) = TimeoutLayer::new(std::time::Duration::from_secs(limit)).with_handle();
        (StackService::new(service_fn(found), Arc::default(), Some(handle.clone())), handle)
    }

    #[tokio::test]
    async fn a_call_that_is_made_while_settings_change_waits_and_finds_the_new_ones() {
        let (mut service, handle) = stack(1, found);
        let gate = Arc::clone(&service.gate);
        let closed = gate.close().await;
        let mut calls = [(); 2].map(|()| task::spawn(service.call(())));
        let [first, second] = &mut calls;
        assert_pending!(first.poll());
        handle.set(std::time::Duration::from_secs(2)).unwrap();
        drop(closed);
        assert!(first.is_woken());
        let closed = gate.close().await;
        assert_pending!(first.poll(), "it is closed again");
        assert_pending!(second.poll());
        drop(closed);
        assert_eq!(assert_ready!(first.poll()), Ok(2));
        assert_eq!(assert_ready!(second.poll()), Ok(2));
    }

    #[tokio::test]
    async fn a_call_that_waits_may_be_dropped() {
        let (mut service, _handle) = stack(1, found);
        let gate = Arc::clone(&service.gate);
        let closed = gate.close().await;
        let mut call = task::spawn(service.call(()));
        assert_pending!(call.poll());
        drop(call);
        drop(closed);
        assert_eq!(service.call(()).await, Ok(1));
    }

    #[tokio::test]
    async fn the_limit_of_a_stack_inside_another_one_is_not_taken_for_its_own() {
        let (inner, _handle) = stack(7, found);
        let both = move |()| {
            let inside = task::spawn(inner.clone().call(())).poll();
            assert_eq!(inside, Poll::Ready(Ok(7)));
            found(())
        };
        let (mut outer, _handle) = stack(9, both);
        assert_eq!(outer.call(()).await, Ok(9));
        assert_eq!(found(()).await, Ok(0), "and outside there is none");
    }

    #[tokio::test]
    async fn a_panic_leaves_the_gate_and_no_limit() {
        let (mut service, _handle) = stack(1, |()| -> Ready<Answer> { panic!("as it should") });
        let call = std::panic::AssertUnwindSafe(|| drop(service.call(())));
        assert!(std::panic::catch_unwind(call).is_err());
        drop(service.gate.close().await);
        assert_eq!(found(()).await, Ok(0));
    }
}
