//! The deadline of a call, told to the database.

use std::time::Duration;

use stockade_core::deadline;
use tokio::time::Instant;

/// The statement that has PostgreSQL end the statements of a transaction when the call they belong to has to
/// end: `SET LOCAL statement_timeout = 1234`. `None` where the call has no deadline.
///
/// A statement whose future is dropped runs on at the server. Run this one first in each transaction, and the
/// server stops by itself. It allows what is left of the ambient [deadline](stockade_core::deadline) less
/// `margin`, which is what the way back takes, and at least a millisecond. Ask within the call: the deadline is
/// that of the call that is being polled.
///
/// A transaction of sqlx or tokio-postgres rolls back when it is dropped. Without one, as on a connection that callers
/// share, send both as one text and without a `BEGIN`: `{set}; SELECT …` is a transaction that an error ends. One that began
/// with `BEGIN` stays open then, and whatever comes next on that connection fails.
///
/// The error is SQLSTATE `57014`, which is [`Permanent`](super::class()): nobody waits for a repetition.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_clients::sql::statement_timeout;
/// use stockade_core::{Error, deadline};
/// use stockade_timeout::TimeoutLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let stack = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(2)))
///     .map_err(Error::Service)
///     .service_fn(async |(): ()| Ok::<_, std::io::Error>(statement_timeout(Duration::from_millis(50))));
/// let set = stack.oneshot(()).await.unwrap();
/// assert_eq!(set.as_deref(), Some("SET LOCAL statement_timeout = 1950"));
/// # }
/// ```
pub fn statement_timeout(margin: Duration) -> Option<String> {
    let left = deadline::current()?.saturating_duration_since(Instant::now());
    // Zero means no limit, and above this PostgreSQL takes none.
    let millis = left.saturating_sub(margin).as_millis().clamp(1, i32::MAX as u128);
    Some(format!("SET LOCAL statement_timeout = {millis}"))
}

#[cfg(test)]
mod tests {
    use stockade_core::deadline::Deadline;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_deadline_sets_none() {
        assert_eq!(statement_timeout(Duration::ZERO), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_no_time_left_asks_for_the_shortest_and_not_for_none() {
        for limit in [Duration::ZERO, Duration::from_micros(900), Duration::from_millis(50)] {
            let mut deadline = Deadline::after(limit);
            let set = deadline.enter(|| statement_timeout(Duration::from_millis(50)));
            assert_eq!(set.as_deref(), Some("SET LOCAL statement_timeout = 1"));
        }
        let mut deadline = Deadline::after(Duration::MAX);
        let set = deadline.enter(|| statement_timeout(Duration::ZERO));
        let longest = format!("SET LOCAL statement_timeout = {}", i32::MAX);
        // An endless deadline is some thirty years away, which is more than PostgreSQL takes.
        assert_eq!(set, Some(longest));
    }
}
