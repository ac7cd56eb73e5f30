//! What is the user's in a pool: what is read of a request, what goes along with a job, and how many workers there are.

use std::{borrow::Cow, sync::Arc};

use stockade_core::{Share, priority::Priority};

use crate::{
    queue::{Carried, Tag},
    scale::Scale,
};

/// The functions that a pool was given. They are called without the lock.
pub(crate) struct Rules<Req> {
    pub(crate) weigh: Option<Arc<Read<Req, usize>>>,
    /// Its priority, or its rank.
    pub(crate) sort: Option<Arc<Read<Req, i64>>>,
    /// Its key, or whose job it is.
    pub(crate) share: Option<Arc<Read<Req, Share>>>,
    pub(crate) name: Option<Arc<Read<Req, Cow<'static, str>>>>,
    pub(crate) keep: Option<Arc<Read<Req, Req>>>,
    /// Captures what goes along with a job, where it is submitted.
    pub(crate) carry: Option<Arc<dyn Fn() -> Carried + Send + Sync>>,
    /// None: one worker a job.
    pub(crate) scale: Option<Arc<dyn Scale>>,
}

type Read<Req, T> = dyn Fn(&Req) -> T + Send + Sync;

// === impl Rules ===

impl<Req> Rules<Req> {
    /// Reads a request that is submitted with this class, if classes matter.
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
        Self {
            weigh: self.weigh.clone(),
            sort: self.sort.clone(),
            share: self.share.clone(),
            name: self.name.clone(),
            keep: self.keep.clone(),
            carry: self.carry.clone(),
            scale: self.scale.clone(),
        }
    }
}

impl<Req> Default for Rules<Req> {
    fn default() -> Self {
        Self {
            weigh: None,
            sort: None,
            share: None,
            name: None,
            keep: None,
            carry: None,
            scale: None,
        }
    }
}
