//! What is exported of a kind of handle, as a table: a row for each metric.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// A handle that can be read.
pub(crate) trait Readable {
    /// What is read of it at a scrape.
    type Snapshot: 'static;

    /// What it is a handle of.
    const KIND: &'static str;

    /// Everything that is exported of it.
    const FAMILIES: &'static [Family<Self::Snapshot>];

    /// All of it, as of one moment; none when what it is a handle of is gone.
    fn read(&self) -> Option<Self::Snapshot>;
}

/// One metric: how it is called, and how it is taken from a snapshot.
pub(crate) struct Family<S> {
    /// Without the ending that the format puts behind it: `_seconds` or `_total`.
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

/// Floating point, as Prometheus takes all values.
pub(crate) enum Values<S> {
    One(fn(&S) -> f64),
    /// One for each value of a further label.
    Each(&'static str, fn(&S) -> Vec<(&'static str, f64)>),
}

type Row<S> = (Cow<'static, str>, S);
type Label<'a> = (&'a str, &'a str);

/// The handles of a kind, by their names.
pub(crate) struct Group<H>(BTreeMap<Cow<'static, str>, H>);

/// A group of whatever kind.
pub(crate) trait AnyGroup: Send {
    /// False if there is none of that name.
    fn remove(&mut self, name: &str) -> bool;

    /// Reads each handle once, and forgets those of which nothing is left.
    fn encode(&mut self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result;

    /// The kind and the name of each.
    fn names(&self) -> Vec<(&'static str, &str)>;
}

// === impl Family ===

impl<S> Family<S> {
    /// Nothing, if no snapshot has a value.
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
            Values::Each(label, values) => values(snapshot)
                .into_iter()
                .map(|(of, value)| (vec![name, (label, of)], value))
                .collect(),
        }
    }
}

// === impl Group ===

impl<H: Readable> Group<H> {
    /// False if there is one of that name, which stays.
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
