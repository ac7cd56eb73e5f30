//! What a pool reads in a request: its weight, key, rank and name.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

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
    pub(crate) key: Option<Arc<Read<Req, u64>>>,
    pub(crate) priority: Option<Arc<Read<Req, u8>>>,
    pub(crate) rank: Option<Arc<Read<Req, i64>>>,
    pub(crate) name: Option<Arc<Read<Req, Cow<'static, str>>>>,
    pub(crate) keep: Option<Arc<Read<Req, Req>>>,
}

type Read<Req, T> = dyn Fn(&Req) -> T + Send + Sync;

// === impl Any ===

impl sealed::Sealed for Any {}

impl<Req> Rules<Req> for Any {
    fn into_rules(self) -> Of<Req> {
        Of { weigh: None, key: None, priority: None, rank: None, name: None, keep: None }
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
        self.key = Some(Arc::new(move |request| hasher.hash_one(key(request))));
    }

    /// Reads a request. Called without a lock, since these are the user's functions.
    #[inline]
    pub(crate) fn tag(&self, request: &Req) -> Tag {
        Tag {
            weight: self.weigh.as_ref().map_or(0, |weigh| weigh(request) as u64),
            key: self.key.as_ref().map_or(0, |key| key(request)),
            priority: self.priority.as_ref().map_or(0, |priority| priority(request)),
            rank: self.rank.as_ref().map_or(0, |rank| rank(request)),
        }
    }
}

impl<Req> Clone for Of<Req> {
    fn clone(&self) -> Self {
        Self {
            weigh: self.weigh.clone(),
            key: self.key.clone(),
            priority: self.priority.clone(),
            rank: self.rank.clone(),
            name: self.name.clone(),
            keep: self.keep.clone(),
        }
    }
}

impl<Req> fmt::Debug for Of<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Of").finish_non_exhaustive()
    }
}
