//! The state machine. It is pure: the time and the random numbers are passed in.
//!
//! ```text
//!                (1) too many calls failed
//!            Closed ────────────────────> Open
//!               ^                         │  ^
//!   (3) enough  │       (2) the open time │  │ (4) a probe failed,
//!       probes  │           is over       v  │     or too many are overdue
//!       succeed └────────────────────── HalfOpen
//! ```
//!
//! With a ramp, (3) does not close at once: the breaker stays half-open while a growing share of the calls passes,
//! and these count as in Closed. When the ramp is over it closes (7) and keeps what it knows, or it opens by (1).
//!
//! Some transitions come from outside. `close` (5) closes from every state. While there are guards of `force_open`
//! (6), the state is ForcedOpen; after the last one it is what it was before, with nothing remembered of the
//! calls. `hold_open` (8) opens from every state, and `half_open` (9) does what (2) does, before its time.
//!
//! Nothing happens by itself: (2), (7) and overdue probes are noticed by [`Machine::tick`].
//!
//! Whenever calls must no longer count for what comes, a new epoch begins. A call carries the epoch in which it was
//! admitted, and what it reports in another one changes nothing. Every change of the phase but (7) begins a
//! new epoch, so a call of the current epoch was admitted in the current phase, or on the ramp before it.

use std::time::Duration;

use stockade_core::deadline;
use tokio::time::Instant;

use crate::{
    Cause, Config, Snapshot, State, Status, Trip,
    call::{End, Stamp},
    record::{ANSWERS, Record},
    recovery::{Probes, Progress, Ramp},
    window::{Outcome, Tally},
};

/// The state machine of one breaker.
#[derive(Debug)]
pub(crate) struct Machine {
    config: Config,
    /// Counted modulo [`EPOCHS`].
    epoch: u32,
    phase: Phase,
    /// How many guards of `force_open` there are.
    guards: usize,
    record: Record,
    /// How often a recovery has failed since it was closed.
    reopened: u32,
    /// How often it opened, ever.
    opened: u64,
    /// Why it is not closed.
    cause: Option<Cause>,
    /// The server has asked not to be called before that.
    not_before: Option<Instant>,
}

/// The state without regard to guards.
#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    Probing(Probes),
    Ramping(Ramp),
}

/// Epochs are counted modulo this: a power of two, as they share a word with other things.
pub(crate) const EPOCHS: u32 = 1 << 30;

/// The longest hint of a server that is heeded: a day.
const MAX_HINT: Duration = Duration::from_secs(86_400);

// === impl Machine: what there is to see ===

impl Machine {
    /// A closed one that has seen nothing yet, and counts its epochs from `epoch`.
    pub(crate) fn new(config: Config, epoch: u32) -> Self {
        Self {
            config,
            epoch: epoch % EPOCHS,
            phase: Phase::Closed,
            guards: 0,
            record: Record::new(config.window),
            reopened: 0,
            opened: 0,
            cause: None,
            not_before: None,
        }
    }

    pub(crate) const fn state(&self) -> State {
        match self.phase {
            _ if self.guards > 0 => State::ForcedOpen,
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::Probing(_) | Phase::Ramping(_) => State::HalfOpen,
        }
    }

    pub(crate) const fn status(&self) -> Status {
        let cause = if self.guards > 0 { Some(Cause::FORCED) } else { self.cause };
        Status { state: self.state(), cause }
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What a call that is admitted now carries as its [`mark`](Stamp::mark).
    pub(crate) const fn mark(&self) -> u64 {
        self.epoch as u64 * ANSWERS as u64 + self.record.answers() as u64
    }

    pub(crate) fn tally(&self) -> Tally {
        self.record.tally()
    }

    /// All but the refusals, which it does not count.
    pub(crate) fn snapshot(&self, now: Instant) -> Snapshot {
        let (Status { state, cause }, tally) = (self.status(), self.tally());
        Snapshot {
            state,
            cause,
            calls: tally.calls,
            failures: tally.failures,
            slow: tally.slow,
            consecutive: self.record.consecutive(),
            probes: if let Phase::Probing(probes) = &self.phase { probes.running() } else { 0 },
            remaining: if state == State::Open { self.retry_after(now, 0.0) } else { None },
            opened: self.opened,
            refused: 0,
            refused_forced_open: 0,
        }
    }

    /// Whether it is closed and one more success would change nothing: the window is full of them, so the one
    /// that comes in is the same as the one that leaves; or nothing counts.
    pub(crate) fn is_clean(&self) -> bool {
        let Config { enabled, slow, .. } = self.config;
        self.state() == State::Closed && (!enabled || slow.is_none() && self.record.is_clean())
    }

    /// Whether [`settle`](Self::settle) needs the time.
    pub(crate) const fn needs_clock(&self) -> bool {
        self.config.window.needs_clock() || self.is_probing()
    }

    pub(crate) const fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::Probing(_))
    }
}

