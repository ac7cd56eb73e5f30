//! What layers are built from. Hidden, and free to change: only the crates of this workspace use it.
//!
//! | room | idea |
//! |---|---|
//! | [`deferred`] | a call that has to wait: wait, get the service ready, then call |
//! | [`backpressure`] | the same wait in `poll_ready` |
//! | [`Timer`] | the deadlines of all waiting calls, on one `Sleep` a thread |
//! | [`Queue`] | a FIFO queue that one can leave from the middle |
//! | [`FairOrder`] | who is next by class, or by whose call it is |
//! | [`Cold`] | what a future seldom holds, dropped out of line |
//! | [`pay`] | which budget the call at hand has paid into |
//! | [`StaticPool`] | state that calls refer to without counting references |
//! | [`Shards`] | a value for each thread |
//! | `wake` | wakes a task, whatever its waker does |
//! | [`Refusals`] | refusals, counted by reason |
//! | [`sync`] | locks and atomics, the standard library's or a model checker's |

pub mod backpressure;
mod cold;
mod deadline_queue;
pub mod deferred;
mod fair_order;
pub(crate) mod paid;
mod queue;
mod refusals;
mod shards;
mod static_pool;
pub mod sync;
mod timer;
mod wake;
#[cfg(feature = "serde")]
pub mod written;

pub use cold::Cold;
pub use deferred::{Admission, CallWaiter, Refusal, Refuser, Slow, Waiter};
pub use fair_order::FairOrder;
pub use paid::{Paid, budget_id, is_paid, pay};
pub use queue::{Key, Queue};
pub use refusals::Refusals;
pub use shards::Shards;
pub use static_pool::StaticPool;
pub use sync::lock;
pub use timer::Timer;
pub use wake::wake;
