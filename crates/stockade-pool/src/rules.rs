//! What a pool reads in a request: its weight, rank, key and name.

use std::{borrow::Cow, sync::Arc};

use stockade_core::{Share, priority::Priority};

use crate::queue::Tag;

/// What a pool reads in its requests.
pub(crate) struct Rules<Req> {
    pub(crate) weigh: Option<Arc<Read<Req, usize>>>,
    /// Its priority, or its rank.
    pub(crate) sort: Option<Arc<Read<Req, i64>>>,
    /// Its key, or whose job it is.
    pub(crate) share: Option<Arc<Read<Req, Share>>>,
    pub(crate) name: Option<Arc<Read<Req, Cow<'static, str>>>>,
    pub(crate) keep: Option<Arc<Read<Req, Req>>>,
}

type Read<Req, T> = dyn Fn(&Req) -> T + Send + Sync;

// === impl Rules ===

impl<Req> Rules<Req> {
    /// Reads a request that is submitted with this class, if classes matter. Called without a lock, since these are the
    /// user's functions.
    #[inline]
    pub(crate) fn tag(&self, request: &Req, class: Option<Priority>) -> Tag {
        let Self { weigh, sort, share, .. } = self;
        if weigh.is_none() && sort.is_none() && share.is_none() && class.is_none() {
            return Tag::NONE;
        }
        let share = share.as_ref().map_or(Share::NOBODY, |share| share(request));
        Tag {
            weight: weigh.as_ref().map_or(0, |weigh| weigh(request) as u64),
            sort: sort.as_ref().map_or(0, |sort| sort(request)),
            share: class.map_or(share, Share::of_class),
        }
    }
}

impl<Req> Clone for Rules<Req> {
    fn clone(&self) -> Self {
        let Self { weigh, sort, share, name, keep } = self;
        let (weigh, sort, share) = (weigh.clone(), sort.clone(), share.clone());
        Self { weigh, sort, share, name: name.clone(), keep: keep.clone() }
    }
}

impl<Req> Default for Rules<Req> {
    fn default() -> Self {
        Self { weigh: None, sort: None, share: None, name: None, keep: None }
    }
}
