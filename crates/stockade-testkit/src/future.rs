//! A call of the probe.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use stockade_core::Error;
use tokio::{task::coop, time::Sleep};

use crate::{
    Behaviour, Fault, Request, Response, Violation,
    probe::panic_quietly,
    state::{Run, Shared},
};

pin_project! {
    /// A call of a [`Probe`](crate::Probe), which behaves as the [`Behaviour`] of its request says.
    ///
    /// The call ends when this is ready or panics, even if it is kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the call.
    #[derive(Debug)]
    pub struct ProbeFuture {
        request: Request,
        // None once the call has ended.
        run: Option<Run>,
        yields: u32,
        #[pin]
        sleep: Option<Sleep>,
        live: Live,
    }
}

/// Counts a future for as long as it exists.
#[derive(Debug)]
struct Live(Arc<Shared>);

// === impl ProbeFuture ===

impl ProbeFuture {
    pub(crate) fn new(run: Run, request: Request) -> Self {
        let live = Live::new(&run.shared);
        Self { request, run: Some(run), yields: 0, sleep: None, live }
    }
}

impl Future for ProbeFuture {
    type Output = Result<Response, Error<Fault>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let id = this.request.id;
        this.live.0.with(|state| state.polls += 1);
        let Some(run) = this.run else {
            let violation = Violation::PolledAfterEnd { request: id };
            this.live.0.with(|state| state.violations.push(violation));
            return Poll::Pending;
        };
        let fails = match this.request.behaviour {
            Behaviour::Ready | Behaviour::PanicInCall => false,
            Behaviour::Wait => {
                ready!(run.poll_released(cx));
                false
            }
            Behaviour::Yield(times) => {
                if *this.yields < times {
                    *this.yields += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                false
            }
            Behaviour::Sleep(duration) => {
                if this.sleep.is_none() {
                    this.sleep.set(Some(tokio::time::sleep(duration)));
                }
                if let Some(sleep) = this.sleep.as_pin_mut() {
                    ready!(sleep.poll(cx));
                }
                false
            }
            Behaviour::Fail => true,
            Behaviour::FailTimes(times) => run.shared.with(|state| {
                let failed = state.failed.entry(id).or_default();
                *failed += 1;
                *failed <= times
            }),
            Behaviour::PanicInFuture => {
                *this.run = None;
                panic_quietly(id, "future")
            }
            Behaviour::Busy => {
                if run.poll_released(cx).is_pending() {
                    exhaust_budget(cx);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                false
            }
        };
        let fault = fails.then(|| run.shared.with(|state| state.fault(Some(id))));
        *this.run = None;
        Poll::Ready(match fault {
            None => Ok(Response { id }),
            Some(fault) => Err(Error::Service(fault)),
        })
    }
}

/// Uses up the rest of the task's cooperative budget, if it has one.
pub(crate) fn exhaust_budget(cx: &mut Context<'_>) {
    // The budget is 128. Outside of a task there is none, so the loop has a bound.
    for _ in 0..1024 {
        match coop::poll_proceed(cx) {
            Poll::Ready(proceed) => proceed.made_progress(),
            Poll::Pending => return,
        }
    }
}

// === impl Run ===

impl Run {
    fn poll_released(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (_replaced, polled) =
            self.shared.with(|state| match state.running.get_mut(&self.call) {
                Some(call) if !call.released => {
                    (call.waker.replace(cx.waker().clone()), Poll::Pending)
                }
                _ => (None, Poll::Ready(())),
            });
        polled
    }
}

// === impl Live ===

impl Live {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.with(|state| state.live += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.with(|state| state.live -= 1);
    }
}
