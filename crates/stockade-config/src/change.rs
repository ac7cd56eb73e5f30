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
    /// Why it needs a restart, if it does.
    obstacle: Option<String>,
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

/// What has changed. `can_resize` says whether the number of workers can at run time.
pub(crate) fn changes(
    from: &StackConfig,
    to: &StackConfig,
    can_resize: bool,
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    compare("", &tree(from)?, &tree(to)?, &mut changes);
    let workers = changes.iter_mut().find(|change| change.is_in("pool.workers"));
    if let Some(workers) = workers.filter(|_| !can_resize) {
        workers.obstacle = Some("no pool is known that can be resized".to_owned());
    }
    Ok(changes)
}

/// The changes, if none of them needs a restart; otherwise an error with all that do.
pub(crate) fn at_run_time(changes: Vec<Change>) -> Result<Vec<Change>, Error> {
    let mut obstacles = changes.iter().filter_map(|change| {
        change.obstacle.as_ref().map(|obstacle| (&*change.setting, &**obstacle))
    });
    let Some((setting, obstacle)) = obstacles.next() else { return Ok(changes) };
    let others: Vec<_> = obstacles.map(|(setting, _)| setting).collect();
    Err(Error::restart(setting, obstacle, &others))
}

fn tree(config: &StackConfig) -> Result<Value, Error> {
    serde_json::to_value(config).map_err(|error| Error::new("", error.to_string()))
}

fn compare(setting: &str, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    let (Value::Object(from_fields), Value::Object(to_fields)) = (from, to) else {
        if from != to {
            changes.push(Change::new(setting, from.to_string(), to.to_string()));
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
    fn new(setting: &str, from: String, to: String) -> Self {
        let mut change = Self { setting: setting.to_owned(), from, to, obstacle: None };
        let is_known = AT_RUN_TIME.iter().any(|setting| change.is_in(setting));
        if !is_known || NOT_AT_RUN_TIME.contains(&setting) {
            change.obstacle = Some(change.what());
        }
        change
    }

    /// Of a whole stack, which needs a restart.
    pub(crate) fn of_stack(name: &str, obstacle: &str) -> Self {
        let obstacle = Some(obstacle.to_owned());
        Self { setting: name.to_owned(), from: String::new(), to: String::new(), obstacle }
    }

    pub(crate) fn within(mut self, stack: &str) -> Self {
        self.setting = format!("{stack}.{}", self.setting);
        self
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
            (from, to) => format!("it cannot change from {} to {}", written(from), written(to)),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.setting, self.from, self.to)
    }
}

/// TOML has no null: what is left out is at its default.
fn written(value: &str) -> &str {
    if value == "null" { "its default" } else { value }
}