// === impl Machine: calls ===

impl Machine {
    /// Notices what the time has brought.
    pub(crate) fn tick(&mut self, now: Instant, random: f64) {
        match &mut self.phase {
            Phase::Closed => self.record.slide(now),
            Phase::Open { until } if *until <= now => self.probe(), // (2)
            Phase::Open { .. } => {}
            Phase::Probing(probes) => {
                if probes.replace_overdue(now) {
                    self.open(Trip::Probe, now, random); // (4)
                }
            }
            Phase::Ramping(ramp) => {
                if ramp.progress(now, &self.config) >= 1.0 {
                    self.phase = Phase::Closed; // (7)
                    (self.reopened, self.cause, self.not_before) = (0, None, None);
                }
                self.record.slide(now);
            }
        }
    }

    /// Lets a call pass, or not. A `reserved` call has been let onto the ramp before.
    pub(crate) fn admit(&mut self, now: Instant, random: f64, reserved: bool) -> Option<Stamp> {
        if !self.passable(now, random, !reserved) {
            return None;
        }
        if let Phase::Probing(probes) = &mut self.phase {
            probes.start(now);
        }
        Some(Stamp { mark: self.mark(), admitted: Some(now) })
    }

    /// Whether a call can pass. On the ramp a call that is to `take_share` passes only in its turn.
    pub(crate) fn passable(&mut self, now: Instant, random: f64, take_share: bool) -> bool {
        self.tick(now, random);
        self.guards == 0
            && match &mut self.phase {
                Phase::Closed => true,
                Phase::Open { .. } => false,
                Phase::Probing(probes) => probes.has_place(&self.config),
                Phase::Ramping(ramp) => !take_share || ramp.pass(now, &self.config),
            }
    }

    /// In what time a caller that does not pass had better come again, if that is known.
    pub(crate) fn retry_after(&self, now: Instant, random: f64) -> Option<Duration> {
        match &self.phase {
            _ if self.guards > 0 => None,
            Phase::Closed => None,
            Phase::Open { until } => Some(until.duration_since(now)),
            Phase::Probing(probes) => Some(probes.retry_after(now, &self.config, random)),
            Phase::Ramping(ramp) => Some(ramp.retry_after(now, &self.config, random)),
        }
    }

    /// In what time calls may pass although nothing else happens.
    pub(crate) fn next_change(&self, now: Instant, random: f64) -> Option<Duration> {
        match &self.phase {
            Phase::Probing(probes) if self.guards == 0 => Some(probes.oldest(now).1),
            _ => self.retry_after(now, random),
        }
    }

    /// Takes back an admitted call that has taken `took`, as far as that is known. It says why the breaker has to
    /// [open](Self::open) now, if it has to.
    #[must_use]
    pub(crate) fn settle(
        &mut self,
        stamp: Stamp,
        end: End,
        took: Option<Duration>,
        now: Option<Instant>,
    ) -> Option<Trip> {
        if stamp.epoch() != self.epoch || !self.config.enabled {
            return None;
        }
        let slow = self.config.slow.is_some_and(|slow| took >= Some(slow.after));
        let failures = self.failures(stamp, end, slow);
        let failed = failures > 0;
        let outcome = (failed || end == End::Success).then_some(Outcome { failed, slow });
        match &mut self.phase {
            Phase::Open { .. } => None,
            Phase::Closed | Phase::Ramping(_) => {
                let outcome = outcome?;
                for _ in 0..failures.clamp(1, self.config.window.capacity()) {
                    self.record.push(outcome, now);
                }
                self.record.trip(&self.config).filter(|_| !self.config.observe_only) // (1)
            }
            Phase::Probing(probes) => {
                match probes.settle(stamp.admitted, outcome, now, &self.config) {
                    Progress::GoesOn => None,
                    Progress::Failed => Some(Trip::Probe), // (4)
                    Progress::Succeeded => {
                        self.recover(now); // (3)
                        None
                    }
                }
            }
        }
    }

