//! Whose call it is, where those who wait get equal or weighted shares.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::OnceLock,
};

use crate::priority::Priority;

/// The key of a call, such as its tenant, with a weight, and with what the call costs. For the `fair_by` of a limit or a pool.
///
/// While calls of several keys wait, each key gets places in proportion to its weight: with the weights 1, 1 and 2 a quarter, a
/// quarter and a half. What a key does not use goes to the others.
///
/// # Example
///
/// ```
/// use stockade_core::Share;
///
/// // A tenant that pays gets three times the share of one that does not. A report costs as much as ten other calls.
/// let share = |tenant: &str, pays: bool, is_report: bool| {
///     Share::of(tenant).weight(if pays { 3 } else { 1 }).cost(if is_report { 10 } else { 1 })
/// };
/// # let _ = share("a", true, false);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    flow: u64,
    weight: u32,
    cost: u32,
}

/// What says whose call it is: a key, which is anything that can be hashed, or a [`Share`].
pub trait IntoShare {
    /// The same as a share.
    fn into_share(self) -> Share;
}

// === impl Share ===

impl Share {
    /// The share of those for whom no key is known.
    #[doc(hidden)]
    pub const NOBODY: Self = Self { flow: 0, weight: 1, cost: 1 };

    /// Of the one with this key. It has the weight 1, and the call the cost 1.
    ///
    /// Keys are told apart by 64 bits of a hash that nobody outside the process can foresee.
    #[must_use]
    pub fn of<K: Hash>(key: K) -> Self {
        static HASHER: OnceLock<RandomState> = OnceLock::new();
        Self { flow: HASHER.get_or_init(RandomState::new).hash_one(key), ..Self::NOBODY }
    }

    /// The size of the share, beside the weights of others. Zero counts as 1.
    #[must_use]
    pub const fn weight(self, weight: u32) -> Self {
        Self { weight: if weight == 0 { 1 } else { weight }, ..self }
    }

    /// How much of its share the call uses. Zero counts as 1.
    #[must_use]
    pub const fn cost(self, cost: u32) -> Self {
        Self { cost: if cost == 0 { 1 } else { cost }, ..self }
    }

    /// That of a class, which has ten times the weight of the one below.
    #[doc(hidden)]
    #[must_use]
    pub const fn of_class(priority: Priority) -> Self {
        Self { flow: priority as u64, weight: 10_u32.pow(priority as u32), cost: 1 }
    }

    /// Its key, hashed.
    #[doc(hidden)]
    pub const fn flow(self) -> u64 {
        self.flow
    }

    pub(crate) const fn weight_and_cost(self) -> (u32, u32) {
        (self.weight, self.cost)
    }
}

// === impl IntoShare ===

impl<K: Hash> IntoShare for K {
    fn into_share(self) -> Share {
        Share::of(self)
    }
}

// `Share` is not `Hash`, so that this is not in the way of the other one.
impl IntoShare for Share {
    fn into_share(self) -> Share {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_share_of_it_name_the_same_flow() {
        assert_eq!("tenant".into_share().flow(), Share::of("tenant").weight(3).into_share().flow());
        assert_ne!(1_u32.into_share().flow(), 2_u32.into_share().flow());
    }

    #[test]
    fn zero_counts_as_one() {
        assert_eq!(Share::of(1).weight(0).cost(0), Share::of(1));
    }
}
