//! Real time, for checks whose tasks keep the paused clock from moving.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, mpsc},
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use stockade_core::internal::lock;
use stockade_core::internal::sync::Mutex;

/// The longest that a check may keep the machine busy.
pub(crate) const REAL_LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Bell {
    rung: bool,
    waker: Option<Waker>,
}

/// The output of `future`, or `None` if it takes longer than `limit` in real time.
///
/// A task that wakes itself again and again keeps a paused clock from moving, so a timeout on that clock
/// would never end.
pub(crate) async fn guarded<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let bell = Arc::new(Mutex::new(Bell::default()));
    // Dropped with this future, which ends the thread.
    let (_alive, dropped) = mpsc::channel::<()>();
    let ringer = Arc::clone(&bell);
    thread::spawn(move || {
        if dropped.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            let waker = {
                let mut bell = lock(&ringer);
                bell.rung = true;
                bell.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    });
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let mut bell = lock(&bell);
        if bell.rung {
            return Poll::Ready(None);
        }
        bell.waker = Some(cx.waker().clone());
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_what_keeps_a_paused_clock_from_moving() {
        let busy = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        let ended: Option<()> = guarded(Duration::from_millis(5), busy).await;
        assert_eq!(ended, None);
        assert_eq!(guarded(REAL_LIMIT, async { 7 }).await, Some(7));
    }
}
