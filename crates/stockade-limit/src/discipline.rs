//! Who of those who wait is next, where that is not the one that came first.

use std::collections::BTreeSet;

use stockade_core::{
    Share,
    internal::{FairOrder, Key},
    priority::Priority,
};

/// In which order calls that wait are admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Discipline {
    /// As they came.
    #[default]
    Fifo,
    /// By class.
    ByClass,
    /// By class, and the lower classes get a part of the maximum only.
    Capped,
    /// By whose they are.
    ByShare,
}

/// The order of those who wait in the queue of a semaphore.
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) order: FairOrder<Key>,
    /// Those who have lost their places in a full queue, and do not know it yet.
    pub(crate) shed: BTreeSet<Key>,
    is_capped: bool,
}

/// Who may enter now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Eligible {
    /// How many are in flight, of how many, if that decides.
    taken: Option<(i64, u32)>,
}

/// How much of the maximum there may be in flight, in percent, for a call of each class to start; the lowest first.
const CAPS: [u64; Priority::ALL.len()] = [50, 80, 100, 100];

/// How many may be in flight after a call of this class has started.
pub(crate) fn cap(class: u64, places: u32) -> i64 {
    let percent = usize::try_from(class).ok().and_then(|class| CAPS.get(class)).unwrap_or(&100);
    let most = u64::from(places) * percent / 100;
    (most as i64).max(1)
}

// === impl Discipline ===

impl Discipline {
    /// None for first come, first served.
    pub(crate) fn ordered(self) -> Option<Box<Ordered>> {
        let order = match self {
            Self::Fifo => return None,
            Self::ByClass | Self::Capped => FairOrder::by_class(),
            Self::ByShare => FairOrder::by_share(),
        };
        let is_capped = self == Self::Capped;
        Some(Box::new(Ordered { order, shed: BTreeSet::new(), is_capped }))
    }

    /// The share of a call whose request says `asked`.
    pub(crate) fn share(self, asked: Option<Share>) -> Share {
        match self {
            Self::Fifo => Share::NOBODY,
            Self::ByClass | Self::Capped => Share::of_class(stockade_core::priority::current()),
            Self::ByShare => asked.unwrap_or(Share::NOBODY),
        }
    }
}

// === impl Ordered ===

impl Ordered {
    /// Who may enter while so many of the places are free.
    pub(crate) fn eligible(&self, free: i32, places: u32) -> Eligible {
        let taken = i64::from(places) - i64::from(free);
        Eligible { taken: self.is_capped.then_some((taken, places)) }
    }
}

// === impl Eligible ===

impl Eligible {
    pub(crate) fn may(self, flow: u64) -> bool {
        self.taken.is_none_or(|(taken, places)| taken < cap(flow, places))
    }
}
