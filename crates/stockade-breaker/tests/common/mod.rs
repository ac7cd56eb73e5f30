//! A service inside the breaker that does what it is asked.

#![allow(dead_code, reason = "not every test file needs all of it")]

use std::{
    future::{Future, pending, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use stockade_breaker::{Breaker, BreakerLayer, State, Window};
use stockade_core::{
    DefaultClassify, Error, LayerError, Reason, Rejected, internal::lock, waits::Wait,
};
use tokio::time::sleep;
use tokio_test::task::{Spawn, spawn};
use tower::{Layer, Service, ServiceExt};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What the service is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Succeed,
    Fail,
    /// Answers well after that time.
    Take(Duration),
    /// Waits for so long in a layer inside, and then takes as long as the second says.
    QueueThenTake(Duration, Duration),
    FailAfter(Duration),
    Hang,
    Refuse(Reason),
    PanicInCall,
    PanicInFuture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    Pending,
    Broken,
}

#[derive(Debug)]
pub(crate) struct Backend {
    shared: Arc<Shared>,
    readied: bool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    readiness: Mutex<(Readiness, Vec<Waker>)>,
    pub(crate) polled: AtomicUsize,
    pub(crate) called: AtomicUsize,
}

pub(crate) type Answer = Result<&'static str, Error<&'static str>>;
pub(crate) type Boxed = Pin<Box<dyn Future<Output = Answer> + Send>>;
pub(crate) type Subject<C = DefaultClassify> = Breaker<Backend, C>;

// === impl Backend ===

impl Backend {
    pub(crate) fn new() -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared {
            readiness: Mutex::new((Readiness::Ready, Vec::new())),
            polled: AtomicUsize::new(0),
            called: AtomicUsize::new(0),
        });
        (Self { shared: Arc::clone(&shared), readied: false }, shared)
    }
}

impl Clone for Backend {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), readied: false }
    }
}

impl Service<Ask> for Backend {
    type Response = &'static str;
    type Error = Error<&'static str>;
    type Future = Boxed;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.shared.polled.fetch_add(1, SeqCst);
        let mut readiness = lock(&self.shared.readiness);
        self.readied = readiness.0 == Readiness::Ready;
        match readiness.0 {
            Readiness::Ready => Poll::Ready(Ok(())),
            Readiness::Broken => Poll::Ready(Err(Error::Service("broken"))),
            Readiness::Pending => {
                readiness.1.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn call(&mut self, ask: Ask) -> Boxed {
        assert!(std::mem::take(&mut self.readied), "called although it is not ready");
        self.shared.called.fetch_add(1, SeqCst);
        match ask {
            Ask::Succeed => Box::pin(ready(Ok("fine"))),
            Ask::Fail => Box::pin(ready(Err(Error::Service("failed")))),
            Ask::Take(time) => Box::pin(async move {
                sleep(time).await;
                Ok("fine")
            }),
            Ask::QueueThenTake(queued, time) => Box::pin(async move {
                let wait = Wait::start();
                sleep(queued).await;
                drop(wait);
                sleep(time).await;
                Ok("fine")
            }),
            Ask::FailAfter(time) => Box::pin(async move {
                sleep(time).await;
                Err(Error::Service("failed"))
            }),
            Ask::Hang => Box::pin(pending()),
            Ask::Refuse(reason) => Box::pin(ready(Err(Rejected::new(&"test", reason).into()))),
            Ask::PanicInCall => panic!("in call"),
            Ask::PanicInFuture => Box::pin(async { panic!("in the future") }),
        }
    }
}

impl Shared {
    pub(crate) fn set(&self, new: Readiness) {
        let mut readiness = lock(&self.readiness);
        readiness.0 = new;
        readiness.1.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn called(&self) -> usize {
        self.called.load(SeqCst)
    }
}

// === what tests do with a breaker ===

/// Opens at half of four calls.
pub(crate) fn layer() -> BreakerLayer {
    BreakerLayer::new().window(Window::calls(4)).min_calls(4)
}

pub(crate) fn subject() -> (Subject, Arc<Shared>) {
    let (backend, shared) = Backend::new();
    (layer().layer(backend), shared)
}

/// A subject that has just opened.
pub(crate) async fn opened() -> (Subject, Arc<Shared>) {
    let (mut subject, shared) = subject();
    for _ in 0..4 {
        ask(&mut subject, Ask::Fail).await.expect_err("it is asked to fail");
    }
    assert_eq!(subject.handle().state(), State::Open);
    (subject, shared)
}

/// A subject that has just become half-open.
pub(crate) async fn half_open() -> (Subject, Arc<Shared>) {
    let (subject, shared) = opened().await;
    tokio::time::advance(5 * SECOND).await;
    assert_eq!(subject.handle().state(), State::HalfOpen);
    (subject, shared)
}

/// A whole call.
pub(crate) async fn ask<S>(subject: &mut S, ask: Ask) -> Answer
where
    S: Service<Ask, Response = &'static str, Error = Error<&'static str>>,
{
    subject.ready().await?.call(ask).await
}

/// A call that was polled once.
pub(crate) fn start<C>(
    subject: &mut Subject<C>,
    ask: Ask,
) -> Spawn<<Subject<C> as Service<Ask>>::Future>
where
    Subject<C>: Service<Ask, Future: Future>,
{
    let mut ready = spawn(());
    assert!(ready.enter(|cx, _| subject.poll_ready(cx).is_ready()));
    let mut call = spawn(subject.call(ask));
    let _ = call.poll();
    call
}

/// Why a call was refused, if it was.
pub(crate) fn refusal(answer: &Answer) -> Option<Reason> {
    answer.as_ref().err().and_then(LayerError::rejected).map(Rejected::reason)
}
