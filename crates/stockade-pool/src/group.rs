use std::{fmt, future::poll_fn, task::Poll};

use stockade_core::LayerError;

use crate::{
    Closed, Outcome,
    batch::{Batch, NotYet},
    lease::Lease,
    pool::Handles,
};

/// Jobs that belong together; made by [`Pool::group`](crate::Pool::group).
///
/// It submits to the pool like any other caller, and holds no more than its own jobs. What has ended and was not
/// read is kept: whoever submits without end reads with [`next`](Self::next) now and then.
///
/// # Cancel safety
///
/// Dropping it, or the future of [`join_all`](Self::join_all) or [`try_join`](Self::try_join), cancels the jobs
/// that have not ended. Dropping the future of [`submit`](Self::submit) drops the request and gives its place
/// back with the group.
///
/// # Example
///
/// ```
/// use std::convert::Infallible;
/// use stockade_core::Error;
/// use stockade_pool::Pool;
/// use tower::ServiceBuilder;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().workers(4).into_layer())
///     .service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n * 2));
/// let mut group = pool.group();
/// for n in 0..3 {
///     group.submit(n).await.unwrap();
/// }
/// assert_eq!(group.try_join().await.unwrap(), [0, 2, 4]);
/// # }
/// ```
#[must_use = "dropping a group cancels its jobs"]
pub struct Group<Req, T, E> {
    batch: Batch<Req, T, E>,
}

// === impl Group ===

impl<Req, T, E: LayerError> Group<Req, T, E> {
    pub(crate) fn new(pool: Lease<Handles<Req, T, E>>) -> Self {
        Self { batch: Batch::new(pool) }
    }

    /// Waits for a place in the queue, and queues `request` as the next of the group.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the request, if the pool is closed before there is a place.
    pub async fn submit(&mut self, request: Req) -> Result<(), Closed<Req>> {
        let mut request = Some(request);
        let submitted = poll_fn(|cx| match self.batch.submit(&mut request, cx) {
            Ok(()) => Poll::Ready(()),
            Err(NotYet::Closed) => Poll::Ready(()),
            Err(NotYet::Waiting) => Poll::Pending,
        });
        submitted.await;
        request.map_or(Ok(()), |request| Err(Closed(request)))
    }

    /// How many jobs have not been read.
    pub fn len(&self) -> usize {
        (self.batch.accepted - self.batch.read) as usize
    }

    /// Whether all jobs have been read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What became of the next job to end, or none when all have been read. [`Outcome::id`] counts the jobs of
    /// the group.
    pub async fn next(&mut self) -> Option<Outcome<T, E>> {
        if self.is_empty() {
            return None;
        }
        let outcome = poll_fn(|cx| self.batch.poll_ended(cx)).await;
        self.batch.read += 1;
        Some(outcome)
    }

    /// Waits for all jobs, and returns what became of those that were not read, in the order in which they were
    /// submitted.
    pub async fn join_all(mut self) -> Vec<Outcome<T, E>> {
        let mut outcomes = Vec::with_capacity(self.len());
        while let Some(outcome) = self.next().await {
            outcomes.push(outcome);
        }
        outcomes.sort_unstable_by_key(|outcome| outcome.id);
        outcomes
    }

    /// Waits for all jobs, and returns the answers of those that were not read, in the order in which they were
    /// submitted; or returns the first error and cancels the rest.
    ///
    /// # Errors
    ///
    /// The error of the first job to fail, in whatever way.
    pub async fn try_join(mut self) -> Result<Vec<T>, E> {
        let mut answers = Vec::with_capacity(self.len());
        while let Some(outcome) = self.next().await {
            answers.push((outcome.id, outcome.result?));
        }
        answers.sort_unstable_by_key(|(id, _)| *id);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }
}

impl<Req, T, E> fmt::Debug for Group<Req, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("accepted", &self.batch.accepted)
            .field("read", &self.batch.read)
            .finish_non_exhaustive()
    }
}
