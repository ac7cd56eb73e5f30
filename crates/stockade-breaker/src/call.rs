//! What the state machine is told of a call: what it was admitted with, and how it has ended.

use std::time::Duration;

use stockade_core::{Class, Judged, LayerError, Reason, Rejected};
use tokio::time::Instant;

use crate::record::ANSWERS;

/// What an admitted call carries until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The epoch, and below it the answers before it was admitted: together, as each call keeps and compares them.
    pub(crate) mark: u64,
    /// When it was admitted. Known for a probe, and where slow calls count.
    pub(crate) admitted: Option<Instant>,
}

/// How a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The service answered, and is well.
    Success,
    /// The call failed, whether the service `answered` or not. `after` is the server's hint.
    Failure { answered: bool, after: Option<Duration> },
    /// The service answered, but this says nothing about it.
    Ignored,
    /// The caller gave up, while the call was with the service or `queued` in a layer inside.
    Dropped { queued: bool },
    /// It says nothing at all.
    Nothing,
}

// === impl Stamp ===

impl Stamp {
    /// Of a call that counts for nothing.
    pub(crate) const NONE: Self = Self { mark: 0, admitted: None };

    pub(crate) const fn epoch(self) -> u32 {
        (self.mark / ANSWERS as u64) as u32
    }

    pub(crate) const fn answers(self) -> u32 {
        (self.mark % ANSWERS as u64) as u32
    }
}

// === impl End ===

impl End {
    /// What a result is that was judged so, with its error if it is one.
    pub(crate) fn of<E: LayerError>(judged: Judged, error: Option<&E>) -> Self {
        // Then a layer inside has ended the call, and the service has not answered.
        let reason = error.and_then(LayerError::rejected).map(Rejected::reason);
        match (judged, reason) {
            (Judged::Refused(_), _) | (_, Some(Reason::Cancelled)) => Self::Nothing,
            (Judged::Answered(Class::Success | Class::Permanent), _) => Self::Success,
            (Judged::Answered(Class::Ignored), _) => Self::Ignored,
            (Judged::Answered(class), _) => {
                Self::Failure { answered: reason.is_none(), after: class.after() }
            }
        }
    }
}
