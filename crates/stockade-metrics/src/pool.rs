use stockade_core::Reason;
use stockade_pool::{Percentiles, Stats, WeakPoolHandle};

#[cfg(feature = "dashboard")]
use crate::family::{Action, Now, Order};
use crate::family::{
    Family, Readable,
    Sort::{Counter, Gauge, Seconds},
    Values::{Each, Known, One},
    refused_of,
};

/// A pool with jobs of any type, which this does not keep alive.
pub(crate) struct AnyPool(Box<dyn Erased>);

/// A handle without the types of its jobs.
trait Erased: Send {
    /// What it has done, and whether it is paused.
    fn read(&self) -> Option<(Stats, bool)>;

    #[cfg(feature = "dashboard")]
    fn running(&self) -> Option<Vec<stockade_pool::RunningJob>>;

    #[cfg(feature = "dashboard")]
    fn set_paused(&self, paused: bool) -> Action;
}

// === impl AnyPool ===

impl AnyPool {
    pub(crate) fn new<Req, T, E>(pool: WeakPoolHandle<Req, T, E>) -> Self
    where
        Req: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Self(Box::new(pool))
    }
}

impl<Req, T, E> Erased for WeakPoolHandle<Req, T, E>
where
    Req: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn read(&self) -> Option<(Stats, bool)> {
        self.upgrade().map(|pool| (pool.stats(), pool.is_paused()))
    }

    #[cfg(feature = "dashboard")]
    fn running(&self) -> Option<Vec<stockade_pool::RunningJob>> {
        self.upgrade().map(|pool| pool.running())
    }

    #[cfg(feature = "dashboard")]
    fn set_paused(&self, paused: bool) -> Action {
        let pool = self.upgrade();
        Box::new(move || {
            match (pool.ok_or("the pool is gone")?, paused) {
                (pool, true) => pool.pause(),
                (pool, false) => pool.resume(),
            }
            Ok(None)
        })
    }
}

/// Quantile 1 is the longest.
fn quantiles(measured: Option<Percentiles>) -> Vec<(&'static str, f64)> {
    let Some(of) = measured else { return Vec::new() };
    [("0.5", of.p50), ("0.9", of.p90), ("0.99", of.p99), ("0.999", of.p99_9), ("1", of.max)]
        .map(|(quantile, duration)| (quantile, duration.as_secs_f64()))
        .to_vec()
}

impl Readable for AnyPool {
    type Snapshot = (Stats, bool);

    const KIND: &'static str = "pool";

