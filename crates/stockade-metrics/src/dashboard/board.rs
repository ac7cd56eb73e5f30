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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cpu_time::ThreadTime;
    use futures_util::FutureExt;
    use stockade_breaker::BreakerLayer;
    use stockade_core::Error;
    use stockade_limit::LimitLayer;
    use stockade_rate::RateLayer;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::MeasureLayer;

    const HANDLES: usize = 1_000;

    const MOST: u32 = 6;

    /// A page of handles, and what calls the layers of all of them.
    struct Page {
        metrics: Metrics,
        board: Board,
        calls: Vec<Box<dyn FnMut()>>,
    }

    impl Page {
        fn new() -> Self {
            let mut page =
                Self { metrics: Metrics::new(), board: Board::default(), calls: Vec::new() };
            (0..HANDLES / 4).for_each(|number| page.add(&format!("service {number}")));
            page
        }

        /// Four handles, of layers that count each call.
        fn add(&mut self, name: &str) {
            let (measure, measured) = MeasureLayer::new().with_handle();
            let (_, breaker) = BreakerLayer::new().with_handle();
            let (_, rate) = RateLayer::per_second(1_000_000).with_handle();
            let (_, limit) = LimitLayer::new(HANDLES).with_handle();
            let handles = (measured, breaker.clone(), rate.clone(), limit.clone());
            self.metrics.stack(name, handles).unwrap();
            let service = measure.layer(service_fn(async |()| Ok::<_, Error<()>>(())));
            let mut permits = Vec::new();
            self.calls.push(Box::new(move || {
                service.clone().oneshot(()).now_or_never().unwrap().unwrap();
                breaker.admit().unwrap().success();
                rate.try_take(1_000).unwrap();
                permits.extend(limit.try_acquire());
            }));
        }

        fn call_all(&mut self) {
            self.calls.iter_mut().for_each(|call| call());
        }

        /// How many bytes an update has.
        fn update(&mut self) -> usize {
            let event = self.board.read(&self.metrics, Now(Duration::ZERO), |_, _| false);
            event.map_or(0, |event| event.len())
        }
    }

    /// The least time of the processor of a few, because a busy machine only ever adds to it.
    fn least<T>(mut prepare: impl FnMut() -> T, mut timed: impl FnMut(T)) -> Duration {
        let times = (0..10).map(|_| {
            let prepared = prepare();
            let begun = ThreadTime::now();
            timed(prepared);
            begun.elapsed()
        });
        times.min().unwrap()
    }

    /// Ten updates a second are a twentieth of a core if one takes five milliseconds. That is more than six times what
    /// serde_json takes to write the same rows, where both are optimized; so it is held on every machine.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_handles_at_ten_updates_a_second_use_less_than_a_twentieth_of_a_core() {
        let mut page = Page::new();
        page.update();
        let rows = page.board.all();
        let rows = rows.strip_prefix(b"data: ").unwrap();
        let rows: serde_json::Value = serde_json::from_slice(rows).unwrap();
        assert_eq!(rows["rows"].as_array().unwrap().len(), HANDLES);
        let written = least(|| (), |()| assert!(rows.to_string().len() > HANDLES));

        let idle = least(|| (), |()| assert_eq!(page.update(), 0, "nothing is sent"));
        let page = std::cell::RefCell::new(page);
        let called = least(
            || page.borrow_mut().call_all(),
            |()| assert!(page.borrow_mut().update() > HANDLES * 32, "all have changed"),
        );
        for (what, took) in [("idle", idle), ("called", called)] {
            println!("{what}: {took:?} an update, {written:?} for the same rows as JSON");
            assert!(took < written * MOST, "{what}: {took:?} is more than {MOST} x {written:?}");
        }
    }

    /// An update allocates a few times for each handle, whatever the handle has counted.
    #[tokio::test(start_paused = true)]
    async fn an_update_allocates_no_more_than_sixteen_times_for_a_handle() {
        let mut page = Page::new();
        page.update();
        page.call_all();
        let mut bytes = 0;
        let allocated = allocation_counter::measure(|| bytes = page.update());
        assert!(allocated.count_total <= 16 * HANDLES as u64, "{}", allocated.count_total);
        assert!(bytes <= 512 * HANDLES, "{bytes} bytes are sent");
    }
}
