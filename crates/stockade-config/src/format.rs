//! From text to settings. An error says where it is.

use serde::{Deserializer, de::DeserializeOwned};

use crate::Error;

/// Reads TOML.
///
/// # Errors
///
/// What is wrong, with the setting and the line.
#[cfg(feature = "toml")]
pub fn toml<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let shown = |error: &toml::de::Error| {
        let line = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let message = error.message().replace('\n', ", ");
        match error.span() {
            Some(span) => {
                // It does not say which key.
                let key = text.get(span.clone()).filter(|_| message == "duplicate key");
                let key = key.map(|key| format!(" `{key}`")).unwrap_or_default();
                format!("{message}{key} (line {})", line(span.start))
            }
            None => message,
        }
    };
    let deserializer = toml::Deserializer::parse(text).map_err(|e| Error::new("", shown(&e)))?;
    deserialize(deserializer, shown)
}

/// Reads JSON.
///
/// # Errors
///
/// What is wrong, with the setting, the line and the column.
pub fn json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserialize(&mut deserializer, |error| error.to_string())?;
    deserializer.end().map_err(|error| Error::new("", error.to_string()))?;
    Ok(read)
}

/// Reads another format, which has to describe itself. `shown` is the message of its error.
///
/// # Errors
///
/// What is wrong, with the setting.
pub fn deserialize<'de, T, D>(
    deserializer: D,
    shown: impl Fn(&D::Error) -> String,
) -> Result<T, Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // A path may end where nothing is known, and is a dot for the file as a whole.
        let path = error.path().to_string();
        let (path, shown) = (path.trim_end_matches(['.', '?']), shown(error.inner()));
        // To serde the sections of a stack are fields, too.
        let shown = if shown.contains("`attempt_timeout`, `pool`") {
            shown.replacen("unknown field", "unknown section", 1)
        } else {
            shown
        };
        // Of two fields that do not fit together the message names the one that is wrong.
        match shown.split_once(": ") {
            Some((field, reason)) if is_field(field) => Error::new(field, reason).within(path),
            _ => Error::new(path, shown),
        }
    })
}

fn is_field(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
