//! The order of the layers, and what goes wrong in another one. This module is only text.
//!
//! Any order compiles, and in any order no call and no permit is lost. But a layer acts on what is inside it, so the
//! order says *what* is timed, repeated, judged and counted. Outermost first, as `ServiceBuilder` lists them:
//!
//! | | layer | because |
//! |---|---|---|
//! | 1 | total timeout | it covers everything: waits, retries, and the pool's queue if the pool is inside |
//! | 2 | retry | what is inside happens once per attempt |
//! | 3 | breaker | it judges each attempt, and spares everything inside while it is open |
//! | 4 | rate limit | a token is spent only on a call that is about to be sent |
//! | 5 | concurrency limit | a permit is held only by a call that is running, not by one that waits |
//! | 6 | attempt timeout | it times the call itself, without the waits |
//! | 7 | `.map_err(Error::Service)`, client | |
//!
//! A pool goes in front of all: its workers run the whole stack. If callers should not wait for the pool beyond a limit
//! either, put one more timeout around the pool; its deadline goes along with the job.
//!
//! The layers that are not in every stack have their places too:
//!
//! | layer | place |
//! |---|---|
//! | priority | outside the layers that look at the class: they know it in `call`, and not in `poll_ready` |
//! | fallback | outside all others, so that it answers for every way in which a call can fail |
//! | coalesce | outside retry: callers share the whole call, and not one attempt |
//! | keyed | outside the layers that each key has of its own, so above the breaker; inside a retry and a total timeout that all keys share |
//! | hedge | inside retry, outside the breaker: a second attempt is judged, counted and limited like the first |
//! | inject (`stockade-clients`) | inside retry and all timeouts, right above `.map_err`: each attempt tells the server what is left |
//! | chaos | right above the client, so that all others see what it does |
//! | respond, extract (`stockade-clients`) | around the handlers of a server: respond outermost, extract right under it, so that what has expired takes no token and no permit |
//!
//! # Behind an open breaker nothing sleeps
//!
//! A refusal by one of your own layers ends the call at once, through retry and pool: an open breaker, a full queue, a
//! rate limit that cannot let the call through in time, a closed pool, a deadline that has passed. The caller gets
//! the refusal and its `retry_after`, or the service's last error if an attempt before it has failed with one. The
//! refusal costs no attempt and no retry budget, and a breaker does not count it.
//!
//! An answer that counts as a failure, as a status 500 of an HTTP client does, is no error, and is dropped before the wait
//! for the next attempt. If that attempt is refused, the caller gets the refusal, although the service has answered.
//!
//! Callers who would rather wait for the breaker to close than be refused say for how long:
//! `RetryLayer::max_attempts(3).retry_refusals(Duration::from_secs(10))`. They wait for the `retry_after` that they were
//! told, and up to a tenth longer, so that they do not come back in one instant. In front of a pool, remember that
//! such a call keeps its worker while it waits.
//!
//! # Orders to avoid
//!
//! Each paragraph is a test in `tests/order.rs` or `tests/placement.rs`, which runs the wrong order beside the right one.
//!
//! **A timeout inside retry only.** It bounds each attempt, and nothing bounds the call: three attempts of at most a
//! second are three seconds and the waits between them. A caller who was promised a second needs the total timeout
//! as well. Retry knows its deadline, and returns the last error of the service rather than wait beyond it.
//!
//! **A timeout outside retry only.** A first attempt that hangs uses up all the time and is never repeated, although
//! a second one might be answered at once. With the attempt timeout, a hanging attempt fails while there is time left.
//!
//! **The limit outside retry.** A call keeps its permit while it sleeps before the next attempt. When the service fails,
//! the limit fills with calls that do nothing, and calls that could be answered wait behind them.
//!
//! **The rate limit outside retry.** Only first attempts take a token. When the service fails, it gets up to
//! `max_attempts` times the rate, just when it can stand it least.
//!
//! **The breaker outside retry.** It sees only how whole calls ended. It opens after as many failed *calls* as it would
//! have taken failed attempts, and until then all their attempts reach a service that is down. Attempts that failed
//! and were repeated with success look like a healthy service.
//!
//! **A limit or a rate limit outside the breaker.** A call that the open breaker refuses has waited in a queue and taken a
//! token for nothing, and when the breaker closes there are no tokens left.
//!
//! **The limit outside the rate limit.** A call that waits for a token holds a permit: the limit is full of calls of
//! which none is running.
//!
//! **The attempt timeout outside the limit.** The wait in your own queue counts as time of the call. Under load, calls end as
//! `Elapsed` that were never sent, the breaker takes them for failures of the service, and opens because of a queue in
//! your own process.
//!
//! **Backpressure inside retry, under a pool.** With `.backpressure()` a ready instance holds a permit, and each worker of
//! a pool keeps one ready while it waits for a job. A retry needs a permit of its own: if idle workers hold
//! them all, it waits until one of them gets a job. Without backpressure, nothing that is idle holds a permit. Where you
//! want backpressure, put that layer outside retry, or give it at least as many permits as the pool has workers.
//!
//! **The pool inside retry.** Each further attempt is a new job at the end of the queue, behind all jobs that arrived
//! since, and its outcome does not know the attempts before it. Inside the pool, a retry continues where it is, and the
//! job's outcome counts its attempts; the price is that a worker sleeps during the backoff. If that is too much, use
//! this order.
//!
//! **The fallback inside the breaker.** The breaker sees its answers, and takes a service that is down for one that is
//! well. And what the breaker refuses, nobody answers.
//!
//! **The fallback inside the total timeout.** A call that takes too long ends with the timeout's refusal, which nobody
//! answers.
//!
//! **Coalesce inside retry.** Callers share the first attempt. When it has failed, each of them waits for a time of its own
//! before the next, so they come one by one.
//!
//! **The hedge inside the limit.** A second attempt needs no permit, and up to twice as many calls run as the limit says. The
//! same goes for a rate limit and for a breaker outside the hedge.
//!
//! **Chaos outside retry.** What it makes up reaches the callers, and the stack that was to be tried never meets it.
//!
//! # What the right order leaves open
//!
//! **Calls that wait in the limit when the breaker opens.** They passed the breaker when it was closed, and do not learn that
//! it has opened. By default 1,024 of them may wait, until their deadline. So a service that hangs is still called while the
//! breaker is open, and those callers learn late that it is down. [`LimitLayer::max_wait`](crate::LimitLayer::max_wait) bounds
//! this: with 500 ms, such a call ends at most 500 ms and one attempt timeout after the breaker opened.
//!
//! **Limits that refuse.** A call that the concurrency limit refuses has taken a token from the rate limit outside it. That
//! does not matter where calls wait. Where both limits shed, with `.queue(0)`, put the concurrency limit outside.
//!
//! **A retry outside of limits that refuse.** Each further attempt needs a place and a token of its own. Where the limits
//! shed, it may be refused, and the call then ends with the service's last error, although there were attempts left. Let
//! the limits wait for a moment ([`max_wait`](crate::LimitLayer::max_wait)), or let the retry wait for them
//! (`retry_refusals`), or put the retry inside the limits: then a call keeps its place while it waits to be repeated, and
//! further attempts take no tokens, so that the service may get up to `max_attempts` times the rate.
//!
//! **A last attempt with no time left.** With `retry_refusals`, a call may wait for an open breaker until shortly before
//! its total timeout, be let through as a probe, and run into its own deadline. The breaker takes that for a failure of
//! the service and opens again, for twice as long. Set `RetryLayer::max_elapsed` to the total timeout less one attempt
//! timeout, so that no attempt begins that could not end.
//!
//! **A budget for each of many processes.** The tokens that `Budget::new` adds each second are per process. A thousand
//! clients with the default of 10 a second may send 10,000 retries a second, however few calls they make. In a fleet,
//! rely on the ratio, and keep the share per second small.
//!
//! **A batch in front of a budget.** By default about a fifth of the calls may be repeated. That is right for a server's
//! client. A batch whose jobs should each have all their attempts needs `Budget::unlimited()`, or a larger ratio.
