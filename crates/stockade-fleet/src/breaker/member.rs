//! One node's part: it reports what its breaker has seen, and does to it what the fleet says.

use std::{fmt, mem, time::Duration};

use redis::Script;
use stockade_breaker::{BreakerHandle, State};
use stockade_core::config::{MIN_DURATION, checked};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    Config,
    board::{self, Report, Shared, Verdict},
    config,
};
use crate::{Mode, Redis, RedisError};

/// How many nodes have to agree before all open.
///
/// A node of a fleet is counted while it reports, so nodes that are gone or cannot reach the Redis are not.
///
/// # Example
///
/// ```no_run
/// use stockade_breaker::BreakerLayer;
/// use stockade_fleet::{Redis, breaker::Quorum};
///
/// # async fn run() -> Result<(), stockade_fleet::RedisError> {
/// let redis = Redis::new("redis://127.0.0.1")?;
/// let (layer, handle) = BreakerLayer::new().name("search").with_handle();
/// // Kept for as long as this node takes part.
/// let member = Quorum::majority(&redis, "search").join(handle);
/// # let _ = (layer, member);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Quorum {
    redis: Redis,
    key: String,
    config: Config,
}

/// Keeps a node's breaker in step with the fleet, until it is dropped.
///
/// When it is dropped the breaker goes on alone, and the others forget this node after a few reports that do not
/// come.
#[must_use = "the node is a member only until this is dropped"]
pub struct Member {
    task: JoinHandle<()>,
    seen: watch::Receiver<Snapshot>,
}

/// What a node knows of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whether the fleet was heard last time.
    pub mode: Mode,
    /// Why it was not.
    pub fault: Option<RedisError>,
    /// The nodes that report, this one included.
    pub reporting: u32,
    /// Those of them whose breakers have opened by what they have seen.
    pub failing: u32,
    /// Whether the fleet has opened all breakers.
    pub open: bool,
    /// Whether this node is the one that probes for all.
    pub probing: bool,
}

/// What the task is made of.
struct Reporter {
    quorum: Quorum,
    breaker: BreakerHandle,
    node: String,
    script: Script,
    seen: watch::Sender<Snapshot>,
    shared: Shared,
    /// Until when the breaker is open because the fleet is, if it has not closed since.
    held: Option<Instant>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Of a node that has not heard the fleet.
    const fn new(mode: Mode, fault: Option<RedisError>) -> Self {
        Self { mode, fault, reporting: 0, failing: 0, open: false, probing: false }
    }
}

// === impl Quorum ===

impl Quorum {
    /// More than half of the nodes that report, and at least two. `key` is what the fleet calls the service.
    pub fn majority(redis: &Redis, key: impl Into<String>) -> Self {
        Self::of(redis, key.into(), Config::new())
    }

    /// At least `nodes`, however many report.
    ///
    /// # Panics
    ///
    /// If `nodes` is zero.
    #[track_caller]
    pub fn at_least(redis: &Redis, key: impl Into<String>, nodes: u32) -> Self {
        let mut config = Config::new();
        config.at_least = Some(checked(config::check_nodes("Quorum::at_least, nodes", nodes)));
        Self::of(redis, key.into(), config)
    }

    pub(crate) fn of(redis: &Redis, key: String, config: Config) -> Self {
        Self { redis: redis.clone(), key, config }
    }

    /// How long all are open before one of them probes: 5 s by default.
    ///
    /// # Panics
    ///
    /// Unless it is from 1 ms to ten years.
    #[track_caller]
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.config.open_for = checked(config::check_time("Quorum::open_for", time));
        self
    }

    /// How long one node may take to probe before another does: 10 s by default. A node that is not called makes no
    /// probes.
    ///
    /// # Panics
    ///
    /// Unless it is from 1 ms to ten years.
    #[track_caller]
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.config.lease = checked(config::check_time("Quorum::lease", time));
        self
    }

    /// How often each node reports, beside when its breaker changes: every 500 ms by default, a round trip each. What
    /// the fleet says reaches a node so much later at most, and a node is forgotten after four that do not come.
    ///
    /// # Panics
    ///
    /// Unless it is from 1 ms to ten years.
    #[track_caller]
    #[must_use]
    pub fn interval(mut self, time: Duration) -> Self {
        self.config.interval = checked(config::check_time("Quorum::interval", time));
        self
    }

    /// Makes the breaker a member of the fleet.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time.
    pub fn join(self, breaker: BreakerHandle) -> Member {
        let (seen, seeing) = watch::channel(Snapshot::new(Mode::Shared, None));
        let node = format!("{:032x}", fastrand::u128(..));
        let (script, shared) = (board::script(), Shared::None);
        let reporter = Reporter { quorum: self, breaker, node, script, seen, shared, held: None };
        Member { task: tokio::spawn(reporter.run()), seen: seeing }
    }
}

