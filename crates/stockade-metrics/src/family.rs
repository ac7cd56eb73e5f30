//! What is exported of each kind of handle: a table with a row for each metric.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use stockade_core::Reason;

/// A handle to read.
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

/// A metric, and how its value is taken from a snapshot.
pub(crate) struct Family<S> {
    /// Without the suffix that Prometheus adds: `_seconds` or `_total`.
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
    /// A histogram of seconds.
    Histogram,
}

/// Values are floating point numbers, as everywhere in Prometheus.
pub(crate) enum Values<S> {
    One(fn(&S) -> f64),
    /// One, where it is known.
    Known(fn(&S) -> Option<f64>),
    /// One for each value of a second label.
    Each(&'static str, fn(&S) -> Vec<(&'static str, f64)>),
    /// How durations are distributed.
    Spread(fn(&S) -> &Distribution),
}

/// How many durations were how long.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Distribution {
    /// Up to how many seconds, and how many durations are between that and the bound before. The last bound is
    /// infinite.
    pub(crate) buckets: Vec<(f64, u64)>,
    /// In seconds.
    pub(crate) sum: f64,
    pub(crate) count: u64,
}

/// A metric without its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) sort: Sort,
}

/// A value of a metric.
pub(crate) struct Sample<'a> {
    /// Of the handle.
    pub(crate) name: &'a str,
    /// A second label, and its value.
    pub(crate) label: Option<(&'static str, &'static str)>,
    pub(crate) value: Value<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Number(f64),
    Spread(&'a Distribution),
}

/// Where metrics are written to.
pub(crate) trait Export {
    /// Whether this one is wanted.
    fn wants(&self, _about: About) -> bool {
        true
    }

    /// Writes the values that all handles of a kind have of it; there is at least one.
    fn write(&mut self, about: About, samples: &[Sample<'_>]) -> fmt::Result;
}

/// The handles of one kind, by their names.
pub(crate) struct Group<H>(BTreeMap<Cow<'static, str>, H>);

/// A group of any kind.
pub(crate) trait AnyGroup: Send {
    /// Returns false if there is none of this name.
    fn remove(&mut self, name: &str) -> bool;

    /// Reads each handle once, and drops those whose layer or pool is gone.
    fn export(&mut self, to: &mut dyn Export) -> fmt::Result;

    /// The metrics of this kind.
    fn about(&self) -> Vec<About>;

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
    fn about(&self) -> About {
        About { name: self.name, help: self.help, sort: self.sort }
    }

    fn samples<'a>(&self, name: &'a str, snapshot: &'a S) -> Vec<Sample<'a>> {
        let number = |label, value| Sample { name, label, value: Value::Number(value) };
        match self.values {
            Values::One(value) => vec![number(None, value(snapshot))],
            Values::Known(value) => {
                value(snapshot).map(|value| number(None, value)).into_iter().collect()
            }
            Values::Each(label, values) => values(snapshot)
                .into_iter()
                .map(|(of, value)| number(Some((label, of)), value))
                .collect(),
            Values::Spread(of) => {
                vec![Sample { name, label: None, value: Value::Spread(of(snapshot)) }]
            }
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

    /// A snapshot of each handle that has something to read.
    fn read(&mut self) -> Vec<(Cow<'static, str>, H::Snapshot)> {
        let mut rows = Vec::with_capacity(self.0.len());
        self.0.retain(|name, handle| {
            let snapshot = handle.read();
            let is_there = snapshot.is_some();
            rows.extend(snapshot.map(|snapshot| (name.clone(), snapshot)));
            is_there
        });
        rows
    }
}

impl<H: Readable + Send> AnyGroup for Group<H> {
    fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    fn export(&mut self, to: &mut dyn Export) -> fmt::Result {
        let rows = self.read();
        for family in H::FAMILIES {
            if !to.wants(family.about()) {
                continue;
            }
            let samples: Vec<_> =
                rows.iter().flat_map(|(name, snapshot)| family.samples(name, snapshot)).collect();
            if !samples.is_empty() {
                to.write(family.about(), &samples)?;
            }
        }
        Ok(())
    }

    fn about(&self) -> Vec<About> {
        H::FAMILIES.iter().map(Family::about).collect()
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
