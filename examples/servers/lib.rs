//! Nothing to use: the code of the README, and of those pages of `stockade::guide` that need real clients, compiled where
//! these are at hand.
//!
//! The pages are the same files that the documentation of `stockade` shows.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../crates/stockade/src/guide/real_clients.md")]
    mod real_clients {}

    #[doc = include_str!("../../crates/stockade/src/guide/across_processes.md")]
    mod across_processes {}

    #[doc = include_str!("../../crates/stockade/src/guide/fleet.md")]
    mod fleet {}
}

#[cfg(doctest)]
mod coming_from {
    #[doc = include_str!("../../crates/stockade/src/guide/coming_from/tower.md")]
    mod tower {}

    #[doc = include_str!("../../crates/stockade/src/guide/coming_from/reqwest_retry.md")]
    mod reqwest_retry {}

    #[doc = include_str!("../../crates/stockade/src/guide/coming_from/governor.md")]
    mod governor {}
}
