use stockade_pool::{Percentiles, Stats, WeakPoolHandle};

use crate::family::{
    Family, Readable,
    Sort::{Counter, Gauge, Seconds},
    Values::{Each, One},
};

/// A pool, whatever its jobs are. It does not keep the pool.
pub(crate) struct AnyPool(Box<dyn Fn() -> Option<Stats> + Send>);

// === impl AnyPool ===

impl AnyPool {
    pub(crate) fn new<Req, T, E>(pool: WeakPoolHandle<Req, T, E>) -> Self
    where
        Req: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Self(Box::new(move || pool.upgrade().map(|pool| pool.stats())))
    }
}

/// The longest is the quantile of all.
fn quantiles(measured: Option<Percentiles>) -> Vec<(&'static str, f64)> {
    let Some(of) = measured else { return Vec::new() };
    [("0.5", of.p50), ("0.9", of.p90), ("0.99", of.p99), ("0.999", of.p99_9), ("1", of.max)]
        .map(|(quantile, duration)| (quantile, duration.as_secs_f64()))
        .to_vec()
}

impl Readable for AnyPool {
    type Snapshot = Stats;

    const KIND: &'static str = "pool";

    const FAMILIES: &'static [Family<Stats>] = &[
        Family {
            name: "stockade_pool_accepted",
            help: "Jobs taken.",
            sort: Counter,
            values: One(|pool| pool.accepted as f64),
        },
        Family {
            name: "stockade_pool_jobs",
            help: "Jobs that have ended, by what became of them.",
            sort: Counter,
            values: Each("status", |pool| {
                vec![
                    ("success", pool.succeeded as f64),
                    ("failed", pool.failed as f64),
                    ("timed_out", pool.timed_out as f64),
                    ("cancelled", pool.cancelled as f64),
                    ("panicked", pool.panicked as f64),
                    ("expired", pool.expired as f64),
                    ("shed", pool.shed as f64),
                    ("handed_back", pool.handed_back as f64),
                ]
            }),
        },
        Family {
            name: "stockade_pool_queued",
            help: "Jobs that wait for a worker.",
            sort: Gauge,
            values: One(|pool| pool.queued as f64),
        },
        Family {
            name: "stockade_pool_running",
            help: "Jobs that run.",
            sort: Gauge,
            values: One(|pool| pool.running as f64),
        },
        Family {
            name: "stockade_pool_workers",
            help: "Workers alive.",
            sort: Gauge,
            values: One(|pool| pool.workers as f64),
        },
        Family {
            name: "stockade_pool_workers_idle",
            help: "Workers that have no job.",
            sort: Gauge,
            values: One(|pool| pool.idle as f64),
        },
        Family {
            name: "stockade_pool_queued_peak",
            help: "The most jobs that ever waited at once.",
            sort: Gauge,
            values: One(|pool| pool.max_queued as f64),
        },
        Family {
            name: "stockade_pool_running_peak",
            help: "The most jobs that ever ran at once.",
            sort: Gauge,
            values: One(|pool| pool.max_running as f64),
        },
        Family {
            name: "stockade_pool_workers_peak",
            help: "The most workers that were ever alive at once.",
            sort: Gauge,
            values: One(|pool| pool.max_workers as f64),
        },
        Family {
            name: "stockade_pool_rebuilt",
            help: "How often the service of a worker was made anew.",
            sort: Counter,
            values: One(|pool| pool.rebuilt as f64),
        },
        Family {
            name: "stockade_pool_queue_wait",
            help: "How long jobs were queued, over all jobs so far; quantile 1 is the longest.",
            sort: Seconds,
            values: Each("quantile", |pool| quantiles(pool.queue_wait)),
        },
        Family {
            name: "stockade_pool_run_time",
            help: "How long jobs ran, over all jobs so far; quantile 1 is the longest.",
            sort: Seconds,
            values: Each("quantile", |pool| quantiles(pool.run_time)),
        },
    ];

    fn read(&self) -> Option<Stats> {
        (self.0)()
    }
}
