//! A fleet of clients and an overloaded server in virtual time, with and without the layers of stockade.
//!
//! ```sh
//! cargo xtask simulate                             # the storm that comes along, twelve seconds
//! cargo xtask simulate --list                      # the others
//! cargo xtask simulate --print storm > mine.toml   # a scenario to change
//! cargo xtask simulate mine.toml --json mine.json
//! ```
//!
//! The layers are the real ones, each client has a stack of its own, and only clock, network and server are made up:
//! everything runs on one thread on tokio's paused clock, and all chance comes from one seed, so a run can be repeated
//! figure for figure. It is a model: it shows which way things go, and why. It does not say what your service can do.
//!
//! # What it shows
//!
//! An overload that goes on after its cause has gone. Its calls wait in the server's queue for longer than their
//! callers do. So the callers give up and try again; the server does not know, and works for those who have gone; and
//! the further attempts keep the queue as long as it is. The fleet that the server could carry with a quarter to spare
//! keeps it at work without a single answer in time, until somebody takes the load away. This is the *metastable*
//! state of Bronson, Aghayev, Charapko and Zhu, [Metastable Failures in Distributed Systems] (HotOS 2021), which
//! Huang and others found behind many large outages, [Metastable Failures in the Wild] (OSDI 2022).
//!
//! What ends it is whatever takes the load below the capacity: a *budget* bounds the further attempts to a part of
//! the calls, as in [Handling Overload] of Google's Site Reliability Engineering; a *breaker* sends nothing for a while,
//! so the queue runs empty at full speed; *limit* and *rate limit* refuse at the client what the server could not do,
//! so the queue does not come up; a *deadline* ends what is worth nothing any more.
//!
//! [Metastable Failures in Distributed Systems]: https://sigops.org/s/conferences/hotos/2021/papers/hotos21-s11-bronson.pdf
//! [Metastable Failures in the Wild]: https://www.usenix.org/conference/osdi22/presentation/huang-lexiang
//! [Handling Overload]: https://sre.google/sre-book/handling-overload/
//!
//! # How to read the result
//!
//! A call counts in the phase in which it was made, however it ended; a request in that in which it reached the
//! server.
//!
//! - *goodput*: the part of the calls that were answered while their caller still waited. The caller's patience is a
//!   property of the fleet, not of a layer: without any timeout an answer may come, and be of no use.
//! - *attempts*: how many requests reached the server for each call. Above 1 there are retries; below 1 there are
//!   refusals at the client. In the chart a dashed line says how many the server can do: above it the queue grows,
//!   below it the queue shrinks.
//! - *wasted*: the part of the server's work that was for nobody. Near 100 % in the metastable state.
//! - *p50*, *p99*, *p99.9*: how long those calls took that were answered, in time or not.
//! - *back*: how long after the beginning of the phase the fleet was well again, which is when in every second until
//!   the end of the phase at least 95 % of the calls were good. Told for each calm phase after one that is not.
//! - *refused or given up*: with which refusal the calls ended, the three most frequent. The server's own is
//!   `server: busy`; `caller: gave up` is a call that backpressure had not let begin.
//!
//! In the chart the last stack of the scenario is green and the thickest. A curve that is covered by another one shows
//! on both sides of it.
//!
//! # The model
//!
//! - **Clients** make calls at moments that are up to chance, evenly and without memory (a Poisson process each),
//!   whether or not earlier ones have been answered. Every stack is run through the same calls.
//! - **The server** has workers and one queue in front of them, first come, first served. A request that finds the
//!   queue full is refused at once. A request whose caller has given up stays, and is worked on in its turn.
//! - **The network** takes no time and loses nothing, but for what a scenario's table `[chaos]` says, in the phases with
//!   `chaos = true`: answers that come late, calls that fail or are never answered.
//! - **A phase** multiplies the rate of the calls (`load`) or the speed of the server (`capacity`; at 0 it stands
//!   still, and goes on later where it was).
//! - Calls are made and answers arrive at whole milliseconds; the server keeps its time more exactly than that.
//!
//! # A scenario
//!
//! A TOML file of four parts; `--print` gives one with a comment at each line. What is not there is refused, with the
//! line and with what would have been right.
//!
//! ```
//! # let text = r#"
//! about = "What one line says above the tables"
//!
//! [fleet]
//! clients = 200
//! rate = 50               # calls a second, each client
//! patience = "2s"
//! duration = "40s"
//!
//! [server]
//! workers = 100           # or load = 0.75: as many as the calm fleet keeps busy for that part of their time
//! service_time = "8ms"
//! spread = "constant"     # or "exponential", the default
//! queue = "1s"            # of work
//!
//! [[phase]]
//! name = "calm"
//! at = "0s"
//!
//! [[phase]]
//! name = "a third of the machines is gone"
//! at = "10s"
//! capacity = 0.67         # or load = 2
//!
//! [[phase]]
//! name = "they are back"
//! at = "20s"
//!
//! [[stack]]
//! name = "everything"
//! layers = [              # outermost first; only what is set differs from a layer's own default
//!     { timeout = "2s" },
//!     { pool = { workers = 8, queue = 16 } },
//!     { retry = { attempts = 3, base = "50ms", cap = "1s", max_elapsed = "1500ms", budget = { ratio = 0.1, per_second = 1 } } },
//!     { breaker = { time = "5s", min_calls = 20, failure_rate = 0.5, open_for = "5s", probes = 3, ramp = "2s" } },
//!     { rate = { times = 1.5, burst = 20, queue = 100, max_wait = "100ms" } },   # or per_second = 75
//!     { limit = { max = 4, queue = 8, max_wait = "100ms" } },
//!     { timeout = "500ms" },
//! ]
//! # "#;
//! # stockade_simulate::scenario::Scenario::read("mine.toml", text).unwrap();
//! ```
//!
//! A breaker also takes `calls`, `consecutive` and `probe_timeout`, and `budget = "unlimited"` is a retry without one.
//! The recommended order of the layers, and what goes wrong in others, is told in [`stockade::order`].
//!
//! # What to learn from it
//!
//! - **A budget counts for a fleet.** `per_second` is what each client may repeat in any case. A thousand clients
//!   that may repeat ten calls a second make ten thousand further requests a second. In the scenario `brownout` the
//!   retry layer's default of 20 % and 10 a second is no bound at all, for the clients make only 20 calls a second: it
//!   does not come back, and 10 % and one in two seconds does.
//! - **An open breaker ends a call.** Its refusal is not waited for, so no call comes back as a probe with most of its
//!   time gone: the last two stacks of the scenario `order`, with `max_elapsed` and without, recover alike.
//! - **A timeout is no cure.** It frees the client, not the server, which still does the work.

pub mod builtin;
pub mod chart;
pub mod fault;
pub mod layers;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod values;

mod client;
mod server;
mod stack;
mod station;
mod theme;
