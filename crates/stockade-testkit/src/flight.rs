//! One call through a stack, in a task of its own.

use std::{
    fmt,
    future::{Future, pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use stockade_core::internal::lock;
use stockade_core::internal::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use crate::{ContractError, Fault, Request, Response, Subject};

/// After this time on tokio's clock, a call counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// How a call through the stack ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Answered(u64),
    /// An error that carries the fault of the probe.
    Failed(Fault),
    /// Another error.
    Refused(String),
    Panicked(String),
    Hung,
}

/// A call that runs in a task. Dropping this drops the call there.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: u64,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What is known about a call from outside of its task.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    polls: AtomicUsize,
    ending: Mutex<Option<Ending>>,
    ended: Notify,
}

/// How a call is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// The service was polled ready already.
    pub(crate) readied: bool,
    /// The future is kept after it has ended.
    pub(crate) keep: bool,
}

// === impl Ending ===

impl Ending {
    pub(crate) fn of<E: ContractError>(result: Result<Response, E>) -> Self {
        match result {
            Ok(response) => Self::Answered(response.id),
            Err(error) => Self::error(&error),
        }
    }

    pub(crate) fn error<E: ContractError>(error: &E) -> Self {
        match error.fault() {
            Some(fault) => Self::Failed(fault),
            None => Self::Refused(error.to_string()),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(id) => write!(f, "was answered, with the response to {id}"),
            Self::Failed(fault) => write!(f, "failed with {fault}"),
            Self::Refused(error) => write!(f, "ended with the error `{error}`"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Hung => write!(f, "did not end within {PATIENCE:?}"),
        }
    }
}

// === impl Flight ===

impl Flight {
    /// A whole call through `service`.
    pub(crate) fn start<S: Subject>(mut service: S, request: Request, plan: Plan) -> Self {
        Self::of(request.id, |report| async move {
            if !plan.readied
                && let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await
            {
                return Ending::error(&error);
            }
            let mut future = pin!(service.call(request));
            let ending = Ending::of(future.as_mut().await);
            if plan.keep {
                report.end(ending);
                pending().await
            } else {
                ending
            }
        })
    }

    /// Runs the future that `call` makes, which may report its end before it ends.
    pub(crate) fn of<F>(id: u64, call: impl FnOnce(Arc<Shared>) -> F) -> Self
    where
        F: Future<Output = Ending> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let call = call(Arc::clone(&shared));
        let inside = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let ending = {
                let mut call = pin!(call);
                poll_fn(|cx| {
                    inside.polls.fetch_add(1, Ordering::Relaxed);
                    catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)))
                        .unwrap_or_else(|payload| Poll::Ready(Ending::Panicked(message(&*payload))))
                })
                .await
            };
            inside.end(ending);
        });
        Self { id, shared, task }
    }

    /// How it ended, if it has.
    pub(crate) fn ending(&self) -> Option<Ending> {
        lock(&self.shared.ending).clone()
    }

    /// Waits for its end.
    pub(crate) async fn end(&self) -> Ending {
        let ended = async {
            loop {
                let notified = self.shared.ended.notified();
                if let Some(ending) = self.ending() {
                    return ending;
                }
                notified.await;
            }
        };
        timeout(PATIENCE, ended).await.unwrap_or(Ending::Hung)
    }

    /// How often its task was polled.
    pub(crate) fn polls(&self) -> usize {
        self.shared.polls.load(Ordering::Relaxed)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Shared ===

impl Shared {
    fn end(&self, ending: Ending) {
        *lock(&self.ending) = Some(ending);
        self.ended.notify_waiters();
    }
}

/// The message of a panic.
pub(crate) fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is no text".to_owned())
}
