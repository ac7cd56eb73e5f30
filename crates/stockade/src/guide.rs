//! The guide: from a first stack to a day on which everything fails. This module is only text, and its code is tested.
//!
//! Start at the top, or go to what you need:
//!
//! | page | what it answers |
//! |---|---|
//! | [`first_stack`] | How do I put layers around my client, and what do I get back? |
//! | [`choosing_layers`] | Which layers do I need, and in which order? |
//! | [`bad_day`] | What do callers see when the service is dead, slow, flapping or overrun? |
//! | [`pool`] | How do I queue work, size the pool, and lose nothing when the program ends? |
//! | [`axum`] | How do I use a stack in handlers, and put layers around them? |
//! | [`real_clients`] | What is there to know about reqwest, tonic, SQL and Redis? |
//! | [`testing`] | How do I test all that in milliseconds? |
//! | [`watching`] | What is there to see, and what should wake somebody? |
//! | [`priority`] | Which calls come first when not all can be served? |
//! | [`stack_per_key`] | How do I keep one host or tenant from harming the others? |
//! | [`settings_from_files`] | How do I read the settings from a file, and change them while calls run? |
//! | [`across_processes`] | How do deadlines, priorities and refusals get from one process to the next? |
//! | [`fleet`] | What changes when there is more than one process? |
//! | [`by_hand`] | What about streams, loops, and connections that are checked out? |
//! | [`own_layer`] | How do I write a layer of my own? |
//! | [`coming_from`] | What do I write here in place of what I know? |

#[doc = include_str!("guide/first_stack.md")]
pub mod first_stack {}

#[doc = include_str!("guide/choosing_layers.md")]
pub mod choosing_layers {}

#[doc = include_str!("guide/bad_day.md")]
pub mod bad_day {}

#[doc = include_str!("guide/pool.md")]
pub mod pool {}

#[doc = include_str!("guide/axum.md")]
pub mod axum {}

// Code that needs crates which the facade does not have is compiled where they are: `examples/servers/lib.rs` and
// `benches/src/lib.rs` include the same files.

#[cfg_attr(not(doctest), doc = include_str!("guide/real_clients.md"))]
pub mod real_clients {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/watching.md")]
pub mod watching {}

#[doc = include_str!("guide/priority.md")]
pub mod priority {}

#[doc = include_str!("guide/stack_per_key.md")]
pub mod stack_per_key {}

#[doc = include_str!("guide/settings_from_files.md")]
pub mod settings_from_files {}

#[cfg_attr(not(doctest), doc = include_str!("guide/across_processes.md"))]
pub mod across_processes {}

#[cfg_attr(not(doctest), doc = include_str!("guide/fleet.md"))]
pub mod fleet {}

#[doc = include_str!("guide/by_hand.md")]
pub mod by_hand {}

#[doc = include_str!("guide/own_layer.md")]
pub mod own_layer {}

/// What to write in place of what you know from elsewhere.
///
/// | you know | page |
/// |---|---|
/// | tower's `buffer`, `rate_limit`, `concurrency_limit`, `timeout`, `retry` | [`tower`](coming_from::tower) |
/// | tower-resilience | [`tower_resilience`](coming_from::tower_resilience) |
/// | seatbelt | [`seatbelt`](coming_from::seatbelt) |
/// | reqwest-retry, reqwest-middleware | [`reqwest_retry`](coming_from::reqwest_retry) |
/// | governor, tower_governor | [`governor`](coming_from::governor) |
/// | Go: channels, errgroup, ants, pond | [`go`](coming_from::go) |
/// | Java: `ThreadPoolExecutor`, resilience4j | [`java`](coming_from::java) |
/// | .NET: Polly | [`polly`](coming_from::polly) |
pub mod coming_from {
    #[cfg_attr(not(doctest), doc = include_str!("guide/coming_from/tower.md"))]
    pub mod tower {}

    #[cfg_attr(not(doctest), doc = include_str!("guide/coming_from/tower_resilience.md"))]
    pub mod tower_resilience {}

    #[cfg_attr(not(doctest), doc = include_str!("guide/coming_from/seatbelt.md"))]
    pub mod seatbelt {}

    #[cfg_attr(not(doctest), doc = include_str!("guide/coming_from/reqwest_retry.md"))]
    pub mod reqwest_retry {}

    #[cfg_attr(not(doctest), doc = include_str!("guide/coming_from/governor.md"))]
    pub mod governor {}

    #[doc = include_str!("guide/coming_from/go.md")]
    pub mod go {}

    #[doc = include_str!("guide/coming_from/java.md")]
    pub mod java {}

    #[doc = include_str!("guide/coming_from/polly.md")]
    pub mod polly {}
}
