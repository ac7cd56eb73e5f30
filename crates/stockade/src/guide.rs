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
//! | [`testing`] | How do I test all that in milliseconds? |

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

#[doc = include_str!("guide/testing.md")]
pub mod testing {}
