//! A service that does what it is told.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use stockade_core::{Error, Reason, Rejected, internal::lock};
use tokio::time::Instant;
use tower::Service;

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) type Failure = Error<&'static str>;

/// What comes next, whichever instance is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Ok(u32),
    Fail(&'static str),
    Refuse(Rejected),
    /// The readiness fails; it waits for the call where the next step is not this one.
    Unready(&'static str),
    /// The readiness fails with a refusal.
    Closed(Rejected),
    Hang,
    Panic,
}

pub(crate) struct Mock {
    all: Arc<All>,
    /// One for each instance.
    instance: Arc<()>,
    ready: bool,
}

struct All {
    script: Mutex<VecDeque<Step>>,
    calls: Mutex<Vec<(u32, Instant)>>,
    clones: AtomicUsize,
    running: Arc<()>,
    held: Mutex<(bool, Vec<Waker>)>,
    panic_on_clone: AtomicBool,
}

/// A call, which is under way until it is dropped.
pub(crate) struct Running {
    call: Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send>>,
    _running: Arc<()>,
}

pub(crate) fn refused() -> Rejected {
    Rejected::new(&"limit", Reason::QueueFull)
}

impl Mock {
    pub(crate) fn new(script: impl IntoIterator<Item = Step>) -> Self {
        let all = All {
            script: Mutex::new(script.into_iter().collect()),
            calls: Mutex::default(),
            clones: AtomicUsize::new(0),
            running: Arc::new(()),
            held: Mutex::default(),
            panic_on_clone: AtomicBool::new(false),
        };
        Self { all: Arc::new(all), instance: Arc::new(()), ready: false }
    }

    /// Forgets the steps that are left, and takes these.
    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        *lock(&self.all.script) = steps.into_iter().collect();
    }

    /// Lets no instance become ready.
    pub(crate) fn hold(&self, held: bool) {
        let mut state = lock(&self.all.held);
        state.0 = held;
        state.1.drain(..).for_each(Waker::wake);
    }

    /// The next clone panics.
    pub(crate) fn panic_on_clone(&self) {
        self.all.panic_on_clone.store(true, SeqCst);
    }

    pub(crate) fn clones(&self) -> usize {
        self.all.clones.load(SeqCst)
    }

    /// How many instances there are, without this one.
    pub(crate) fn instances(&self) -> usize {
        Arc::strong_count(&self.instance) - 1
    }

    /// How many calls are under way.
    pub(crate) fn running(&self) -> usize {
        Arc::strong_count(&self.all.running) - 1
    }

    /// The requests, and when they came, counted from the first one.
    pub(crate) fn calls(&self) -> Vec<(u32, Duration)> {
        let calls = lock(&self.all.calls);
        calls.iter().map(|(request, at)| (*request, *at - calls[0].1)).collect()
    }

    /// The times between the calls.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.calls().windows(2).map(|pair| pair[1].1 - pair[0].1).collect()
    }
}

impl Clone for Mock {
    fn clone(&self) -> Self {
        self.all.clones.fetch_add(1, SeqCst);
        assert!(!self.all.panic_on_clone.swap(false, SeqCst), "as told");
        Self { all: Arc::clone(&self.all), instance: Arc::clone(&self.instance), ready: false }
    }
}

impl Service<u32> for Mock {
    type Response = u32;
    type Error = Failure;
    type Future = Running;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut held = lock(&self.all.held);
        if held.0 {
            held.1.push(cx.waker().clone());
            return Poll::Pending;
        }
        let mut script = lock(&self.all.script);
        let error = match script.front().copied() {
            Some(Step::Unready(error)) => Some(Error::Service(error)),
            Some(Step::Closed(rejected)) => Some(Error::Rejected(rejected)),
            _ => None,
        };
        if let Some(error) = error {
            script.pop_front();
            return Poll::Ready(Err(error));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        lock(&self.all.calls).push((request, Instant::now()));
        let step = lock(&self.all.script).pop_front().expect("a step is left");
        let call = Box::pin(async move {
            match step {
                Step::Ok(answer) => Ok(answer),
                Step::Fail(error) => Err(Error::Service(error)),
                Step::Refuse(rejected) => Err(Error::Rejected(rejected)),
                Step::Unready(_) | Step::Closed(_) => unreachable!("taken by poll_ready"),
                Step::Hang => pending().await,
                Step::Panic => panic!("as told"),
            }
        });
        Running { call, _running: Arc::clone(&self.all.running) }
    }
}

impl Future for Running {
    type Output = Result<u32, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.call.as_mut().poll(cx)
    }
}
