//! The suite: what the user declares, and how the checks are run.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;
use tower_service::Service;

use crate::{
    ContractError, Outcome, Probe, Report, Request, Response, checks,
    flight::message,
    report::known,
    stage::{Action, Objection, Stage, Verdict, settle},
    watchdog::{REAL_LIMIT, guarded},
};

/// The longest that a check may take on tokio's clock; on a paused one that takes no real time.
const LIMIT: Duration = Duration::from_secs(3600);

/// A service that the suite can be run on. There is nothing to implement.
///
/// It is any `Clone + Send` service for [`Request`] that answers with the probe's [`Response`], and in whose error
/// the suite can [find the fault](ContractError).
#[diagnostic::on_unimplemented(
    message = "the contract cannot be run on `{Self}`",
    label = "it has to be a `Service<stockade_testkit::Request, Response = stockade_testkit::Response>` that is `Clone`, `Send` and `'static`",
    note = "the probe takes `stockade_testkit::Request`: for a layer with another type of request, convert it by `.map_request(..)` above and below the layer",
    note = "the probe answers with `stockade_testkit::Response`: convert another type back by `.map_response(..)`"
)]
pub trait Subject:
    Service<Request, Response = Response, Error: ContractError, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Subject for S where
    S: Service<Request, Response = Response, Error: ContractError, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// The suite, with what is declared about the stack. Made by [`contract`].
///
/// It does nothing until it is [run](Self::run).
///
/// # Example
///
/// ```
/// use stockade_testkit::{Outcome, Probe, contract};
/// use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # tokio::time::pause();
/// let stack = |inner: Probe| {
///     ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(inner)
/// };
/// let report = contract(stack).limit(1).run().await;
/// assert_eq!(report.failed(), ["release_on_ready"]);
/// assert_eq!(*report.outcome("no_self_wake"), Outcome::Passed);
/// # }
/// ```
#[must_use = "a suite does nothing until it is run"]
pub struct Contract<S, F> {
    build: F,
    limit: Option<usize>,
    hold: Option<Action<S>>,
    release: Option<Action<S>>,
    deadline: Option<Duration>,
    close: Option<Action<S>>,
    exceptions: Vec<(&'static str, String)>,
}

/// The suite for the stack that `build` puts around a [`Probe`].
///
/// `build` is called often, and must make fresh state each time: make a layer that shares its state among its
/// services inside of it. It is always called within a runtime, so it may spawn tasks.
///
/// Only what [`hold`](Contract::hold) does may concern several stacks, because it is undone after each check.
pub fn contract<S, F>(build: F) -> Contract<S, F>
where
    S: Subject,
    F: FnMut(Probe) -> S,
{
    Contract {
        build,
        limit: None,
        hold: None,
        release: None,
        deadline: None,
        close: None,
        exceptions: Vec::new(),
    }
}

// === impl Contract ===

impl<S, F> Contract<S, F>
where
    S: Subject,
    F: FnMut(Probe) -> S,
{
    /// Declares that at most `limit` calls run inside at once, that this many do, and that more calls
    /// wait: at least three times the limit, and eight. Enables the checks of a full stack, and those of waiting.
    ///
    /// # Panics
    ///
    /// If it is not from 1 to 1,000.
    #[track_caller]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(stockade_core::config::allow("Contract::limit", limit, 1..=1_000));
        self
    }

    /// Declares what makes calls wait that come after it, where that is not a [limit](Self::limit): a gate is shut, say.
    /// [`release`](Self::release) lets them go on. Enables the checks of waiting.
    ///
    /// A layer that delays each call by itself takes `.hold(|_| {})`, and no `release`: its calls go on as the clock
    /// moves. Have it delay them by ten seconds at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade_testkit::{Probe, contract};
    /// use tower::{ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let delayed = |inner: Probe| {
    ///     service_fn(move |request| {
    ///         let inner = inner.clone();
    ///         async move {
    ///             tokio::time::sleep(Duration::from_secs(1)).await;
    ///             inner.oneshot(request).await
    ///         }
    ///     })
    /// };
    /// contract(delayed).hold(|_| {}).run().await.assert();
    /// # }
    /// ```
    pub fn hold(mut self, hold: impl Fn(&mut S) + 'static) -> Self {
        self.hold = Some(Rc::new(hold));
        self
    }

    /// Declares what lets the calls go on that [`hold`](Self::hold) has made to wait: a gate is opened, say.
    pub fn release(mut self, release: impl Fn(&mut S) + 'static) -> Self {
        self.release = Some(Rc::new(release));
        self
    }

    /// Declares that a call ends with an error after this time. Enables the check of the deadline,
    /// which moves the clock by hand, so the clock has to be paused.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Declares how the stack is closed: from then on it refuses calls, those that wait among them. Enables the check of
    /// closing.
    pub fn close(mut self, close: impl Fn(&mut S) + 'static) -> Self {
        self.close = Some(Rc::new(close));
        self
    }

    /// Declares that a check does not apply to this stack. It is left out, and
    /// [listed with the reason](Outcome::DoesNotApply).
    ///
    /// # Panics
    ///
    /// If there is no such check; the message lists all checks.
    #[track_caller]
    pub fn except(mut self, check: &str, reason: impl Into<String>) -> Self {
        self.exceptions.push((known(check), reason.into()));
        self
    }

    /// Runs all checks, one after the other.
    ///
    /// Run it on a current-thread runtime with a paused clock, as `#[tokio::test(start_paused = true)]`
    /// has it. On a real clock, a check that hangs takes long. A check that panics or hangs has failed,
    /// and the others still run.
    ///
    /// The future is not `Send`: await it in the test itself, and not in a task that is spawned.
    pub async fn run(mut self) -> Report {
        let mut report = Report::default();
        let exceptions = std::mem::take(&mut self.exceptions);
        let mut stage = Stage {
            build: &mut self.build,
            limit: self.limit,
            hold: self.hold,
            release: self.release,
            deadline: self.deadline,
            close: self.close,
        };
        for check in checks::NAMES.iter().copied() {
            let exception = exceptions.iter().find(|(name, _)| *name == check);
            let outcome = match exception {
                Some((_, reason)) => Outcome::DoesNotApply(reason.clone()),
                None => judge(checks::make(check, &mut stage)).await,
            };
            report.add(check, outcome);
            // Drop what the check has left behind before the next one.
            settle().await;
        }
        report
    }
}

impl<S, F> fmt::Debug for Contract<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("limit", &self.limit)
            .field("deadline", &self.deadline)
            .field("exceptions", &self.exceptions)
            .finish_non_exhaustive()
    }
}

/// Runs a check. One that panics or hangs has failed.
async fn judge(check: impl Future<Output = Verdict>) -> Outcome {
    let mut check = pin!(check);
    let caught = std::future::poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| check.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(payload) => Poll::Ready(Err(Objection::Broken(format!(
                "the check panicked: {}",
                message(&*payload)
            )))),
        }
    });
    match guarded(REAL_LIMIT, timeout(LIMIT, caught)).await {
        Some(Ok(Ok(()))) => Outcome::Passed,
        Some(Ok(Err(Objection::Broken(why)))) => Outcome::Failed(why),
        Some(Ok(Err(Objection::Undeclared(what)))) => Outcome::NotMade(what.to_owned()),
        Some(Err(_)) => Outcome::Failed(format!("did not end within {LIMIT:?}")),
        None => Outcome::Failed(format!("did not end within {REAL_LIMIT:?} of real time")),
    }
}
