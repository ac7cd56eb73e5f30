//! What there is to see.

use std::sync::Arc;

use crate::gate::Gate;

/// Reads the state of a rate limit: how many calls would pass, how many wait.
///
/// It turns nothing, and does not keep any service alive. Each value is of the moment at which it was read.
/// A clone reads the same state.
///
/// # Example
///
/// ```
/// use stockade_core::Error;
/// use stockade_rate::RateLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = RateLayer::per_second(10);
/// let handle = layer.handle();
/// let echo = service_fn(|word: &'static str| async move { Ok::<_, Error<()>>(word) });
/// let service = ServiceBuilder::new().layer(layer).service(echo);
/// service.oneshot("hello").await.unwrap();
/// assert_eq!((handle.available(), handle.waiting()), (9, 0));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RateHandle {
    gate: Arc<Gate>,
}

// === impl RateHandle ===

impl RateHandle {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// The number of calls that would pass at once: the tokens in the bucket, and zero while calls wait
    /// for them.
    pub fn available(&self) -> u32 {
        self.gate.available()
    }

    /// The number of calls that wait in the queue.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }
}
