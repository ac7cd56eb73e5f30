//! What the layers of stockade cost on the pass path, beside what stands at their place elsewhere.
//!
//! `cargo bench -p stockade-benches --bench pass_path` measures, and prints tables and which goals are met.
//! `cargo test -p stockade-benches` counts allocations.
//!
//! Only figures of one run compare: the cases of a [`Group`](measure::Group) take turns in many short rounds, and
//! a ratio is the median of the ratios of each round.

pub mod catalogue;
pub mod drive;
pub mod floor;
pub mod goals;
pub mod inner;
pub mod machine;
pub mod measure;
pub mod report;
pub mod stacks;
pub mod suite;
