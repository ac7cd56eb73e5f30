//! A service that is watched.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use stockade_core::{Error, LayerError, Reason};
use stockade_limit::Limit;
use tokio::sync::Notify;
use tokio_test::{assert_ready_ok, task};
use tower::{Layer, Service};

pub(crate) type Refusal = Error<Infallible>;

/// Answers when `open` is notified; `slots` counts the instances that are ready.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) open: Arc<Notify>,
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) slots: Arc<AtomicUsize>,
    ready: bool,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        let Self { open, calls, slots, .. } = self;
        Self { open: open.clone(), calls: calls.clone(), slots: slots.clone(), ready: false }
    }
}

impl Inner {
    fn give_back(&mut self) -> bool {
        let ready = std::mem::take(&mut self.ready);
        self.slots.fetch_sub(usize::from(ready), SeqCst);
        ready
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Service<u32> for Inner {
    type Response = u32;
    type Error = Refusal;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<u32, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        if !std::mem::replace(&mut self.ready, true) {
            self.slots.fetch_add(1, SeqCst);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert!(self.give_back(), "called without being ready");
        self.calls.fetch_add(1, SeqCst);
        let open = Arc::clone(&self.open);
        Box::pin(async move {
            open.notified().await;
            Ok(request)
        })
    }
}

#[allow(dead_code, reason = "not every test asks")]
pub(crate) fn reason(error: Refusal) -> Reason {
    error.rejected().expect("a refusal").reason()
}

pub(crate) type Answer =
    stockade_limit::ResponseFuture<<Inner as Service<u32>>::Future, Inner, u32>;

#[allow(dead_code, reason = "not every test calls")]
pub(crate) fn stack(layer: &impl Layer<Inner, Service = Limit<Inner>>) -> (Inner, Limit<Inner>) {
    let inner = Inner::default();
    (inner.clone(), layer.layer(inner))
}

#[allow(dead_code, reason = "not every test calls")]
pub(crate) fn call(svc: &mut Limit<Inner>, request: u32) -> task::Spawn<Answer> {
    let ready = task::spawn(()).enter(|cx, _| svc.poll_ready(cx));
    assert_ready_ok!(ready);
    task::spawn(svc.call(request))
}
