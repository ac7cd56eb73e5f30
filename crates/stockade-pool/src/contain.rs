//! What is the user's may panic: it costs one job its answer, and nobody else anything.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pub(crate) type Panic = Box<dyn Any + Send>;

/// Runs what is the user's; a panic is returned.
#[inline]
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run))
}

/// Drops what is the user's; a panic costs nothing.
#[inline]
pub(crate) fn discard<V>(value: V) {
    if let Err(panic) = guard(|| drop(value)) {
        forget(panic);
    }
}

/// Lets go of what a panic came with. A payload that panics when it is dropped is beyond help.
pub(crate) fn forget(panic: Panic) {
    if let Err(another) = guard(|| drop(panic)) {
        std::mem::forget(another);
    }
}

/// Polls what is the user's; a panic is returned.
pub(crate) fn contain<F: Future>(future: F) -> Contain<F> {
    Contain { future }
}

pin_project! {
    /// A future whose panic is its output.
    pub(crate) struct Contain<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Contain<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match guard(|| future.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// Tells of a panic. The panic hook has printed it; the event says which worker it was.
pub(crate) fn tell(panic: Panic, _name: Option<&'static str>, _worker: usize) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "stockade",
        layer = "pool",
        name = _name,
        worker = _worker,
        panic = message(&*panic),
        "panicked"
    );
    forget(panic);
}

#[cfg(feature = "tracing")]
fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "a payload that is no text",
    }
}
