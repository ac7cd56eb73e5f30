//! Layers that break the contract in other ways.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use stockade_core::{Error, Reason, Rejected};
use stockade_testkit::{Fault, Probe, Request, Response};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::Answer;

/// A limit that checks its counter in `poll_ready` and increments it in `call`.
#[derive(Clone)]
pub(crate) struct LateCounter {
    inner: Probe,
    limit: usize,
    shared: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    running: usize,
    sleepers: Vec<Waker>,
}

struct Counts(Arc<Mutex<Counted>>);

/// A layer that is ready while the inner service is not, and does not poll it again.
#[derive(Clone)]
pub(crate) struct Masking {
    inner: Probe,
    masks: bool,
}

/// A timeout.
#[derive(Clone)]
pub(crate) struct Hurried {
    inner: Probe,
    within: Duration,
    /// Whether the timer shares the budget that the inner future uses up.
    naive: bool,
}

/// A layer that sleeps before it calls.
#[derive(Clone)]
pub(crate) struct Sleepy {
    inner: Probe,
    nap: Duration,
}

// === impl LateCounter ===

impl LateCounter {
    pub(crate) fn new(inner: Probe, limit: usize) -> Self {
        Self { inner, limit, shared: Arc::default() }
    }
}

impl Service<Request> for LateCounter {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut shared = self.shared.lock().expect("nobody panics under it");
        if shared.running >= self.limit {
            shared.sleepers.push(cx.waker().clone());
            return Poll::Pending;
        }
        drop(shared);
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Answer {
        self.shared.lock().expect("nobody panics under it").running += 1;
        let counts = Counts(Arc::clone(&self.shared));
        let call = self.inner.call(request);
        Box::pin(async move {
            let _counts = counts;
            call.await
        })
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        let mut shared = self.0.lock().expect("nobody panics under it");
        shared.running -= 1;
        mem::take(&mut shared.sleepers).into_iter().for_each(Waker::wake);
    }
}

// === impl Masking ===

impl Masking {
    pub(crate) fn new(inner: Probe) -> Self {
        Self { inner, masks: false }
    }
}

impl Service<Request> for Masking {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.masks {
            let polled = self.inner.poll_ready(cx);
            self.masks = polled.is_pending();
            if !self.masks {
                return polled;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answer {
        if self.masks {
            return Box::pin(async { Err(Rejected::new(&"masking", Reason::Shed).into()) });
        }
        Box::pin(self.inner.call(request))
    }
}

// === impl Hurried ===

impl Hurried {
    pub(crate) fn new(inner: Probe, within: Duration, naive: bool) -> Self {
        Self { inner, within, naive }
    }
}

impl Service<Request> for Hurried {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Answer {
        let call = self.inner.call(request);
        let elapsed = || Err(Rejected::new(&"hurried", Reason::Elapsed).into());
        let within = self.within;
        if !self.naive {
            return Box::pin(
                async move { timeout(within, call).await.unwrap_or_else(|_| elapsed()) },
            );
        }
        Box::pin(async move {
            let mut call = pin!(call);
            let mut timer = pin!(sleep(within));
            poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Pending => timer.as_mut().poll(cx).map(|()| elapsed()),
                ended => ended,
            })
            .await
        })
    }
}

// === impl Sleepy ===

impl Sleepy {
    pub(crate) fn new(inner: Probe, nap: Duration) -> Self {
        Self { inner, nap }
    }
}

impl Service<Request> for Sleepy {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answer {
        let (mut inner, nap) = (self.inner.clone(), self.nap);
        Box::pin(async move {
            sleep(nap).await;
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(request).await
        })
    }
}
