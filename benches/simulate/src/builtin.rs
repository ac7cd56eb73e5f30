//! The scenarios that come along.

/// A scenario that comes along, under the name of its file.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// The name, as the command line takes it.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

/// All of them; the first one is the one that runs when none is named.
pub const BUILTIN: &[Builtin] = &[
    Builtin { name: "storm", text: include_str!("../scenarios/storm.toml") },
    Builtin { name: "brownout", text: include_str!("../scenarios/brownout.toml") },
    Builtin { name: "tail", text: include_str!("../scenarios/tail.toml") },
    Builtin { name: "order", text: include_str!("../scenarios/order.toml") },
];

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|builtin| builtin.name == name)
}
