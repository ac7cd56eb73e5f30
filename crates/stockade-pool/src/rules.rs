//! What a pool reads in a request: its weight, key, rank and name.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use stockade_core::Share;

use crate::queue::Tag;

/// What a pool reads in its requests; made by the builder.
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
    pub(crate) weigh: Option<Arc<Read<Req, usize>>>,
    pub(crate) order: Order<Req>,
    pub(crate) name: Option<Arc<Read<Req, Cow<'static, str>>>>,
    pub(crate) keep: Option<Arc<Read<Req, Req>>>,
}

/// What decides which of the queued jobs is next.
pub(crate) enum Order<Req> {
    /// Nothing in the request.
    Fifo,
    Key(Arc<Read<Req, i64>>),
    Priority(Arc<Read<Req, i64>>),
    Rank(Arc<Read<Req, i64>>),
    Share(Arc<Read<Req, Share>>),
}

type Read<Req, T> = dyn Fn(&Req) -> T + Send + Sync;

// === impl Any ===

impl sealed::Sealed for Any {}

impl<Req> Rules<Req> for Any {
    fn into_rules(self) -> Of<Req> {
        Of { weigh: None, order: Order::Fifo, name: None, keep: None }
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
    pub(crate) fn set_key<K: Hash>(&mut self, key: impl Fn(&Req) -> K + Send + Sync + 'static) {
        let hasher = RandomState::new();
        self.order = Order::Key(Arc::new(move |request| hasher.hash_one(key(request)) as i64));
    }

    /// Whose job it is, if that is asked. Called without a lock, too.
    #[inline]
    pub(crate) fn share(&self, request: &Req) -> Option<Share> {
        match &self.order {
            Order::Share(read) => Some(read(request)),
            _ => None,
        }
    }

    /// Reads a request. Called without a lock, since these are the user's functions.
    #[inline]
    pub(crate) fn tag(&self, request: &Req) -> Tag {
        let sort = match &self.order {
            Order::Fifo | Order::Share(_) => 0,
            Order::Key(read) | Order::Priority(read) | Order::Rank(read) => read(request),
        };
        Tag { weight: self.weigh.as_ref().map_or(0, |weigh| weigh(request) as u64), sort }
    }
}

impl<Req> Clone for Of<Req> {
    fn clone(&self) -> Self {
        let Self { weigh, order, name, keep } = self;
        let (weigh, name, keep) = (weigh.clone(), name.clone(), keep.clone());
        Self { weigh, order: order.clone(), name, keep }
    }
}

impl<Req> fmt::Debug for Of<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Of").finish_non_exhaustive()
    }
}

// === impl Order ===

impl<Req> Clone for Order<Req> {
    fn clone(&self) -> Self {
        match self {
            Self::Fifo => Self::Fifo,
            Self::Key(read) => Self::Key(Arc::clone(read)),
            Self::Priority(read) => Self::Priority(Arc::clone(read)),
            Self::Rank(read) => Self::Rank(Arc::clone(read)),
            Self::Share(read) => Self::Share(Arc::clone(read)),
        }
    }
}
