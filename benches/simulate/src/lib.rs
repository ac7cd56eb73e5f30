//! A fleet in virtual time.

pub mod builtin;
pub mod chart;
pub mod fault;
pub mod layers;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod values;

mod client;
mod server;
mod station;
mod theme;
