//! The checks, grouped by what they are about.

mod capacity;
mod failure;
mod polling;
mod readiness;
mod waiting;

use crate::{
    Subject,
    stage::{Stage, Verdict},
};

macro_rules! checks {
    ($($room:ident: $($check:ident)+;)+) => {
        /// The name of every check, in the order in which they are made.
        pub(crate) const NAMES: &[&str] = &[$($(stringify!($check),)+)+];

        /// Makes the check of this name.
        pub(crate) async fn make<S: Subject>(check: &str, stage: &mut Stage<'_, S>) -> Verdict {
            match check {
                $($(stringify!($check) => $room::$check(stage).await,)+)+
                _ => unreachable!("only known checks are made"),
            }
        }
    };
}

checks! {
    readiness:
        readied_instance_called
        ready_idempotent
        ready_clone_drop_releases
        clone_starts_unready
        readiness_error_sticky
        masked_inner_driven;
    capacity:
        peak_within_limit
        future_drop_releases
        release_on_ready;
    waiting:
        all_waiters_served_fifo
        woken_waiter_drop_passes_on
        idle_waiter_no_hoard
        cancelled_queued_dropped
        close_wakes_all;
    polling:
        no_self_wake
        latest_waker_woken
        coop_neutral
        deadline_under_busy_inner;
    failure:
        panic_contained
        error_lossless;
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_check_is_listed_on_the_first_page() {
        let page = include_str!("../lib.rs");
        for check in super::NAMES {
            assert!(page.contains(&format!("//! | `{check}` | ")), "{check}");
        }
    }
}
