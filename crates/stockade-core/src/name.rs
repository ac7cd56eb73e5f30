//! Names that a user gives to layers, kept for the life of the process.

use std::{
    collections::HashSet,
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::config::ConfigError;

/// The longest owned name, in bytes.
pub const MAX_BYTES: usize = 128;

/// The most owned names, all different, that one process may use.
pub const MAX_NAMES: usize = 4_096;

/// The name of a layer, in refusals, events and metrics.
///
/// A `&'static str` is taken as it is. An owned one is kept for the life of the process, so that a
/// [`Rejected`](crate::Rejected) stays small and `Copy`; it may have 128 bytes, and there may be
/// 4,096 different ones. Never put a key or a user's input into a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Result<&'static str, String>);

// === impl Name ===

impl Name {
    /// The name, if it may be one.
    ///
    /// # Errors
    ///
    /// If it is too long, or there are too many names. `setting` says where it was set.
    pub fn check(self, setting: &str) -> Result<&'static str, ConfigError> {
        let allowed = || format!("at most {MAX_BYTES} bytes, and {MAX_NAMES} names in a process");
        self.0.map_err(|name| ConfigError::new(setting, &shortened(&name), allowed()))
    }

    /// Checks the `name` of a configuration, if there is one. `of` is whose name it is, as the user writes it.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn check_field(of: &str, name: Option<&Self>) -> Result<(), ConfigError> {
        match name {
            Some(name) => name.clone().check(&format!("{of}::name")).map(drop),
            None => Ok(()),
        }
    }

    /// The `name` of a configuration that was checked.
    pub fn known(name: Option<&Self>) -> Option<&'static str> {
        name?.0.as_ref().ok().copied()
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(Ok(name))
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        static NAMES: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
        if name.len() > MAX_BYTES {
            return Self(Err(name));
        }
        let names = NAMES.get_or_init(Mutex::default);
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name.as_str()) {
            return Self(Ok(known));
        }
        if names.len() >= MAX_NAMES {
            return Self(Err(name));
        }
        let kept: &'static str = Box::leak(name.into_boxed_str());
        names.insert(kept);
        Self(Ok(kept))
    }
}

/// Enough of a name to find it by.
fn shortened(name: &str) -> String {
    const ENOUGH: usize = 32;
    match name.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}… ({} bytes)", &name[..end], name.len()),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_name_is_kept_once() {
        let one = Name::from("db".to_owned() + "-1").check("name").unwrap();
        let other = Name::from("db-1".to_owned()).check("name").unwrap();
        assert!(std::ptr::eq(one, other));
    }

    #[test]
    fn a_name_of_a_megabyte_is_an_error_that_is_short() {
        let error = Name::from("x".repeat(1 << 20)).check("LimitLayer::name").unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("LimitLayer::name: "), "{message}");
        assert!(message.contains("1048576 bytes") && message.len() < 200, "{message}");
    }
}
