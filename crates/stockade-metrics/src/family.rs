//! What is exported of each kind of handle: a table with a row for each metric.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use stockade_core::{Reason, priority::Priority};

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

    /// What the dashboard shows beside the metrics.
    #[cfg(feature = "dashboard")]
    fn detail(&self, _now: Now) -> Vec<(&'static str, serde_json::Value)> {
        Vec::new()
    }

    /// What has to be done to follow an order; `None` if this kind does not know it.
    #[cfg(feature = "dashboard")]
    fn order(&self, _order: Order) -> Option<Action> {
        None
    }
}

/// What somebody asks for on the dashboard.
#[cfg(feature = "dashboard")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    ForceOpen,
    Pause,
    Resume,
    /// Sets a limit to this many calls.
    Change(u64),
}

/// Follows an order, under no lock, because it may wake tasks. Returns what has to be kept for as long as the order
/// holds.
#[cfg(feature = "dashboard")]
pub(crate) type Action =
    Box<dyn FnOnce() -> Result<Option<Box<dyn std::any::Any + Send>>, String> + Send>;

/// The time since the dashboard began. A job that began at one instant has one number, however old it is when it is
/// looked at, so that nothing is sent anew only because a job gets older.
#[cfg(feature = "dashboard")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now(pub(crate) std::time::Duration);

/// A handle with its values.
#[cfg(feature = "dashboard")]
pub(crate) struct Row<'a> {
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    pub(crate) metrics: Vec<(About, Vec<Sample<'a>>)>,
    pub(crate) detail: Vec<(&'static str, serde_json::Value)>,
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

    /// Shows each handle with its values, and drops those whose layer or pool is gone.
    #[cfg(feature = "dashboard")]
    fn rows(&mut self, now: Now, show: &mut dyn FnMut(&Row<'_>));

    /// How to follow an order, if this is the kind and there is a handle of this name.
    #[cfg(feature = "dashboard")]
    fn order(&self, kind: &str, name: &str, order: Order) -> Option<Option<Action>>;

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

/// The number of refusals for each class.
#[allow(dead_code, reason = "not every kind has classes")]
pub(crate) fn refused_of(of: impl Fn(Priority) -> u64) -> Vec<(&'static str, f64)> {
    Priority::ALL.map(|priority| (priority.as_str(), of(priority) as f64)).to_vec()
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

// === impl Now ===

#[cfg(feature = "dashboard")]
impl Now {
    /// When something of this age began, in tenths of a second; negative if that was before the dashboard began.
    pub(crate) fn since(self, age: std::time::Duration) -> i64 {
        ((self.0.as_secs_f64() - age.as_secs_f64()) * 10.0).round() as i64
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

    #[cfg(feature = "dashboard")]
    fn rows(&mut self, now: Now, show: &mut dyn FnMut(&Row<'_>)) {
        self.0.retain(|name, handle| {
            let Some(snapshot) = handle.read() else { return false };
            let metrics = H::FAMILIES.iter();
            let metrics = metrics.map(|family| (family.about(), family.samples(name, &snapshot)));
            let detail = handle.detail(now);
            show(&Row { kind: H::KIND, name, metrics: metrics.collect(), detail });
            true
        });
    }

    #[cfg(feature = "dashboard")]
    fn order(&self, kind: &str, name: &str, order: Order) -> Option<Option<Action>> {
        let handle = self.0.get(name).filter(|_| kind == H::KIND)?;
        Some(handle.order(order))
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
