//! From one pool to a fleet: what changes in the code, what is promised at each step, and what it costs.
//!
//! # The three steps
//!
//! | | one pool | + a Redis | + a durable queue |
//! |---|---|---|---|
//! | runs in | one process | any number of processes | any number of processes |
//! | rate | exact, over any time | exact for all together; with leases `nodes * (k - 1)` more | the same |
//! | breaker | by what this process has seen | opens for all when enough nodes agree; one probes | the same |
//! | a job is | lost with its process | lost with its process | kept until it has ended: run at least once |
//! | needs | nothing | a Redis 6 or later that runs scripts | a PostgreSQL or a Redis besides |
//! | when that is away | | each node goes on alone, as it was told | the worker ends with an error, to be started again, as apalis's `Monitor` does; what it ran runs again |
//!
//! # One process
//!
//! A pool, with a stack of layers inside: `examples/one_pool.rs`. Each layer decides by what it sees in this process. Two such
//! processes make twice the calls.
//!
//! # A fleet with one rate and one verdict
//!
//! `examples/servers/fleet_pool.rs` is the same program as one of a fleet. This is all that changes:
//!
//! ```diff
//! -use stockade::{BoxError, BreakerLayer, Pool, RateLayer, RetryLayer, TimeoutLayer};
//! +use stockade::{BoxError, BreakerLayer, Pool, RetryLayer, TimeoutLayer};
//! +use stockade_fleet::{Redis, breaker::Quorum, rate::Outage, rate::RateLayer};
//! +    let url = std::env::var("REDIS_URL").unwrap_or("redis://127.0.0.1:6379".into());
//! +    let redis = Redis::new(&url)?;
//! -    let breaker = BreakerLayer::new().name("geocoder");
//! +    let (breaker, handle) = BreakerLayer::new().name("geocoder").with_handle();
//! +    let _member = Quorum::majority(&redis, "geocoder").join(handle);
//! -        .layer(RateLayer::per_second(50).burst(10))
//! +        .layer(RateLayer::per_second(&redis, "geocoder", 50).burst(10).outage(Outage::Share(4)))
//! ```
//!
//! The pool, the concurrency limit, the timeout and the retries stay with each process: what they bound is this process's
//! own memory, connections and time. A retry budget of a fifth is a fifth of all calls when each process keeps to it.
//!
//! **What it costs.**
//!
//! | choice | round trips | what may go beyond |
//! |---|---|---|
//! | rate, as it is | one a call where calls come one by one; calls that come while one is on its way share the next | nothing |
//! | rate, `.lease(k)` | one for `k` calls | `nodes * (k - 1)` calls, over any time |
//! | `Outage::Closed` | none while it is away | nothing; calls are refused as `Unavailable` |
//! | `Outage::Share(n)` | none while it is away | nothing while it is away for all; where it is away for some nodes only, or there are more than `n`, those nodes' shares |
//! | `Outage::Open` | none while it is away | everything |
//! | a member of a quorum | one every half second for each node and breaker | a node opens up to half a second after the verdict |
//!
//! A call is held by a Redis that does not answer for no longer than [`Redis::patience`](crate::Redis::patience), 50 ms
//! by default, and three such answers in a row count as away: then no call is held at all, and one probe at a time, in the
//! background and with growing pauses up to a quarter of a second, looks whether it is back.
//!
//! # Jobs that outlive a process
//!
//! The stack stays, the pool too; what feeds it is a worker of `apalis` in place of your own loop, with
//! [`JobsLayer`](crate::jobs::JobsLayer) between the two. `examples/servers/durable_pool` runs two processes over one queue and
//! kills one of them.
//!
//! | promise | how |
//! |---|---|
//! | a job is not lost | it is in the queue until its end is reported; a worker that is not heard of loses its jobs to others |
//! | a job runs at least once | so it may run twice, when its worker dies between the work and the report: let a unique key, or a version, make the second run change nothing |
//! | a refusal is no attempt | a job that a layer refuses waits in the queue for as long as `retry_after` says |
//! | a deadline crosses the queue | [`Due`](crate::jobs::Due), by the clock on the wall: as exact as your machines' clocks agree |
//!
//! It costs a few statements a job: one to fetch a batch, one to mark it as running, one to report the end, and one more
//! each time it goes back. Duplicates happen where processes die or are cut off for longer than the heartbeats allow.
//!
//! # What is not offered
//!
//! - **No broker, no consensus and no store of our own.** What is shared is in a Redis or a PostgreSQL that you run.
//! - **No exactly-once.** A queue cannot promise it about effects outside of itself; an idempotent effect can.
//! - **No shared concurrency limit.** A permit that is held by a process that has died has to expire, and then it may be
//!   held twice. Divide the limit by the number of processes, or let each find its own by an adaptive limit.
//! - **No shared window of a breaker.** One node with a broken cable would open everybody's.
//! - **No shared retry budget.** Each process's own bounds the whole as well.
//! - **No `.backpressure()` of the shared rate.** An instance that is ready would hold a token of the whole fleet while it
//!   has nothing to call.
//! - **No second Redis.** One Redis, or one primary with replicas that take over, decides at a time. A replica that takes
//!   over may have missed the last moments: the rate is told it by the next node that knows better, and a verdict is
//!   reached again.
