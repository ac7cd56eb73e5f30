//! The order of the layers, and what goes wrong in another one. There is nothing here but this text.
//!
//! Any order compiles, and in any order no call and no permit is lost. But a layer acts on what is inside it, so
//! the order says *what* is timed, repeated, judged and counted. Outermost first, as `ServiceBuilder` lists them:
//!
//! | | layer | because everything inside it |
//! |---|---|---|
//! | 1 | total timeout | is covered: the waits, the retries, the pool's queue if the pool is inside |
//! | 2 | retry | happens once per attempt |
//! | 3 | breaker | is judged attempt by attempt, and spared while the breaker is open |
//! | 4 | rate limit | was paid for with a token, and nothing else was |
//! | 5 | concurrency limit | holds a place, and nobody who merely waits does |
//! | 6 | attempt timeout | is the call itself, without any wait |
//! | 7 | `.map_err(Error::Service)`, client | |
//!
//! A pool goes in front of all: its workers run the whole stack. If its callers are to be timed out too, put one
//! more timeout around the pool; its deadline goes along with the job.
//!
//! # Orders that people fall into
//!
//! Each paragraph is a test in `tests/order.rs`, which runs the wrong order beside the right one.
//!
//! **A timeout inside of retry only.** It bounds each attempt, and nothing bounds the call: three attempts of at
//! most a second are three seconds and the waits between them. A caller who was promised a second needs the
//! total timeout as well. Retry sees its deadline and gives up before it, with the last real error.
//!
//! **A timeout outside of retry only.** A first attempt that hangs uses all the time there is, and is never
//! repeated, although a second one might have been answered at once. The attempt timeout makes a hanging
//! attempt a failed one while there is time left.
//!
//! **The limit outside of retry.** A call keeps its place while it sleeps before another attempt. When the service
//! fails, the limit fills with calls that do nothing, and those that could be answered wait behind them.
//!
//! **The rate limit outside of retry.** Only first attempts take a token. When the service fails, it is sent up to
//! `max_attempts` times the rate, and that is when it can stand it least.
//!
//! **The breaker outside of retry.** It sees only how whole calls ended: it opens after as many failed *calls* as it
//! would have taken failed attempts, and until then all their attempts hit a service that is down. Attempts that
//! were repeated with success look like a healthy service.
//!
//! **A limit or a rate limit outside of the breaker.** A call that the open breaker refuses has then waited in a queue
//! and taken a token for nothing, and calls that would be let through again find no tokens left.
//!
//! **The limit outside of the rate limit.** Who waits for a token holds a place: the limit is full of calls of which
//! none is running.
//!
//! **The attempt timeout outside of the limit.** The wait in one's own queue counts as time of the call. Under load,
//! calls end as `Elapsed` that were never sent, the breaker takes that for failures of the service, and opens
//! because of a queue in its own process.
//!
//! **Backpressure inside of retry, under a pool.** With `.backpressure()` a ready instance holds a place, and each
//! worker of a pool keeps one ready while it waits for a job. A retry waits for a place of its own: if idle
//! workers hold them all, it waits until one of them gets a job. Without backpressure nobody who is idle holds a
//! place. Where it is wanted, put the layer with backpressure outside of retry, or give it at least as many places
//! as the pool has workers.
//!
//! **The pool inside of retry.** Each further attempt is a new job, at the end of the queue, behind all that came
//! meanwhile; its outcome knows nothing of the attempts before. Inside the pool a retry goes on where it is, and
//! the job's outcome counts its attempts. Its price is that a worker sleeps with the retry. If that is too dear,
//! this order is right for you after all.
//!
//! # What the right order leaves open
//!
//! **A last attempt with no time left.** A call that the open breaker refuses may come back when that is over, late
//! under its total timeout. It is let through as a probe, runs into its own deadline, and the breaker takes that
//! for a failure of the service: it opens again, for twice as long. Give `RetryLayer::max_elapsed` the total timeout
//! less one attempt timeout, so that no attempt begins which could not end.
//!
//! **A budget for each of many processes.** The tokens that `Budget::new` pays in by the second are for each process. A
//! thousand clients with the default 10 a second may send 10,000 retries a second, however many calls they make.
//! In a fleet let the ratio do the work, and keep the share by the second small.
