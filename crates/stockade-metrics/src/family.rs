//! What is exported of each kind of handle: a table with a row for each metric.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use stockade_core::Reason;

/// A handle to read at a scrape.
pub(crate) trait Readable {
    /// The values at one moment.
    type Snapshot: 'static;

    /// The kind of thing that it is a handle of, for messages.
    const KIND: &'static str;

    /// The metrics.
    const FAMILIES: &'static [Family<Self::Snapshot>];

    /// Reads all values at once; `None` if what it is a handle of is gone.
    fn read(&self) -> Option<Self::Snapshot>;
}

/// A metric: its name, and how its value is taken from a snapshot.
pub(crate) struct Family<S> {
    /// Without the suffix that the format adds: `_seconds` or `_total`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) sort: Sort,
    pub(crate) values: Values<S>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Gauge,
    /// A gauge of seconds.
    Seconds,
    Counter,
}

/// Values are floating point numbers, as everywhere in Prometheus.
pub(crate) enum Values<S> {
    One(fn(&S) -> f64),
    /// One, where it is known.
    Known(fn(&S) -> Option<f64>),
    /// One for each value of a second label.
    Each(&'static str, fn(&S) -> Vec<(&'static str, f64)>),
}

type Row<S> = (Cow<'static, str>, S);
type Label<'a> = (&'a str, &'a str);

/// The handles of one kind, by their names.
pub(crate) struct Group<H>(BTreeMap<Cow<'static, str>, H>);

/// A group of any kind.
pub(crate) trait AnyGroup: Send {
    /// Returns false if there is none of this name.
    fn remove(&mut self, name: &str) -> bool;

    /// Reads each handle once, and drops those whose layer or pool is gone.
    fn encode(&mut self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result;

    /// The kind and the name of each handle.
    fn names(&self) -> Vec<(&'static str, &str)>;
}

/// The number of refusals for each of these reasons.
#[allow(dead_code, reason = "not every kind refuses")]
pub(crate) fn refused<const N: usize>(
    reasons: [Reason; N],
    of: impl Fn(Reason) -> u64,
) -> Vec<(&'static str, f64)> {
    reasons.map(|reason| (reason.label(), of(reason) as f64)).to_vec()
}

// === impl Family ===

impl<S> Family<S> {
    /// Writes nothing if no snapshot has a value.
    fn encode(&self, rows: &[Row<S>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let samples: Vec<_> = rows.iter().flat_map(|row| self.samples(row)).collect();
        if samples.is_empty() {
            return Ok(());
        }
        let unit = (self.sort == Sort::Seconds).then_some(&Unit::Seconds);
        let is_counter = self.sort == Sort::Counter;
        let metric_type = if is_counter { MetricType::Counter } else { MetricType::Gauge };
        let mut metric = encoder.encode_descriptor(self.name, self.help, unit, metric_type)?;
        for (labels, value) in samples {
            let labels = labels.as_slice();
            let mut metric = metric.encode_family(&labels)?;
            if is_counter {
                metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            } else {
                metric.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn samples<'a>(&self, (name, snapshot): &'a Row<S>) -> Vec<(Vec<Label<'a>>, f64)> {
        let name = ("name", &**name);
        match self.values {
            Values::One(value) => vec![(vec![name], value(snapshot))],
            Values::Known(value) => {
                value(snapshot).map(|value| (vec![name], value)).into_iter().collect()
            }
            Values::Each(label, values) => values(snapshot)
                .into_iter()
                .map(|(of, value)| (vec![name, (label, of)], value))
                .collect(),
        }
    }
}

// === impl Group ===

impl<H: Readable> Group<H> {
    /// Returns false if there is one of this name already, which stays.
    pub(crate) fn add(&mut self, name: Cow<'static, str>, handle: H) -> bool {
        let taken = self.0.get(&name).is_some_and(|handle| handle.read().is_some());
        if !taken {
            self.0.insert(name, handle);
        }
        !taken
    }
}

impl<H: Readable + Send> AnyGroup for Group<H> {
    fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    fn encode(&mut self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut rows = Vec::with_capacity(self.0.len());
        self.0.retain(|name, handle| {
            let snapshot = handle.read();
            let is_there = snapshot.is_some();
            rows.extend(snapshot.map(|snapshot| (name.clone(), snapshot)));
            is_there
        });
        H::FAMILIES.iter().try_for_each(|family| family.encode(&rows, encoder))
    }

    fn names(&self) -> Vec<(&'static str, &str)> {
        self.0.keys().map(|name| (H::KIND, &**name)).collect()
    }
}

impl<H> Default for Group<H> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
