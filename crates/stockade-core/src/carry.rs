//! What goes along into a task that is spawned.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{deadline, priority};

pin_project! {
    /// A future with the deadline and the priority of where it was made; made by [`carry`].
    #[derive(Debug)]
    pub struct Carried<F> {
        #[pin]
        future: deadline::Scoped<priority::Scoped<F>>,
    }
}

/// Runs `future` under the deadline and with the priority that are set here, wherever it is polled. For `tokio::spawn`.
///
/// Both belong to the poll of a call, and a task that is spawned has neither: what it does may outlive the call, and is
/// [`Default`](priority::Priority::Default) to every layer. Say so if that is not what you want:
///
/// ```
/// use stockade_core::{carry, priority::{self, Priority}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let handler = priority::scope(Priority::Critical, async {
///     let carried = tokio::spawn(carry(async { priority::current() }));
///     let bare = tokio::spawn(async { priority::current() });
///     (carried.await.unwrap(), bare.await.unwrap())
/// });
/// assert_eq!(handler.await, (Priority::Critical, Priority::Default));
/// # }
/// ```
///
/// A pool does this by itself for its jobs.
pub fn carry<F>(future: F) -> Carried<F> {
    let future = priority::scope(priority::current(), future);
    Carried { future: deadline::scope(deadline::current(), future) }
}

// === impl Carried ===

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{deadline::Deadline, priority::Priority};

    #[tokio::test(start_paused = true)]
    async fn a_task_has_the_deadline_and_the_priority_of_where_it_was_spawned() {
        let inside = async { (deadline::current(), priority::current()) };
        let start = Instant::now();
        let spawn = || tokio::spawn(carry(inside));
        let task =
            Deadline::after(Duration::from_secs(1)).enter(|| Priority::Background.enter(spawn));
        let expected = (Some(start + Duration::from_secs(1)), Priority::Background);
        assert_eq!(task.await.unwrap(), expected);
        let bare = tokio::spawn(async { (deadline::current(), priority::current()) });
        assert_eq!(bare.await.unwrap(), (None, Priority::Default));
    }
}
