//! What the setters set.

use stockade_core::Budget;

use crate::delay::Rule;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) rule: Rule,
    pub(crate) max: u32,
    pub(crate) budget: Budget,
    pub(crate) name: Option<&'static str>,
}
