//! A concurrency limit that keeps the contract, and that can be told to break it in one point.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use stockade_core::Error;
use stockade_testkit::{Fault, Probe, Request, Response};
use tokio::sync::Semaphore;
use tower_service::Service;

/// The one point in which the gate breaks the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    None,
}

#[derive(Clone)]
pub(crate) struct Gate {
    inner: Probe,
    permits: Arc<Semaphore>,
    breach: Breach,
}

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response, Error<Fault>>> + Send>>;

impl Gate {
    pub(crate) fn new(inner: Probe, limit: usize, breach: Breach) -> Self {
        Self { inner, permits: Arc::new(Semaphore::new(limit)), breach }
    }
}

impl Service<Request> for Gate {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Answer {
        let permits = Arc::clone(&self.permits);
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            let call = self.inner.call(request);
            return Box::pin(async move {
                let _permit = permit;
                call.await
            });
        }
        let mut inner = self.inner.clone();
        // Lets go of the readiness that is not needed now.
        drop(mem::replace(&mut self.inner, inner.clone()));
        Box::pin(async move {
            let _permit = permits.acquire_owned().await.expect("is never closed");
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(request).await
        })
    }
}
