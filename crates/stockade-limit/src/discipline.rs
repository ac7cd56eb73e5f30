//! In which order calls that wait are admitted, and which part of the maximum each class may take.

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

/// How many places there are, and how many of them are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) taken: i64,
    pub(crate) places: u32,
}

/// How much of the maximum there may be in flight, in percent, for a call of each class to start; the lowest first.
const CAPS: [u64; Priority::ALL.len()] = [50, 80, 100, 100];

/// How many may be in flight after a call of this class has started.
fn cap(class: u64, places: u32) -> i64 {
    let percent = usize::try_from(class).ok().and_then(|class| CAPS.get(class)).unwrap_or(&100);
    let most = u64::from(places) * percent / 100;
    (most as i64).max(1)
}

// === impl Discipline ===

impl Discipline {
    /// None for first come, first served.
    pub(crate) fn order(self) -> Option<FairOrder<Key>> {
        match self {
            Self::Fifo => None,
            Self::ByClass | Self::Capped => Some(FairOrder::by_class()),
            Self::ByShare => Some(FairOrder::by_share()),
        }
    }

    /// Whether a call of this flow may enter while there is so much room.
    pub(crate) fn may_enter(self, flow: u64, room: Room) -> bool {
        self != Self::Capped || room.taken < cap(flow, room.places)
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
