//! What a pool does by what is in a request: weigh it, keep it in line with others, order it.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use crate::board::Key;

/// Decides which of the queued jobs is next.
///
/// It holds tickets, while the pool holds the jobs: a job that is cancelled leaves the pool at once, and its ticket
/// is passed over when it comes up. It is called under the lock of the pool, so it is short, and does not use the
/// pool. It cannot lose a job: when it names none the oldest is taken, as after a panic in it.
///
/// # Example
///
/// ```
/// use std::{collections::BinaryHeap, convert::Infallible};
/// use stockade_core::Error;
/// use stockade_pool::{Order, Pool, Ticket};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// #[derive(Clone, Default)]
/// struct Largest(BinaryHeap<(u32, Ticket)>);
/// impl Order<u32> for Largest {
///     fn push(&mut self, request: &u32, job: Ticket) { self.0.push((*request, job)); }
///     fn pop(&mut self) -> Option<Ticket> { self.0.pop().map(|(_, job)| job) }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pool = ServiceBuilder::new()
///     .layer(Pool::builder().order(Largest::default()).into_layer())
///     .service_fn(async |n: u32| Ok::<_, Error<Infallible>>(n));
/// # assert_eq!(pool.oneshot(1).await, Ok(1));
/// # }
/// ```
pub trait Order<Req>: Send {
    /// A job was queued.
    fn push(&mut self, request: &Req, job: Ticket);

    /// The job that is next, which is not named again.
    fn pop(&mut self) -> Option<Ticket>;
}

/// Names a queued job. Tickets compare in the order in which the jobs were queued, the first the greatest, so that
/// among equals a heap of tickets is first in, first out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) serial: u64,
    pub(crate) key: Key,
}

/// What a pool does by what is in a request; made by the builder.
pub trait Rules<Req>: sealed::Sealed {
    /// The same for this type of request.
    fn into_rules(self) -> Of<Req>;
}

mod sealed {
    pub trait Sealed {}
}

/// Requests of any type, which the pool does not look into.
#[derive(Clone, Copy, Debug, Default)]
pub struct Any;

/// Requests of one type, which the pool looks into.
pub struct Of<Req> {
    pub(crate) weigh: Option<Arc<Measure<Req, usize>>>,
    pub(crate) lane: Option<Arc<Measure<Req, u64>>>,
    pub(crate) order: Option<Arc<MakeOrder<Req>>>,
}

type Measure<Req, T> = dyn Fn(&Req) -> T + Send + Sync;
type MakeOrder<Req> = dyn Fn() -> Box<dyn Order<Req>> + Send + Sync;

/// What the rules say of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tag {
    pub(crate) weight: u64,
    pub(crate) lane: u64,
    /// It was submitted from inside a job of the pool, which may wait for it.
    pub(crate) nested: bool,
}

// === impl Ticket ===

impl Ord for Ticket {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.serial.cmp(&self.serial)
    }
}

impl PartialOrd for Ticket {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

// === impl Any ===

impl sealed::Sealed for Any {}

impl<Req> Rules<Req> for Any {
    fn into_rules(self) -> Of<Req> {
        Of { weigh: None, lane: None, order: None }
    }
}

// === impl Of ===

impl<Req> sealed::Sealed for Of<Req> {}

impl<Req> Rules<Req> for Of<Req> {
    fn into_rules(self) -> Self {
        self
    }
}

impl<Req> Of<Req> {
    pub(crate) fn set_lane<K: Hash>(&mut self, key: impl Fn(&Req) -> K + Send + Sync + 'static) {
        let hasher = RandomState::new();
        self.lane = Some(Arc::new(move |request| hasher.hash_one(key(request))));
    }

    /// Whether the pool need not look into a request.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.weigh.is_none() && self.lane.is_none() && self.order.is_none()
    }

    #[inline(always)]
    pub(crate) fn tag(&self, request: &Req) -> Tag {
        Tag {
            weight: self.weigh.as_ref().map_or(0, |weigh| weigh(request) as u64),
            lane: self.lane.as_ref().map_or(0, |lane| lane(request)),
            nested: false,
        }
    }
}

impl<Req> Clone for Of<Req> {
    fn clone(&self) -> Self {
        Self { weigh: self.weigh.clone(), lane: self.lane.clone(), order: self.order.clone() }
    }
}

impl<Req> fmt::Debug for Of<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Of").finish_non_exhaustive()
    }
}
