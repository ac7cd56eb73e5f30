//! A client: a task with a stack of its own, that makes calls when it is told to.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, Stream};
use stockade::Error;
use tower::Service;

use crate::{
    record::Record,
    server::{Answer, Busy, Request},
    stack::Stacked,
};

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct World {
    /// Nanoseconds since the beginning. Only one thread runs.
    now: AtomicU64,
    patience: Duration,
    record: Mutex<Record>,
}

/// How a client is told to make a call.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<Mail>);

#[derive(Debug, Default)]
struct Mail {
    calls: u32,
    closed: bool,
    client: Option<Waker>,
}

/// A client, until it is closed.
pub(crate) struct Client {
    world: Arc<World>,
    inbox: Arc<Inbox>,
    stack: Stacked,
    /// When the calls were made that the stack is not ready for.
    waiting: VecDeque<Duration>,
    calls: FuturesUnordered<Call>,
}

/// A call that is under way, and when it was made.
struct Call {
    made: Duration,
    answer: <Stacked as Service<Request>>::Future,
}

// === impl World ===

impl World {
    pub(crate) fn new(record: Record, patience: Duration) -> Self {
        Self { now: AtomicU64::new(0), patience, record: Mutex::new(record) }
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    pub(crate) fn set_now(&self, now: Duration) {
        self.now.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inbox ===

impl Inbox {
    /// Tells the client to make a call.
    pub(crate) fn call(&self) {
        self.tell(|mail| mail.calls += 1);
    }

    /// Tells the client to drop what is under way, and to end.
    pub(crate) fn close(&self) {
        self.tell(|mail| mail.closed = true);
    }

    fn tell(&self, what: impl FnOnce(&mut Mail)) {
        let mut mail = self.lock();
        what(&mut mail);
        let client = mail.client.take();
        drop(mail);
        if let Some(client) = client {
            client.wake();
        }
    }

    /// How many calls to make; `None` when it is closed.
    fn take(&self, cx: &Context<'_>) -> Option<u32> {
        let mut mail = self.lock();
        match &mut mail.client {
            Some(client) => client.clone_from(cx.waker()),
            None => mail.client = Some(cx.waker().clone()),
        }
        (!mail.closed).then(|| std::mem::take(&mut mail.calls))
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Client ===

impl Client {
    pub(crate) fn new(world: Arc<World>, inbox: Arc<Inbox>, stack: Stacked) -> Self {
        let (waiting, calls) = (VecDeque::new(), FuturesUnordered::new());
        Self { world, inbox, stack, waiting, calls }
    }

    /// Gives up the calls that the stack has not been ready for. Only backpressure keeps a call waiting there, and its
    /// caller does not wait for ever either.
    fn give_up(&mut self, now: Duration) {
        let patience = self.world.patience;
        while let Some(made) = self.waiting.front().copied().filter(|made| now - *made > patience) {
            self.waiting.pop_front();
            self.world.record().given_up(made);
        }
    }

    /// Makes the calls that the stack is ready for.
    fn make_calls(&mut self, now: Duration, cx: &mut Context<'_>) {
        while let Some(&made) = self.waiting.front() {
            match self.stack.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.waiting.pop_front();
                    self.calls.push(Call { made, answer: self.stack.call(Request) });
                }
                Poll::Ready(Err(error)) => {
                    self.waiting.pop_front();
                    self.world.record().ended(made, now, &Err(error));
                }
                Poll::Pending => return,
            }
        }
    }
}

impl Future for Client {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let now = this.world.now();
        this.give_up(now);
        let Some(calls) = this.inbox.take(cx) else { return Poll::Ready(()) };
        this.waiting.extend((0..calls).map(|_| now));
        loop {
            this.make_calls(now, cx);
            // When all have ended there may be room for those that wait.
            match Pin::new(&mut this.calls).poll_next(cx) {
                Poll::Ready(Some((made, result))) => this.world.record().ended(made, now, &result),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Future for Call {
    type Output = (Duration, Result<Answer, Error<Busy>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready((self.made, result))
    }
}
