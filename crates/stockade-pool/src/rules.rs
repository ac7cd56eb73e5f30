//! What a pool reads in a request: its weight, rank, key and name.

use std::{borrow::Cow, fmt, sync::Arc};

use stockade_core::{Share, priority::Priority};

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
    /// Its priority, or its rank.
    pub(crate) sort: Option<Arc<Read<Req, i64>>>,
    /// Its key, or whose job it is.
    pub(crate) share: Option<Arc<Read<Req, Share>>>,
    pub(crate) name: Option<Arc<Read<Req, Cow<'static, str>>>>,
    pub(crate) keep: Option<Arc<Read<Req, Req>>>,
}

type Read<Req, T> = dyn Fn(&Req) -> T + Send + Sync;

// === impl Any ===

impl sealed::Sealed for Any {}

impl<Req> Rules<Req> for Any {
    fn into_rules(self) -> Of<Req> {
        Of { weigh: None, sort: None, share: None, name: None, keep: None }
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
    /// Reads a request that is submitted with this class, if classes matter. Called without a lock, since these are the
    /// user's functions.
    #[inline]
    pub(crate) fn tag(&self, request: &Req, class: Option<Priority>) -> Option<Tag> {
        let Self { weigh, sort, share, .. } = self;
        if weigh.is_none() && sort.is_none() && share.is_none() && class.is_none() {
            return None;
        }
        let share = share.as_ref().map_or(Share::NOBODY, |share| share(request));
        Some(Tag {
            weight: weigh.as_ref().map_or(0, |weigh| weigh(request) as u64),
            sort: sort.as_ref().map_or(0, |sort| sort(request)),
            share: class.map_or(share, Share::of_class),
        })
    }
}

impl<Req> Clone for Of<Req> {
    fn clone(&self) -> Self {
        let Self { weigh, sort, share, name, keep } = self;
        let (weigh, sort, share) = (weigh.clone(), sort.clone(), share.clone());
        Self { weigh, sort, share, name: name.clone(), keep: keep.clone() }
    }
}

impl<Req> fmt::Debug for Of<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Of").finish_non_exhaustive()
    }
}