// === impl Member ===

impl Member {
    /// What this node knows of the fleet.
    pub fn snapshot(&self) -> Snapshot {
        self.seen.borrow().clone()
    }

    /// Whether this node is on its own, because the Redis could not be asked.
    pub fn is_alone(&self) -> bool {
        self.seen.borrow().mode == Mode::Alone
    }

    /// Follows what this node knows of the fleet.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.seen.clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

// === the task ===

impl Reporter {
    async fn run(mut self) {
        let mut states = self.breaker.watch();
        loop {
            let report = self.news();
            let verdict = self.report(report).await;
            self.heed(verdict);
            // As nodes that have started at once would come at once for ever, no two pauses are the same.
            let pause = self.quorum.config.interval.mul_f64(0.75 + 0.25 * fastrand::f64());
            // Its end is an error when the breaker is gone, which it is not: there is a handle here.
            let _ = timeout(pause.max(MIN_DURATION), states.changed()).await;
        }
    }

    /// What this node reports. What the fleet has done to the breaker is not reported, because a fleet that is open would
    /// then keep itself open.
    fn news(&mut self) -> Report {
        let state = self.breaker.state();
        match (self.shared, state) {
            (Shared::Mine, State::Closed) => return Report::Recovered,
            (Shared::Mine, State::Open) => return Report::Failed,
            (Shared::Open(_) | Shared::Leased | Shared::Mine, _) => return Report::Nothing,
            (Shared::None | Shared::Closed, _) => {}
        }
        let by_itself = state == State::Open && self.held.is_some_and(|at| at < Instant::now());
        if state == State::Closed || by_itself {
            self.held = None;
        }
        match state {
            State::Closed => Report::Well,
            State::Open | State::HalfOpen if self.held.is_none() => Report::Failing,
            State::Open | State::HalfOpen | State::ForcedOpen => Report::Nothing,
        }
    }

    fn hold(&mut self, time: Duration) {
        // Held for as long as the next two reports take, so that it does not half-open between them.
        let time = time + self.quorum.config.interval * 2 + self.quorum.redis.budget();
        self.breaker.open_for(time);
        self.held = Some(Instant::now() + time);
    }

    async fn report(&self, report: Report) -> Result<Verdict, RedisError> {
        let Quorum { redis, key, config } = &self.quorum;
        let answer = redis.ask(redis.budget(), async |connection| {
            board::report(&self.script, connection, key, &self.node, report, config.terms()).await
        });
        answer.await.map_err(|error| error.with_key(key))
    }

    /// Does to the breaker what the fleet says.
    fn heed(&mut self, verdict: Result<Verdict, RedisError>) {
        let before = mem::replace(&mut self.shared, Shared::None);
        let snapshot = match verdict {
            Ok(Verdict { state, reporting, failing }) => {
                match state {
                    Shared::Open(left) => self.hold(left),
                    Shared::Leased => self.hold(Duration::ZERO),
                    Shared::Mine if before != Shared::Mine => self.breaker.half_open(),
                    Shared::Closed if is_open(before) => self.breaker.reset(),
                    // One that nobody has probed for until it was forgotten half-opens by itself.
                    Shared::Mine | Shared::Closed | Shared::None => {}
                }
                self.shared = state;
                let (open, probing) = (is_open(state), state == Shared::Mine);
                Snapshot { mode: Mode::Shared, fault: None, reporting, failing, open, probing }
            }
            // Alone: what is open half-opens by itself.
            Err(error) => Snapshot::new(Mode::Alone, Some(error)),
        };
        self.tell(&snapshot);
        self.seen.send_if_modified(|seen| {
            let changed = *seen != snapshot;
            *seen = snapshot;
            changed
        });
    }

    /// One event for each change of who decides, and of what.
    #[cfg(feature = "tracing")]
    fn tell(&self, new: &Snapshot) {
        let old = self.seen.borrow();
        if (old.mode, old.open, old.probing) != (new.mode, new.open, new.probing) {
            tracing::warn!(
                target: "stockade",
                layer = "breaker",
                key = self.quorum.key,
                redis = self.quorum.redis.place(),
                mode = ?new.mode,
                open = new.open,
                probing = new.probing,
                error = new.fault.as_ref().map(tracing::field::display),
                "the fleet's verdict has changed"
            );
        }
    }

    #[cfg(not(feature = "tracing"))]
    fn tell(&self, _: &Snapshot) {}
}

fn is_open(shared: Shared) -> bool {
    matches!(shared, Shared::Open(_) | Shared::Leased | Shared::Mine)
}
