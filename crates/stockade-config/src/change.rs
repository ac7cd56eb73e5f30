//! What is different between two configurations, and what of that can change at run time. Pure.

use std::fmt;

use serde_json::Value;

use crate::{Error, StackConfig};

/// A setting that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Which one, such as `limit.max`.
    pub setting: String,
    /// What it was, as JSON.
    pub from: String,
    /// What it is, as JSON.
    pub to: String,
}

/// What can change at run time, with all that is in it.
const AT_RUN_TIME: [&str; 10] = [
    "timeout.limit",
    "retry",
    "breaker",
    "rate.calls",
    "rate.per",
    "limit.max",
    "limit.queue",
    "limit.max_wait",
    "attempt_timeout.limit",
    "pool.workers",
];

/// What of that cannot.
const NOT_AT_RUN_TIME: [&str; 5] = ["retry", "breaker", "retry.name", "retry.seed", "breaker.name"];

/// What has changed; an error if some of that cannot at run time.
pub(crate) fn changes(from: &StackConfig, to: &StackConfig) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    compare("", &tree(from)?, &tree(to)?, &mut changes);
    match changes.iter().find(|change| !change.is_possible()) {
        Some(change) => Err(Error::restart(&change.setting, change.what())),
        None => Ok(changes),
    }
}

fn tree(config: &StackConfig) -> Result<Value, Error> {
    serde_json::to_value(config).map_err(|error| Error::new("", error.to_string()))
}

fn compare(setting: &str, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    let (Value::Object(from_fields), Value::Object(to_fields)) = (from, to) else {
        if from != to {
            let (from, to) = (from.to_string(), to.to_string());
            changes.push(Change { setting: setting.to_owned(), from, to });
        }
        return;
    };
    let only_new = to_fields.keys().filter(|name| !from_fields.contains_key(*name));
    for name in from_fields.keys().chain(only_new) {
        let [from, to] =
            [from_fields, to_fields].map(|fields| fields.get(name).unwrap_or(&Value::Null));
        let inside = if setting.is_empty() { name.clone() } else { format!("{setting}.{name}") };
        compare(&inside, from, to, changes);
    }
}

// === impl Change ===

impl Change {
    fn is_possible(&self) -> bool {
        let is_known = AT_RUN_TIME.iter().any(|setting| self.is_in(setting));
        is_known && !NOT_AT_RUN_TIME.contains(&self.setting.as_str())
    }

    /// Whether it is the setting `outer`, or a part of it.
    pub(crate) fn is_in(&self, outer: &str) -> bool {
        let rest = self.setting.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn what(&self) -> String {
        let is_layer = !self.setting.contains('.');
        match (self.from.as_str(), self.to.as_str()) {
            ("null", _) if is_layer => "a layer cannot appear".to_owned(),
            (_, "null") if is_layer => "a layer cannot go".to_owned(),
            (from, to) => format!("it cannot change from {from} to {to}"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.setting, self.from, self.to)
    }
}
