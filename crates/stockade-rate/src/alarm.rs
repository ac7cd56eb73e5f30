//! The timers that wake a bucket when tokens are due for the calls that wait.
//!
//! They belong to the bucket and not to a call, so no call depends on another one being polled. There is one for each
//! runtime on which calls wait, so a runtime that is blocked holds up only its own calls, and all of them are set to
//! the same instant. Which one fires makes no difference: it serves every call that is due.
//!
//! Setting a timer may wake it at once, so that is never done under the lock of the bucket: under the lock an alarm is
//! told its new instant, and the timer follows, unless the instant has changed again by then.

use std::{
    sync::{Arc, Weak},
    task::{Context, Wake, Waker},
};

use governor::nanos::Nanos;
use stockade_core::internal::Timer;
use tokio::{runtime::Handle, time::Instant};

use crate::shared::Shared;

/// The runtime on which a call waits.
pub(crate) type RuntimeId = tokio::runtime::Id;

/// The alarms of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Vec<Alarm>);

#[derive(Debug)]
struct Alarm {
    runtime: Handle,
    /// How many calls wait on this runtime.
    calls: usize,
    waker: Waker,
    timer: Option<Timer>,
    /// What the timer is set to, or is being set to.
    set: Option<Nanos>,
}

/// The timers that have to be started and dropped when the lock is free.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    start: Vec<(Handle, Waker, Nanos)>,
    gone: Vec<Timer>,
}

/// Serves the calls of a bucket when it is woken.
struct Bell {
    shared: Weak<Shared>,
    runtime: RuntimeId,
}

// === impl Alarms ===

impl Alarms {
    /// A call waits on this runtime.
    pub(crate) fn enter(&mut self, runtime: &Handle, shared: &Arc<Shared>) {
        if let Some(alarm) = self.find(runtime.id()) {
            alarm.calls += 1;
            return;
        }
        let bell = Bell { shared: Arc::downgrade(shared), runtime: runtime.id() };
        let (runtime, waker) = (runtime.clone(), Waker::from(Arc::new(bell)));
        self.0.push(Alarm { runtime, calls: 1, waker, timer: None, set: None });
    }

    /// A call no longer waits there.
    pub(crate) fn leave(&mut self, runtime: Option<RuntimeId>, changes: &mut Changes) {
        let Some(alarm) = runtime.and_then(|runtime| self.find(runtime)) else { return };
        alarm.calls -= 1;
        if alarm.calls == 0 {
            changes.gone.extend(alarm.timer.take());
            self.0.retain(|alarm| alarm.calls > 0);
        }
    }

    /// The next tokens are due at this instant.
    pub(crate) fn set(&mut self, due: Option<Nanos>, changes: &mut Changes) {
        for alarm in &mut self.0 {
            if alarm.set == due {
                continue;
            }
            alarm.set = due;
            changes.gone.extend(alarm.timer.take());
            changes.start.extend(due.map(|at| (alarm.runtime.clone(), alarm.waker.clone(), at)));
        }
    }

    /// The alarm of this runtime has gone off. Returns whether that was too early, because the runtime has ended: then
    /// it has no alarm any more.
    pub(crate) fn went_off(
        &mut self,
        runtime: RuntimeId,
        now: Nanos,
        changes: &mut Changes,
    ) -> bool {
        let Some(alarm) = self.find(runtime) else { return false };
        changes.gone.extend(alarm.timer.take());
        let ended = alarm.set.take().is_some_and(|set| set > now);
        self.0.retain(|alarm| !ended || alarm.runtime.id() != runtime);
        ended
    }

    /// When the next one goes off.
    #[cfg(all(test, shuttle))]
    pub(crate) fn due(&self) -> Option<Nanos> {
        self.0.iter().filter_map(|alarm| alarm.set).min()
    }

    fn find(&mut self, runtime: RuntimeId) -> Option<&mut Alarm> {
        self.0.iter_mut().find(|alarm| alarm.runtime.id() == runtime)
    }

    /// Keeps the timer that was started, or hands it back if it is no longer wanted.
    fn keep(&mut self, runtime: RuntimeId, set: Nanos, timer: Timer) -> Option<Timer> {
        match self.find(runtime) {
            Some(alarm) if alarm.set == Some(set) => alarm.timer.replace(timer),
            _ => Some(timer),
        }
    }
}

// === impl Changes ===

impl Changes {
    /// Starts and drops timers. The lock of the bucket is free.
    pub(crate) fn make(self, shared: &Shared) {
        drop(self.gone);
        if cfg!(shuttle) {
            // A model has a time of its own.
            return;
        }
        for (runtime, waker, set) in self.start {
            let at: Instant = shared.common().instant(set);
            let timer = {
                let _inside = runtime.enter();
                Timer::register(at, &mut Context::from_waker(&waker))
            };
            drop(shared.with_alarms(|alarms| alarms.keep(runtime.id(), set, timer)));
        }
    }
}

// === impl Bell ===

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.went_off(shared.common().now(), self.runtime);
        }
    }
}
