//! The response future.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use apalis_core::{
    error::{AbortError, BoxDynError},
    task::Task,
};
use pin_project_lite::pin_project;
use stockade_core::{LayerError, Reason, Rejected, deadline::Deadline};

use super::{Due, service::Shared};

/// How long a job that was refused without a time waits.
const UNTOLD: Duration = Duration::from_secs(1);

pin_project! {
    /// The response future of [`Jobs`](super::Jobs).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call, as when the worker dies: the queue has the job until somebody reports about it.
    pub struct ResponseFuture<Call, R, F, Args> {
        #[pin]
        state: State<Call, R, F, Args>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<Call, R, F, Args> {
        // The job runs. Then: Returning, or the end.
        Running {
            #[pin]
            call: Call,
            job: Option<Task<Args>>,
            deadline: Option<Deadline>,
            requeue: R,
            shared: Arc<Shared>,
        },
        // The job goes back to the queue.
        Returning { #[pin] requeue: F, refusal: Option<BoxDynError> },
        Failed { error: Option<BoxDynError> },
    }
}

/// What becomes of a job that was refused.
enum Disposition {
    /// It goes back to the queue, for after this time.
    Back(Duration),
    /// It has had its chance: apalis counts an attempt.
    Attempt,
    /// It will never pass.
    Never,
}

// === impl ResponseFuture ===

impl<Call, R, F, Args> ResponseFuture<Call, R, F, Args> {
    pub(crate) fn running(
        call: Call,
        job: Task<Args>,
        deadline: Option<Deadline>,
        requeue: R,
        shared: Arc<Shared>,
    ) -> Self {
        Self { state: State::Running { call, job: Some(job), deadline, requeue, shared } }
    }

    pub(crate) fn failed(error: BoxDynError) -> Self {
        Self { state: State::Failed { error: Some(error) } }
    }

    /// The job is past its deadline: it is never run.
    pub(crate) fn expired() -> Self {
        Self::failed(abort(Rejected::new(&"jobs", Reason::Expired)))
    }
}

impl<Call, R, F, Args, T, E> Future for ResponseFuture<Call, R, F, Args>
where
    Call: Future<Output = Result<T, E>>,
    E: LayerError + Into<BoxDynError>,
    R: Fn(Task<Args>, Duration) -> F,
    F: Future<Output = Result<(), BoxDynError>>,
{
    type Output = Result<Option<T>, BoxDynError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Running { call, job, deadline, requeue, shared } => {
                    let answer = match deadline {
                        Some(deadline) => deadline.enter(|| call.poll(cx)),
                        None => call.poll(cx),
                    };
                    let error = match ready!(answer) {
                        Ok(response) => return Poll::Ready(Ok(Some(response))),
                        Err(error) => error,
                    };
                    let job = job.take().expect("polled after it was ready");
                    let disposition = error
                        .rejected()
                        .map_or(Disposition::Attempt, |no| disposition(no, &job, shared));
                    match disposition {
                        Disposition::Back(after) => {
                            let requeue = requeue(job, after);
                            state.set(State::Returning { requeue, refusal: Some(error.into()) });
                        }
                        Disposition::Attempt => return Poll::Ready(Err(error.into())),
                        Disposition::Never => return Poll::Ready(Err(abort(error))),
                    }
                }
                StateProj::Returning { requeue, refusal } => {
                    return Poll::Ready(match ready!(requeue.poll(cx)) {
                        Ok(()) => Ok(None),
                        Err(_) => Err(refusal.take().expect("polled after it was ready")),
                    });
                }
                StateProj::Failed { error } => {
                    return Poll::Ready(Err(error.take().expect("polled after it was ready")));
                }
            }
        }
    }
}

fn disposition<Args>(no: &Rejected, job: &Task<Args>, shared: &Shared) -> Disposition {
    match no.reason() {
        Reason::TooCostly => return Disposition::Never,
        Reason::PoolClosed => {
            shared.close();
            return Disposition::Back(Duration::ZERO);
        }
        _ if !no.is_refusal() => return Disposition::Attempt,
        _ => {}
    }
    let after = no.retry_after().unwrap_or(UNTOLD);
    match job.metadata().extract_as::<Due>() {
        Ok(due) if due.left() <= after => Disposition::Never,
        _ => Disposition::Back(after),
    }
}

/// An error after which apalis does not try again.
fn abort(error: impl Into<BoxDynError>) -> BoxDynError {
    Box::new(AbortError::new(error))
}

impl<Call, R, F, Args> fmt::Debug for ResponseFuture<Call, R, F, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } => "running",
            State::Returning { .. } => "returning",
            State::Failed { .. } => "failed",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
