//! The slow path of every layer: wait to be admitted, get the service ready, then call it.
//!
//! A call that is not admitted at once gives up the inner service's readiness ([`release`]), because
//! readiness may hold a permit that others need, and moves to the heap. So the response future of a call
//! that passes has no room for any of this. What does not depend on the service is in [`Admission`], so that it is
//! compiled once for a layer and an error type, and not once for each stack.

use std::{
    convert, fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tower_service::Service;

use crate::{LayerError, Reason, Rejected, deadline, waits::Wait};

/// Waits until a layer admits a call.
///
/// Dropping it gives back its place in the queue, or the permit that was handed to it.
pub trait Waiter {
    /// What an admitted call holds; dropping it gives it back.
    type Permit;

    /// Ready with a permit, or with the layer's refusal. Not polled again after that.
    fn poll_admit(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Permit, Rejected>>;
}

/// A [`Waiter`] of a call that has a deadline.
pub trait CallWaiter: Waiter + Unpin {
    /// What refuses a call that does not wait.
    type Refuser: Refuser;

    /// The call starts with this permit.
    fn start(_: &mut Self::Permit) {}

    /// The refusal of a call that was admitted, and whose deadline passed before it could start. A layer that
    /// counts its refusals counts it here.
    fn expired(&self) -> Rejected;
}

/// A refusal in two words, until it is told. It stands where the future of a call that passes would stand, and each layer
/// moves what stands there.
#[derive(Debug)]
pub struct Refusal<B> {
    by: Arc<B>,
    why: u64,
}

/// What refuses calls.
pub trait Refuser {
    /// Its refusal for this reason.
    fn rejected(&self, reason: Reason) -> Rejected;
}

/// The wait of one call for a permit, with which it starts only if its deadline has not passed by then.
#[derive(Debug)]
pub struct Admission<W: Waiter> {
    waiter: W,
    permit: Option<W::Permit>,
    wait: Option<Wait>,
}

/// A call on the slow path.
pub enum Slow<W: CallWaiter, S, Req> {
    /// It waits, or has ended without being called.
    Waiting(Option<Box<Deferred<W, S, Req>>>),
    /// It is refused.
    Refused(Refusal<W::Refuser>),
}

/// A call that waits to be admitted, and then for the service inside to be ready.
pub struct Deferred<W: Waiter, S, Req> {
    admission: Admission<W>,
    service: S,
    // Taken when the call starts.
    request: Option<Req>,
}

/// Takes the instance that may be ready, or hold something for that, and leaves a clone.
pub fn take<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    mem::replace(service, clone)
}

/// Gives up the readiness that `service` holds, and returns a clone for a later call.
pub fn release<S: Clone>(service: &mut S) -> S {
    let_go(service);
    service.clone()
}

/// Gives up the readiness that `service` holds.
pub fn let_go<S: Clone>(service: &mut S) {
    *service = service.clone();
}

// === impl Admission ===

impl<W: CallWaiter> Admission<W> {
    /// A wait that begins now.
    pub fn new(waiter: W) -> Self {
        Self { waiter, permit: None, wait: Some(Wait::start()) }
    }

    /// Ready with a permit, or with a refusal.
    pub async fn admitted(mut self) -> Result<W::Permit, Rejected> {
        poll_fn(|cx| self.poll(cx, convert::identity, &mut |_| Poll::Ready(Ok(())))).await
    }

    /// Ready with the permit of a call that starts now: it is admitted, and `poll_ready` says that the service is ready.
    fn poll<E>(
        &mut self,
        cx: &mut Context<'_>,
        into_error: fn(Rejected) -> E,
        poll_ready: &mut dyn FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<W::Permit, E>> {
        if self.permit.is_none() {
            self.permit = match ready!(Pin::new(&mut self.waiter).poll_admit(cx)) {
                Ok(permit) => Some(permit),
                Err(rejected) => return Poll::Ready(Err(into_error(rejected))),
            };
            self.wait = None;
        }
        ready!(poll_ready(cx))?;
        // Time may have passed since the last look, above all where the thread was blocked.
        if deadline::has_passed() {
            return Poll::Ready(Err(into_error(self.waiter.expired())));
        }
        let mut permit = self.permit.take().expect("it was admitted");
        W::start(&mut permit);
        Poll::Ready(Ok(permit))
    }
}

// === impl Refusal ===

impl<B: Refuser> Refusal<B> {
    /// `rejected`, which is one of the refusals of `by`.
    pub fn new(by: &Arc<B>, rejected: Rejected) -> Self {
        Self { by: Arc::clone(by), why: rejected.packed() }
    }

    /// The refusal.
    pub fn rejected(&self) -> Rejected {
        self.by.rejected(Reason::Expired).with_packed(self.why)
    }
}

// === impl Slow ===

impl<W: CallWaiter, S, Req> Slow<W, S, Req> {
    /// It has ended without being called.
    pub const ENDED: Self = Self::Waiting(None);
}

impl<W, S, Req> Slow<W, S, Req>
where
    W: CallWaiter,
    S: Service<Req>,
    S::Error: LayerError,
{
    /// A call that waits.
    pub fn waiting(waiter: W, service: S, request: Req) -> Self {
        let admission = Admission::new(waiter);
        Self::Waiting(Some(Box::new(Deferred { admission, service, request: Some(request) })))
    }

    /// Ready when the call can be [made](Self::call), with its permit, or with what ends it. Then it has given
    /// everything back.
    ///
    /// # Panics
    ///
    /// If it is polled again after an error.
    #[cold]
    #[inline(never)]
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<W::Permit, S::Error>> {
        let polled = match self {
            Self::Waiting(Some(deferred)) => {
                let Deferred { admission, service, .. } = &mut **deferred;
                admission.poll(cx, Rejected::into_error, &mut |cx| service.poll_ready(cx))
            }
            Self::Waiting(None) => ended(),
            Self::Refused(refusal) => Poll::Ready(Err(refusal.rejected().into_error())),
        };
        if let Poll::Ready(Err(_)) = &polled {
            *self = Self::ENDED;
        }
        polled
    }

    /// Calls the service.
    ///
    /// # Panics
    ///
    /// If the call is not admitted, or was made before.
    #[cold]
    #[inline(never)]
    pub fn call(&mut self) -> S::Future {
        let Self::Waiting(Some(deferred)) = self else { ended() };
        let Deferred { service, request, .. } = &mut **deferred;
        match request.take() {
            Some(request) => service.call(request),
            None => ended(),
        }
    }
}

#[cold]
fn ended() -> ! {
    panic!("it is not polled again once it is ready")
}

impl<W: CallWaiter, S, Req> fmt::Debug for Slow<W, S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting(Some(deferred)) if deferred.admission.permit.is_none() => "waiting",
            Self::Waiting(Some(_)) => "getting ready",
            Self::Waiting(None) => "done",
            Self::Refused(_) => "refused",
        })
    }
}

impl<W: Waiter, S, Req> fmt::Debug for Deferred<W, S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Limit;

    impl Refuser for Limit {
        fn rejected(&self, reason: Reason) -> Rejected {
            Rejected::new(&"limit", reason).with_name(Some("db"))
        }
    }

    struct Never;

    impl Waiter for Never {
        type Permit = ();

        fn poll_admit(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
            Poll::Pending
        }
    }

    impl CallWaiter for Never {
        type Refuser = Limit;

        fn expired(&self) -> Rejected {
            Limit.rejected(Reason::Expired)
        }
    }

    #[test]
    fn the_slow_path_takes_two_words_of_a_future_whatever_the_service_and_the_request() {
        assert_eq!(size_of::<Slow<Never, [u64; 64], [u64; 64]>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn a_refusal_in_two_words_loses_nothing() {
        let rejected =
            Limit.rejected(Reason::RateLimited).with_retry_after(Duration::from_nanos(7));
        assert_eq!(Refusal::new(&Arc::new(Limit), rejected).rejected(), rejected);
        let full = Limit.rejected(Reason::QueueFull);
        assert_eq!(Refusal::new(&Arc::new(Limit), full).rejected(), full);
    }
}
