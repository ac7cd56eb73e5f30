use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use pin_project_lite::pin_project;
use stockade_core::{Class, Classify, DefaultClassify, Judged, LayerError, Reason, deadline};
use tower_service::Service;

use super::{Begun, Controller, End, Policy};

/// The service inside an adaptive limit, which measures the calls; made by
/// [`LimitLayer::adaptive`](crate::LimitLayer::adaptive).
///
/// It passes everything else on.
#[derive(Clone, Debug)]
pub struct Measured<S, P, C = DefaultClassify> {
    inner: S,
    controller: Arc<Controller<P, C>>,
}

pin_project! {
    /// The response of a [`Measured`].
    pub struct Measuring<F, P: Policy, C> {
        #[pin]
        future: F,
        call: Call<P, C>,
    }
}

/// A call that is measured. If it is dropped before its end, that is an end too.
struct Call<P: Policy, C> {
    controller: Arc<Controller<P, C>>,
    begun: Option<Begun>,
}

stockade_core::accessors!(Measured<S, P, C>);

// === impl Measured ===

impl<S, P, C> Measured<S, P, C> {
    pub(crate) const fn new(inner: S, controller: Arc<Controller<P, C>>) -> Self {
        Self { inner, controller }
    }
}

impl<S, Req, P, C> Service<Req> for Measured<S, P, C>
where
    S: Service<Req>,
    S::Error: LayerError,
    P: Policy,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Measuring<S::Future, P, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let begun = Some(self.controller.begin(deadline::current()));
        let call = Call { controller: Arc::clone(&self.controller), begun };
        Measuring { future: self.inner.call(request), call }
    }
}

// === impl Measuring ===

impl<F, T, E, P, C> Future for Measuring<F, P, C>
where
    F: Future<Output = Result<T, E>>,
    E: LayerError,
    P: Policy,
    C: Classify<T, E>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        if let Some(end) = judge(&this.call.controller.classify, result.as_ref()) {
            this.call.end(end);
        }
        this.call.begun = None;
        Poll::Ready(result)
    }
}

/// What a result tells of the load.
fn judge<T, E: LayerError>(classify: &impl Classify<T, E>, result: Result<&T, &E>) -> Option<End> {
    match Judged::of(classify, result) {
        Judged::Answered(Class::Success | Class::Permanent) => Some(End::Answered),
        Judged::Answered(Class::Overload { .. }) => Some(End::Lost),
        Judged::Answered(Class::Transient { .. }) if is_elapsed(result) => Some(End::Lost),
        // How long a failure took says nothing about how long the work takes.
        Judged::Answered(_) | Judged::Refused(_) => None,
    }
}

fn is_elapsed<T, E: LayerError>(result: Result<&T, &E>) -> bool {
    let rejected = result.err().and_then(LayerError::rejected);
    rejected.is_some_and(|rejected| rejected.reason() == Reason::Elapsed)
}

// === impl Call ===

impl<P: Policy, C> Call<P, C> {
    fn end(&mut self, end: End) {
        if let Some(begun) = self.begun.take() {
            self.controller.end(&begun, end);
        }
    }
}

impl<P: Policy, C> Drop for Call<P, C> {
    fn drop(&mut self) {
        // A panic is no news of the load, and a policy that panicked on top of it would abort the process.
        if !thread::panicking() {
            self.end(End::Dropped);
        }
    }
}