    /// How many calls have failed by the end of this one: mostly it alone, or none.
    fn failures(&mut self, stamp: Stamp, end: End, slow: bool) -> u32 {
        match end {
            End::Success | End::Ignored => self.record.answered(),
            End::Failure { answered, .. } => {
                if answered {
                    self.record.answered();
                }
                return 1;
            }
            End::Dropped { .. } if slow => return 1,
            End::Dropped { queued: false } => {
                let unreported = self.is_clean();
                return self.record.dropped(stamp.answers(), unreported);
            }
            End::Dropped { queued: true } | End::Nothing => {}
        }
        0
    }

    /// Heeds the hint of a server: it is not called before, and not at the very instant.
    pub(crate) fn heed(&mut self, stamp: Stamp, hint: Duration, now: Instant, random: f64) {
        if stamp.epoch() == self.epoch {
            let hint = hint.min(MAX_HINT);
            let at = deadline::saturating_add(now, hint + hint.mul_f64(random / 10.0));
            self.not_before = self.not_before.max(Some(at));
        }
    }
}

// === impl Machine: transitions ===

impl Machine {
    /// (1) and (4).
    pub(crate) fn open(&mut self, trip: Trip, now: Instant, random: f64) {
        let tally = match &self.phase {
            Phase::Probing(probes) => probes.tally(),
            _ => self.tally(),
        };
        if matches!(self.phase, Phase::Probing(_) | Phase::Ramping(_)) {
            self.reopened = self.reopened.saturating_add(1);
        }
        let cause = Cause::new(trip, tally, self.record.consecutive());
        let until = deadline::saturating_add(now, self.config.open_time(self.reopened, random));
        self.enter_open(cause, self.not_before.map_or(until, |at| at.max(until)));
    }

    fn enter_open(&mut self, cause: Cause, until: Instant) {
        self.opened += 1;
        self.cause = Some(cause);
        self.not_before = None;
        self.enter(Phase::Open { until });
    }

    /// (2) and (9).
    fn probe(&mut self) {
        let probes = self.fresh_probes();
        self.enter(Phase::Probing(probes));
    }

    /// (3).
    fn recover(&mut self, now: Option<Instant>) {
        match now.filter(|_| self.config.ramp.is_some()) {
            Some(since) => self.enter(Phase::Ramping(Ramp::new(since))),
            None => self.close(),
        }
    }

    /// (5), and (3) without a ramp.
    pub(crate) fn close(&mut self) {
        (self.reopened, self.cause, self.not_before) = (0, None, None);
        self.enter(Phase::Closed);
    }

    /// (6), the way there: what was admitted before does not count for what comes after.
    pub(crate) fn force_open(&mut self) {
        self.guards += 1;
        if self.guards == 1 {
            self.start_over();
        }
    }

    /// (6), the way back.
    pub(crate) const fn release(&mut self) {
        self.guards -= 1;
    }

    /// (8) It is open until `until` at least, unless it stays closed whatever happens.
    pub(crate) fn hold_open(&mut self, until: Instant) {
        match &mut self.phase {
            _ if self.config.observe_only || !self.config.enabled => {}
            Phase::Open { until: known } => *known = until.max(*known),
            _ => self.enter_open(Cause::FORCED, until),
        }
    }

    /// (9) It is half-open before its time is over.
    pub(crate) fn half_open(&mut self) {
        if let Phase::Open { .. } = self.phase {
            self.probe();
        }
    }

    /// Goes on under another configuration, in the same state and with an empty window. One that stays
    /// closed whatever happens closes.
    pub(crate) fn configure(&mut self, config: Config) {
        self.config = config;
        self.record = Record::new(config.window);
        if config.observe_only || !config.enabled {
            self.close();
        } else {
            self.start_over();
        }
    }

    /// Begins a new epoch in the same state.
    fn start_over(&mut self) {
        if let Phase::Probing(_) = self.phase {
            self.phase = Phase::Probing(self.fresh_probes());
        }
        self.forget();
    }

    fn fresh_probes(&self) -> Probes {
        Probes::new(self.config.probe_timeout(self.reopened))
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.forget();
    }

    /// Begins a new epoch, with nothing known.
    fn forget(&mut self) {
        self.epoch = (self.epoch + 1) % EPOCHS;
        self.record.clear();
    }
}
