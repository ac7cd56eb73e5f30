use std::{
    fmt,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{Priority, Scoped, scope};

/// Gives each call a priority, which everything inside can ask for.
///
/// It says how much a call matters, and does nothing else: no call waits or is refused here. Put it outside the layers
/// that are to look at it.
///
/// # Example
///
/// ```
/// use std::convert::Infallible;
/// use stockade_core::priority::{self, Priority, PriorityLayer};
/// use tower_layer::Layer;
/// # use tower_service::Service;
/// # use std::{future::{Ready, ready}, task::{Context, Poll}};
/// # struct Show;
/// # impl Service<&'static str> for Show {
/// #     type Response = Priority;
/// #     type Error = Infallible;
/// #     type Future = Ready<Result<Priority, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
/// #     fn call(&mut self, _: &'static str) -> Self::Future { ready(Ok(priority::current())) }
/// # }
/// # let show_priority = Show;
///
/// let layer = PriorityLayer::new(|path: &&str| match *path {
///     "/pay" => Priority::Critical,
///     _ => Priority::Default,
/// });
/// let mut svc = layer.layer(show_priority);
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(svc.call("/pay").await, Ok(Priority::Critical));
/// # });
/// ```
#[derive(Clone, Copy)]
pub struct PriorityLayer<F> {
    read: F,
}

/// Gives each call a priority; made by [`PriorityLayer`].
///
/// - `poll_ready` is that of the service inside. No call is known there, so it has the priority of what is around.
/// - `call` asks for the priority of the request once, and makes the call with it. It replaces one that is set outside.
/// - A clone is not ready.
/// - Dropping the service, or a response future, gives nothing back, because nothing is held.
#[derive(Clone)]
pub struct Prioritized<S, F> {
    inner: S,
    read: F,
}

crate::accessors!(Prioritized<S, F>);

// === impl PriorityLayer ===

impl<F> PriorityLayer<F> {
    /// Gives each call the priority that `read` finds in its request. Annotate the type of the request:
    /// `|request: &Request| …`.
    #[must_use]
    pub const fn new<Req>(read: F) -> Self
    where
        F: Fn(&Req) -> Priority,
    {
        Self { read }
    }
}

impl<S, F: Clone> Layer<S> for PriorityLayer<F> {
    type Service = Prioritized<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Prioritized { inner, read: self.read.clone() }
    }
}

impl<F> fmt::Debug for PriorityLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriorityLayer").finish_non_exhaustive()
    }
}

// === impl Prioritized ===

impl<S, F, Req> Service<Req> for Prioritized<S, F>
where
    S: Service<Req>,
    F: Fn(&Req) -> Priority,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Scoped<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let priority = (self.read)(&request);
        scope(priority, priority.enter(|| self.inner.call(request)))
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Prioritized<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prioritized").field("inner", &self.inner).finish_non_exhaustive()
    }
}
