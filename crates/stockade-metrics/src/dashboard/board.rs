//! What the page shows, and what of it has changed.

use std::{collections::HashMap, fmt::Write};

use axum::body::Bytes;

use crate::{
    Metrics,
    family::{Now, Row, Value},
};

/// Each handle as it was last sent, as JSON: `["limit","db",{"limit_max":8}]`.
#[derive(Debug, Default)]
pub(crate) struct Board {
    rows: HashMap<String, Shown>,
    /// How often the handles were read.
    readings: u64,
    /// All rows as an event, once somebody has asked for them since the last change.
    all: Option<Bytes>,
    /// Kept for its memory.
    text: String,
}

#[derive(Debug)]
struct Shown {
    text: String,
    /// At which reading it was there.
    read: u64,
}

// === impl Board ===

impl Board {
    /// Reads the handles, and returns an event with what has changed, if anything has. `is_held` says which breakers
    /// are held open from the page.
    pub(crate) fn read(
        &mut self,
        metrics: &Metrics,
        now: Now,
        is_held: impl Fn(&str, &str) -> bool,
    ) -> Option<Bytes> {
        self.readings += 1;
        let Self { rows, readings, text, .. } = self;
        let (mut changed, mut key) = (String::new(), String::new());
        metrics.rows(now, &mut |row| {
            key.clear();
            write_key(&mut key, row);
            text.clear();
            write_row(text, &key, row, is_held(row.kind, row.name));
            let shown = match rows.get_mut(&key) {
                Some(shown) => shown,
                None => rows.entry(key.clone()).or_insert(Shown { text: String::new(), read: 0 }),
            };
            shown.read = *readings;
            if shown.text != *text {
                shown.text.clone_from(text);
                separate(&mut changed);
                changed.push_str(text);
            }
        });
        let mut gone = String::new();
        rows.retain(|key, shown| {
            let stays = shown.read == *readings;
            if !stays {
                separate(&mut gone);
                let _ = write!(gone, "[{key}]");
            }
            stays
        });
        if changed.is_empty() && gone.is_empty() {
            return None;
        }
        self.all = None;
        Some(format!("data: {{\"rows\":[{changed}],\"gone\":[{gone}]}}\n\n").into())
    }

    /// An event with all rows.
    pub(crate) fn all(&mut self) -> Bytes {
        let rows = &self.rows;
        let make = || {
            let mut text = String::new();
            for shown in rows.values() {
                separate(&mut text);
                text.push_str(&shown.text);
            }
            format!("data: {{\"all\":true,\"rows\":[{text}]}}\n\n").into()
        };
        self.all.get_or_insert_with(make).clone()
    }

    #[cfg(test)]
    pub(crate) fn readings(&self) -> u64 {
        self.readings
    }
}

/// A comma, unless it is the first.
fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push(',');
    }
}

/// Neither the kind nor the labels need to be escaped; a name may be anything.
fn write_key(text: &mut String, row: &Row<'_>) {
    let name = serde_json::Value::from(row.name);
    let _ = write!(text, "\"{}\",{name}", row.kind);
}

/// Of the values with a label only those that are not zero.
fn write_row(text: &mut String, key: &str, row: &Row<'_>, is_held: bool) {
    let _ = write!(text, "[{key},{{\"held\":{is_held}");
    for (about, samples) in &row.metrics {
        let name = about.name.trim_start_matches("stockade_");
        match samples.as_slice() {
            [] => {}
            [sample] if sample.label.is_none() => {
                if let Value::Number(value) = sample.value {
                    let _ = write!(text, ",\"{name}\":");
                    write_number(text, value);
                }
            }
            samples => {
                let _ = write!(text, ",\"{name}\":{{");
                let mut is_first = true;
                for sample in samples {
                    let (Some((_, label)), Value::Number(value)) = (sample.label, sample.value)
                    else {
                        continue;
                    };
                    if value != 0.0 {
                        let comma = if is_first { "" } else { "," };
                        let _ = write!(text, "{comma}\"{label}\":");
                        write_number(text, value);
                        is_first = false;
                    }
                }
                text.push('}');
            }
        }
    }
    for (name, value) in &row.detail {
        let _ = write!(text, ",\"{name}\":{value}");
    }
    text.push_str("}]");
}

fn write_number(text: &mut String, value: f64) {
    /// Integers up to here are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let _ = if !value.is_finite() {
        write!(text, "null")
    } else if value.fract() == 0.0 && value.abs() < EXACT {
        write!(text, "{}", value as i64)
    } else {
        // Microseconds, where it is a duration.
        write!(text, "{}", (value * 1e6).round() / 1e6)
    };
}
