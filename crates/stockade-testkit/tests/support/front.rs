//! A concurrency limit that waits in `poll_ready`.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use stockade_core::{Error, Reason, Rejected};
use stockade_testkit::{Fault, Probe, Request, Response};
use tower_service::Service;

use super::{
    Answer, Breach,
    line::{Line, Permit, Place},
};

pub(crate) struct Front {
    inner: Probe,
    line: Arc<Line>,
    place: Option<Place>,
    // One, unless this breaks the contract.
    permits: Vec<Arc<Permit>>,
    breach: Breach,
}

impl Front {
    pub(crate) fn new(inner: Probe, limit: usize, breach: Breach) -> Self {
        Self { inner, line: Line::new(limit, breach), place: None, permits: Vec::new(), breach }
    }

    pub(crate) fn close(&self) {
        self.line.close();
    }

    pub(crate) fn hold(&self) {
        self.line.hold();
    }

    pub(crate) fn release(&self) {
        self.line.release();
    }
}

impl Clone for Front {
    fn clone(&self) -> Self {
        let shares = self.breach == Breach::ClonesPermit;
        Self {
            inner: self.inner.clone(),
            line: Arc::clone(&self.line),
            place: None,
            permits: if shares { self.permits.clone() } else { Vec::new() },
            breach: self.breach,
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if self.breach == Breach::LeaksUncalled {
            mem::forget(mem::take(&mut self.permits));
        }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.permits.is_empty() {
            let place = self.place.get_or_insert_with(|| self.line.place());
            let polled = ready!(place.poll(cx));
            self.place = None;
            let Ok(permit) = polled else {
                return Poll::Ready(Err(Rejected::new(&"front", Reason::PoolClosed).into()));
            };
            self.permits.push(Arc::new(permit));
        } else if self.breach == Breach::TakesPermitEachPoll {
            self.permits.extend(self.line.try_permit().map(Arc::new));
        }
        let polled = ready!(self.inner.poll_ready(cx));
        if polled.is_err() {
            self.permits.clear();
        }
        Poll::Ready(polled)
    }

    fn call(&mut self, request: Request) -> Answer {
        let permits = mem::take(&mut self.permits);
        let call = self.inner.call(request);
        Box::pin(async move {
            let _permits = permits;
            call.await
        })
    }
}
