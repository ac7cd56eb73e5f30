//! The checks, grouped by what they are about.

mod capacity;
mod failure;
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
        readiness_error_sticky;
    capacity:
        peak_within_limit
        future_drop_releases
        release_on_ready;
    waiting:
        all_waiters_served_fifo
        no_self_wake
        coop_neutral;
    failure:
        panic_contained
        error_lossless;
}
