//! A fleet in virtual time.

pub mod fault;
pub mod layers;
pub mod record;
pub mod run;
pub mod scenario;
pub mod values;

mod client;
mod server;
mod station;
