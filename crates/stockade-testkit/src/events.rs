use std::{
    fmt::{Debug, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
    subscriber::{DefaultGuard, set_default},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// Records the `tracing` events of this thread, from when it is made until it is dropped.
///
/// Each event is a line: its spans, outermost first, each followed by a colon; its level; and its fields as
/// `name=value`, with the message among them. Events of other targets are not recorded.
///
/// # Example
///
/// ```
/// use stockade_testkit::Events;
///
/// let events = Events::of("shop");
/// tracing::info_span!("order").in_scope(|| tracing::info!(target: "shop", n = 1, "sold"));
/// tracing::info!(target: "elsewhere", "not recorded");
/// assert_eq!(events.take(), ["order: INFO message=sold n=1"]);
/// ```
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    _scope: DefaultGuard,
}

#[derive(Clone, Debug)]
struct Lines {
    target: &'static str,
    lines: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
}

struct Line(String);

// === impl Events ===

impl Events {
    /// Records the events of this target.
    #[must_use]
    pub fn of(target: &'static str) -> Self {
        let lines = Lines { target, lines: Arc::default(), open: Arc::default() };
        let scope = set_default(Registry::default().with(lines.clone()));
        Self { lines, _scope: scope }
    }

    /// Takes the lines recorded since the last time, oldest first.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many spans, of any target, have been made since and still exist.
    pub fn open_spans(&self) -> usize {
        self.lines.open.load(SeqCst)
    }
}

// === impl Lines ===

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.open.fetch_add(1, SeqCst);
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.open.fetch_sub(1, SeqCst);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != self.target {
            return;
        }
        let mut line = String::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            line.push_str(span.name());
            line.push_str(": ");
        }
        line.push_str(event.metadata().level().as_str());
        let mut line = Line(line);
        event.record(&mut line);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }
}

// === impl Line ===

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("writing to a string cannot fail");
    }
}