    const FAMILIES: &'static [Family<(Stats, bool)>] = &[
        Family {
            name: "stockade_pool_accepted",
            help: "Jobs accepted.",
            sort: Counter,
            values: One(|(pool, _)| pool.accepted as f64),
        },
        Family {
            name: "stockade_pool_jobs",
            help: "Jobs that have ended, by their status.",
            sort: Counter,
            values: Each("status", |(pool, _)| {
                vec![
                    ("success", pool.succeeded as f64),
                    ("failed", pool.failed as f64),
                    (Reason::Elapsed.label(), pool.timed_out as f64),
                    (Reason::Cancelled.label(), pool.cancelled as f64),
                    (Reason::Panicked.label(), pool.panicked as f64),
                    (Reason::Expired.label(), pool.expired as f64),
                    (Reason::Shed.label(), pool.shed as f64),
                    ("handed_back", pool.handed_back as f64),
                ]
            }),
        },
        Family {
            name: "stockade_pool_refused",
            help: "Jobs refused, by reason.",
            sort: Counter,
            values: Each("reason", |(pool, _)| {
                let refused = &pool.refused;
                vec![
                    (Reason::QueueFull.label(), refused.queue_full as f64),
                    (Reason::WaitExceeded.label(), refused.wait_exceeded as f64),
                    (Reason::PoolClosed.label(), refused.pool_closed as f64),
                    (Reason::Shed.label(), refused.shed as f64),
                    (Reason::Expired.label(), refused.expired as f64),
                ]
            }),
        },
        Family {
            name: "stockade_pool_refused_by_priority",
            help: "Jobs refused a place, or dropped from the queue to make room, by priority.",
            sort: Counter,
            values: Each("priority", |(pool, _)| refused_of(|priority| pool.refused.of(priority))),
        },
        Family {
            name: "stockade_pool_callers_waiting",
            help: "Callers waiting for a place in the queue.",
            sort: Gauge,
            values: One(|(pool, _)| pool.waiting as f64),
        },
        Family {
            name: "stockade_pool_oldest",
            help: "How long the oldest job in the queue has waited.",
            sort: Seconds,
            values: Known(|(pool, _)| {
                // Like all durations, it is only known of a pool that measures.
                pool.queue_wait.map(|_| pool.oldest.unwrap_or_default().as_secs_f64())
            }),
        },
        Family {
            name: "stockade_pool_capacity",
            help: "Jobs that may wait for a worker.",
            sort: Gauge,
            values: One(|(pool, _)| pool.capacity as f64),
        },
        Family {
            name: "stockade_pool_queued",
            help: "Jobs waiting for a worker.",
            sort: Gauge,
            values: One(|(pool, _)| pool.queued as f64),
        },
        Family {
            name: "stockade_pool_running",
            help: "Jobs running.",
            sort: Gauge,
            values: One(|(pool, _)| pool.running as f64),
        },
        Family {
            name: "stockade_pool_paused",
            help: "1 while it is paused: no job begins.",
            sort: Gauge,
            values: One(|(_, is_paused)| f64::from(*is_paused)),
        },
        Family {
            name: "stockade_pool_workers",
            help: "Workers alive.",
            sort: Gauge,
            values: One(|(pool, _)| pool.workers as f64),
        },
        Family {
            name: "stockade_pool_workers_idle",
            help: "Workers without a job.",
            sort: Gauge,
            values: One(|(pool, _)| pool.idle as f64),
        },
        Family {
            name: "stockade_pool_peak_queued",
            help: "The most jobs that have waited at once.",
            sort: Gauge,
            values: One(|(pool, _)| pool.peak_queued as f64),
        },
        Family {
            name: "stockade_pool_peak_running",
            help: "The most jobs that have run at once.",
            sort: Gauge,
            values: One(|(pool, _)| pool.peak_running as f64),
        },
        Family {
            name: "stockade_pool_peak_workers",
            help: "The most workers that have been alive at once.",
            sort: Gauge,
            values: One(|(pool, _)| pool.peak_workers as f64),
        },
        Family {
            name: "stockade_pool_rebuilt",
            help: "Times that a worker began to make its service anew.",
            sort: Counter,
            values: One(|(pool, _)| pool.rebuilt as f64),
        },
        Family {
            name: "stockade_pool_queue_wait",
            help: "Time that jobs waited for a worker over the last one or two minutes; quantile 1 is the longest.",
            sort: Seconds,
            values: Each("quantile", |(pool, _)| quantiles(pool.queue_wait)),
        },
        Family {
            name: "stockade_pool_run_time",
            help: "Time that jobs ran over the last one or two minutes; quantile 1 is the longest.",
            sort: Seconds,
            values: Each("quantile", |(pool, _)| quantiles(pool.run_time)),
        },
    ];

    fn read(&self) -> Option<(Stats, bool)> {
        self.0.read()
    }

    #[cfg(feature = "dashboard")]
    fn detail(&self, now: Now) -> Vec<(&'static str, serde_json::Value)> {
        /// The oldest; a page has no room for more.
        const SHOWN: usize = 12;
        let running = self.0.running().into_iter().flatten();
        let jobs = running.take(SHOWN).map(|job| {
            let since = job.running_for.map(|age| now.since(age));
            serde_json::json!([job.worker, job.name, since])
        });
        vec![("jobs", jobs.collect())]
    }

    #[cfg(feature = "dashboard")]
    fn order(&self, order: Order) -> Option<Action> {
        match order {
            Order::Pause => Some(self.0.set_paused(true)),
            Order::Resume => Some(self.0.set_paused(false)),
            Order::ForceOpen | Order::Change(_) => None,
        }
    }
}
