//! One reading for all who look.

use std::{
    any::Any,
    array::IntoIter,
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Bytes;
use futures_core::Stream;
use futures_util::stream::unfold;
use stockade_core::internal::{lock, sync::Mutex};
use tokio::{
    sync::broadcast::{Receiver, Sender, error::RecvError},
    time::{Instant, MissedTickBehavior, interval},
};

use super::board::Board;
use crate::{Metrics, family::Now};

/// How many browsers may look at a [`Dashboard`](crate::Dashboard) at once.
pub const MAX_STREAMS: usize = 256;

/// How often the handles are read.
const EVERY: Duration = Duration::from_millis(100);

/// After so many readings without a change a comment is sent, so that a connection that is gone is noticed.
const SILENT: u32 = 100;

/// How many events a browser may be behind. One that is further behind gets all rows anew.
const BEHIND: usize = 16;

/// Reads the handles while somebody looks, and tells all of them what has changed.
pub(crate) struct Hub {
    metrics: Metrics,
    has_control: bool,
    begun: Instant,
    state: Mutex<State>,
    /// Breakers that are held open from the page, by kind and name.
    held: Mutex<HashMap<(String, String), Box<dyn Any + Send>>>,
    events: Sender<Bytes>,
    streams: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    board: Board,
    /// Whether there is a task that reads.
    reading: bool,
}

/// The task that reads.
struct Reading {
    hub: Arc<Hub>,
    /// Whether the hub knows that it has ended.
    ended: bool,
}

/// A browser that looks.
struct Watcher {
    hub: Arc<Hub>,
    /// What comes before the events.
    first: IntoIter<Bytes, 2>,
    events: Receiver<Bytes>,
}

// === impl Hub ===

impl Hub {
    pub(crate) fn new(metrics: Metrics, has_control: bool) -> Self {
        Self {
            metrics,
            has_control,
            begun: Instant::now(),
            state: Mutex::default(),
            held: Mutex::default(),
            events: Sender::new(BEHIND),
            streams: AtomicUsize::new(0),
        }
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Holds something for a handle. Returns what was held before.
    pub(crate) fn hold(
        &self,
        kind: &str,
        name: &str,
        held: Box<dyn Any + Send>,
    ) -> Option<Box<dyn Any + Send>> {
        lock(&self.held).insert((kind.to_owned(), name.to_owned()), held)
    }

    /// What was held for a handle. To drop it lets go.
    pub(crate) fn let_go(&self, kind: &str, name: &str) -> Option<Box<dyn Any + Send>> {
        lock(&self.held).remove(&(kind.to_owned(), name.to_owned()))
    }

    /// The events for a further browser; `None` if there are too many already.
    pub(crate) fn watch(
        self: &Arc<Self>,
    ) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + use<>> {
        let more = |streams| (streams < MAX_STREAMS).then_some(streams + 1);
        self.streams.fetch_update(Relaxed, Relaxed, more).ok()?;
        let (first, events) = self.join();
        let watcher = Watcher { hub: Arc::clone(self), first, events };
        Some(unfold(watcher, async |mut watcher| Some((Ok(watcher.next().await?), watcher))))
    }

    /// The time and all rows as they are, and what comes after. An event that was under way may be in both, which does
    /// no harm.
    fn join(self: &Arc<Self>) -> (IntoIter<Bytes, 2>, Receiver<Bytes>) {
        let mut state = lock(&self.state);
        if !state.reading {
            state.reading = true;
            let reading = Reading { hub: Arc::clone(self), ended: false };
            self.read(&mut state.board);
            tokio::spawn(reading.run());
        }
        let (now, control) = (self.now().since(Duration::ZERO), self.has_control);
        let hello = format!("data: {{\"now\":{now},\"control\":{control}}}\n\n");
        ([hello.into(), state.board.all()].into_iter(), self.events.subscribe())
    }

    fn read(&self, board: &mut Board) -> Option<Bytes> {
        let held = lock(&self.held);
        let is_held = |kind: &str, name: &str| {
            !held.is_empty() && held.contains_key(&(kind.to_owned(), name.to_owned()))
        };
        board.read(&self.metrics, self.now(), is_held)
    }

    fn now(&self) -> Now {
        Now(self.begun.elapsed())
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("metrics", &self.metrics)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

// === impl Reading ===

impl Reading {
    /// Until nobody looks.
    async fn run(mut self) {
        let hub = Arc::clone(&self.hub);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        loop {
            ticks.tick().await;
            let mut state = lock(&hub.state);
            if hub.events.receiver_count() == 0 {
                state.reading = false;
                self.ended = true;
                return;
            }
            let event = hub.read(&mut state.board);
            drop(state);
            silent = if event.is_some() { 0 } else { silent + 1 };
            let event = event.or_else(|| {
                (silent > 0 && silent % SILENT == 0).then(|| Bytes::from_static(b":\n\n"))
            });
            // It fails if the last browser has just gone.
            let _ = event.map(|event| hub.events.send(event));
        }
    }
}

/// Also where the runtime ends, or a user's code panics: the next browser starts it again.
impl Drop for Reading {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.hub.state).reading = false;
        }
    }
}

// === impl Watcher ===

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.next() {
            return Some(first);
        }
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(_)) => {
                (self.first, self.events) = self.hub.join();
                self.first.next()
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.streams.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Poll};

    use super::*;
    use crate::{MeasureHandle, MeasureLayer};

    type Events = Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>>;

    fn hub() -> (Arc<Hub>, MeasureHandle) {
        let metrics = Metrics::new();
        let (_, handle) = MeasureLayer::new().with_handle();
        metrics.measure("it", handle.clone()).unwrap();
        (Arc::new(Hub::new(metrics, false)), handle)
    }

    fn look(hub: &Arc<Hub>) -> Option<Events> {
        Some(Box::pin(hub.watch()?))
    }

    /// The next event, if it is there.
    async fn next(events: &mut Events) -> Option<String> {
        poll_fn(|cx| match events.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(event))) => {
                Poll::Ready(Some(String::from_utf8(event.to_vec()).unwrap()))
            }
            _ => Poll::Ready(None),
        })
        .await
    }

    fn readings(hub: &Hub) -> u64 {
        lock(&hub.state).board.readings()
    }

    async fn pass(ticks: u32) {
        for _ in 0..ticks {
            tokio::time::advance(EVERY).await;
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_browsers_cost_one_reading_and_those_above_the_maximum_are_refused() {
        let (hub, _) = hub();
        let streams: Vec<_> = (0..1_000).filter_map(|_| look(&hub)).collect();
        assert_eq!(streams.len(), MAX_STREAMS);
        let before = readings(&hub);
        pass(10).await;
        let since = readings(&hub) - before;
        assert!((10..=11).contains(&since), "{since}: one a tick, and perhaps one at once");
        drop(streams);
        assert!(look(&hub).is_some(), "their places are free again");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_while_nobody_looks() {
        let (hub, _) = hub();
        pass(10).await;
        assert_eq!(readings(&hub), 0);
        drop(look(&hub));
        pass(10).await;
        let after = readings(&hub);
        pass(10).await;
        assert_eq!(readings(&hub), after);
        let _looks = look(&hub);
        pass(3).await;
        assert!(readings(&hub) >= after + 3, "and it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_has_changed_is_sent() {
        let (hub, handle) = hub();
        hub.metrics.measure("other", MeasureLayer::new().with_handle().1).unwrap();
        let mut events = look(&hub).unwrap();
        assert_eq!(next(&mut events).await.unwrap(), "data: {\"now\":0,\"control\":false}\n\n");
        let all = next(&mut events).await.unwrap();
        assert!(all.contains("\"it\"") && all.contains("\"other\""), "{all}");
        pass(5).await;
        assert_eq!(next(&mut events).await, None);
        pass(SILENT).await;
        assert_eq!(next(&mut events).await, Some(":\n\n".to_owned()), "a sign of life");
        handle.set_enabled(false);
        pass(1).await;
        assert_eq!(next(&mut events).await, None, "that is not shown");
        hub.metrics.remove("other");
        pass(1).await;
        let gone = next(&mut events).await.unwrap();
        assert_eq!(gone, "data: {\"rows\":[],\"gone\":[[\"measure\",\"other\"]]}\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_that_is_too_far_behind_gets_all_anew() {
        let (hub, _) = hub();
        let mut events = look(&hub).unwrap();
        let _also = look(&hub);
        for n in 0..40 {
            let name = format!("handle {n}");
            hub.metrics.measure(name, MeasureLayer::new().with_handle().1).unwrap();
            pass(1).await;
        }
        next(&mut events).await.unwrap();
        next(&mut events).await.unwrap();
        let hello = next(&mut events).await.unwrap();
        assert!(hello.contains("\"now\":40"), "{hello}");
        let all = next(&mut events).await.unwrap();
        assert!(
            all.contains("\"all\":true") && all.contains("handle 0") && all.contains("handle 39")
        );
        assert_eq!(next(&mut events).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_begins_anew_when_the_runtime_of_the_first_browser_has_ended() {
        let (hub, _) = hub();
        let other = Arc::clone(&hub);
        let looks = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(async { look(&other) })
        });
        let _looks = looks.join().unwrap();
        let before = readings(&hub);
        let _also = look(&hub);
        pass(3).await;
        assert!(readings(&hub) >= before + 3);
    }
}
