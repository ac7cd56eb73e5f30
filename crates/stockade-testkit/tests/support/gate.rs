//! A concurrency limit that waits in the response future.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use stockade_core::{Error, Reason, Rejected};
use stockade_testkit::{Fault, Probe, Request, Response};
use tower_service::Service;

use super::{
    Answer, Breach,
    line::{Line, Permit},
};

#[derive(Clone)]
pub(crate) struct Gate {
    inner: Probe,
    line: Arc<Line>,
    breach: Breach,
    failed: bool,
    ready: bool,
    lock: Arc<Mutex<()>>,
    queued: Arc<Mutex<BTreeMap<u64, Request>>>,
}

/// A call that keeps its permit until it is dropped.
struct Keeping(Answer, #[expect(dead_code, reason = "is only held")] Permit);

/// A permit that is lost if the call is dropped before its end.
struct Forgetful(Option<Permit>);

impl Gate {
    pub(crate) fn new(inner: Probe, limit: usize, breach: Breach) -> Self {
        Self {
            inner,
            line: Line::new(limit, breach),
            breach,
            failed: false,
            ready: false,
            lock: Arc::default(),
            queued: Arc::default(),
        }
    }

    /// The same gate around another service.
    pub(crate) fn around(&self, inner: Probe) -> Self {
        Self { inner, ..self.clone() }
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

    fn admitted(&mut self, permit: Permit, request: Request) -> Answer {
        let call = if self.breach == Breach::CallsUnreadyClone {
            self.inner.clone().call(request)
        } else {
            let _held = (self.breach == Breach::Poisons)
                .then(|| self.lock.lock().expect("no call has panicked"));
            self.inner.call(request)
        };
        match self.breach {
            Breach::KeepsPermitInFinished => Box::pin(Keeping(Box::pin(call), permit)),
            Breach::ForgetsDropped => Box::pin(async move {
                let mut permit = Forgetful(Some(permit));
                let result = call.await;
                permit.0 = None;
                result
            }),
            Breach::RewritesErrors => Box::pin(async move {
                let _permit = permit;
                call.await.map_err(|error| match error {
                    Error::Service(fault) => Error::Service(Fault { number: 0, ..fault }),
                    rejected => rejected,
                })
            }),
            Breach::NeverAnswers => Box::pin(std::future::pending()),
            _ => Box::pin(async move {
                let _permit = permit;
                call.await
            }),
        }
    }
}

impl Service<Request> for Gate {
    type Response = Response;
    type Error = Error<Fault>;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        assert!(!self.failed, "polled after it had failed");
        if self.breach == Breach::ClonesReadyFlag && self.ready {
            return Poll::Ready(Ok(()));
        }
        let polled = self.inner.poll_ready(cx);
        self.ready = matches!(polled, Poll::Ready(Ok(())));
        if self.breach == Breach::PanicsAfterReadinessError {
            self.failed = matches!(polled, Poll::Ready(Err(_)));
        }
        polled
    }

    fn call(&mut self, request: Request) -> Answer {
        self.ready = false;
        if self.breach == Breach::CoopIsFull && !tokio::task::coop::has_budget_remaining() {
            return refuse(Reason::Shed);
        }
        if let Some(permit) = self.line.try_permit() {
            return self.admitted(permit, request);
        }
        // Readiness is returned, unless this breach hoards it: then the waiting call keeps it.
        let mut waiting = Self { inner: self.inner.clone(), ..self.clone() };
        mem::swap(&mut self.inner, &mut waiting.inner);
        let hoards = self.breach == Breach::HoardsReadiness;
        if !hoards {
            waiting.inner = self.inner.clone();
        }
        if self.breach == Breach::KeepsCancelled {
            let mut queued = self.queued.lock().expect("nobody panics under it");
            queued.insert(request.id, request.clone());
        }
        let mut place = self.line.place();
        Box::pin(async move {
            let Ok(permit) = poll_fn(|cx| place.poll(cx)).await else {
                return refuse(Reason::PoolClosed).await;
            };
            waiting.queued.lock().expect("nobody panics under it").remove(&request.id);
            if !hoards && waiting.breach != Breach::CallsUnreadyAfterWait {
                poll_fn(|cx| waiting.inner.poll_ready(cx)).await?;
            }
            waiting.admitted(permit, request).await
        })
    }
}

fn refuse(reason: Reason) -> Answer {
    Box::pin(async move { Err(Rejected::new(&"gate", reason).into()) })
}

impl Future for Keeping {
    type Output = Result<Response, Error<Fault>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl Drop for Forgetful {
    fn drop(&mut self) {
        // This is not about panics.
        if !std::thread::panicking() {
            mem::forget(self.0.take());
        }
    }
}
