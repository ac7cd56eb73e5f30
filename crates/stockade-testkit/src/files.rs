use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

/// Reads a configuration that is written in TOML.
///
/// # Errors
///
/// What is wrong, without its place in the text.
pub fn read_toml<T: DeserializeOwned>(toml: &str) -> Result<T, String> {
    toml::from_str(toml).map_err(|error| error.message().to_owned())
}

/// Reads a configuration that is written in TOML, writes it as TOML and as JSON, reads both, and looks whether each is
/// what was written.
///
/// # Panics
///
/// If it is not.
#[track_caller]
pub fn round_trip<T: DeserializeOwned + Serialize + Debug>(toml: &str) {
    let config: T = read_toml(toml).expect("it can be read");
    let shown = format!("{config:?}");
    let toml = toml::to_string(&config).expect("it can be written as TOML");
    let json = serde_json::to_string(&config).expect("it can be written as JSON");
    let again: T = read_toml(&toml).expect("it can be read again");
    assert_eq!(format!("{again:?}"), shown, "{toml}");
    let again: T = serde_json::from_str(&json).expect("it can be read again");
    assert_eq!(format!("{again:?}"), shown, "{json}");
}
