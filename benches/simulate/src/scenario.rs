//! A scenario, as it stands in its file.

use std::{ops::Range, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use crate::{
    fault::Fault,
    layers::Layer,
    values::{Amount, Count, Moment, Positive, Share, Span},
};

/// A fleet, its server, what happens to them, and the stacks that are to be compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line that says what the scenario shows.
    #[serde(default)]
    pub about: String,
    /// The clients.
    pub fleet: Fleet,
    /// The server that all of them call.
    pub server: Server,
    /// What the network does to answers in the phases with `chaos = true`.
    pub chaos: Option<Chaos>,
    /// What happens, in order; the first phase begins at the beginning.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// What the clients are built of, a run each.
    #[serde(rename = "stack")]
    pub stacks: Vec<Stack>,
}

/// The clients: each one is a process of its own, with a stack of its own that shares nothing with the others'.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// How many there are.
    pub clients: Count,
    /// How many calls a second each of them makes, on average.
    pub rate: Positive,
    /// How long the caller behind a call waits: an answer after that is worth nothing.
    pub patience: Span,
    /// How long all of it lasts.
    pub duration: Span,
}

/// The server: workers with one queue in front of them, first come, first served.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "ServerText")]
pub struct Server {
    /// How many requests it works on at once.
    pub size: Size,
    /// How long a worker takes for one request, on average.
    pub service_time: Span,
    /// How these times are spread.
    pub spread: Spread,
    /// How much may wait in its queue, as the time in which all workers get through it; what comes on top is refused.
    pub queue: Span,
}

/// How the size of a server was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// So many workers.
    Workers(Count),
    /// As many workers as make the calm fleet take this share of their time.
    Load(Share),
}

/// How service times are spread around their mean.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Exponentially: many short ones, a few long ones.
    #[default]
    Exponential,
    /// Not at all.
    Constant,
}

/// Faults on the way between a client and the server, each with its probability for a call by itself. They are made by
/// [`ChaosLayer`](stockade::ChaosLayer).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chaos {
    /// Answers that come late.
    pub slow: Option<Share>,
    /// How late these come; half a second if it is left out.
    pub by: Option<Span>,
    /// Calls that fail, as if the server was busy, and do not reach it.
    pub errors: Option<Share>,
    /// Calls that are never answered, and do not reach the server.
    pub hangs: Option<Share>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerText {
    workers: Option<Count>,
    load: Option<Share>,
    service_time: Span,
    #[serde(default)]
    spread: Spread,
    queue: Span,
}

/// A part of the time in which fleet and server stay as they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What it is called in tables and in the chart.
    pub name: String,
    /// When it begins. It ends where the next one begins.
    pub at: Spanned<Moment>,
    /// By what the rate of the calls is multiplied.
    #[serde(default = "one")]
    pub load: Positive,
    /// By what the speed of the server is multiplied; 0 makes it stand still.
    #[serde(default = "full")]
    pub capacity: Amount,
    /// Whether the faults of [`Scenario::chaos`] befall calls.
    #[serde(default)]
    pub chaos: bool,
}

/// What the clients of one run are built of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// What it is called in tables and in the chart.
    pub name: Spanned<String>,
    /// Its layers, outermost first.
    pub layers: Vec<Layer>,
}

/// What the command line sets in place of the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// For [`Fleet::clients`].
    pub clients: Option<Count>,
    /// For [`Fleet::rate`].
    pub rate: Option<Positive>,
    /// For [`Fleet::duration`].
    pub duration: Option<Span>,
}

/// More calls a second are no longer told apart by nanoseconds.
const MOST_CALLS: f64 = 1e7;

// === impl Scenario ===

impl Scenario {
    /// Reads `text`, which is that of the file `path`.
    ///
    /// # Errors
    ///
    /// When it is no scenario; the error says where, and what would have been right.
    pub fn read(path: &str, text: &str) -> Result<Self, Fault> {
        let scenario: Self = toml::from_str(text)
            .map_err(|error| Fault::new(path, text, error.span(), error.message()))?;
        scenario.check().map_err(|(span, message)| Fault::new(path, text, span, &message))?;
        Ok(scenario)
    }

    /// Puts in what the command line said. Phases that would begin after the end are left out.
    ///
    /// # Errors
    ///
    /// When the fleet becomes too large.
    pub fn with(mut self, changes: Changes) -> Result<Self, String> {
        let Changes { clients, rate, duration } = changes;
        self.fleet.clients = clients.unwrap_or(self.fleet.clients);
        self.fleet.rate = rate.unwrap_or(self.fleet.rate);
        self.fleet.duration = duration.unwrap_or(self.fleet.duration);
        let end = self.fleet.duration.get();
        self.phases.retain(|phase| phase.at() < end);
        self.check_size()?;
        Ok(self)
    }

    /// How many calls a second the whole fleet makes while it is calm.
    pub fn calls_per_second(&self) -> f64 {
        f64::from(self.fleet.clients.get()) * self.fleet.rate.get()
    }

    /// How many workers the server has.
    pub fn workers(&self) -> usize {
        match self.server.size {
            Size::Workers(n) => n.size(),
            Size::Load(load) => {
                let busy = self.calls_per_second() * self.server.service_time.get().as_secs_f64();
                (busy / load.get()).round().max(1.0) as usize
            }
        }
    }

    /// How many requests a second the server can answer.
    pub fn capacity(&self) -> f64 {
        self.workers() as f64 / self.server.service_time.get().as_secs_f64()
    }

    /// How many requests may wait in the server's queue.
    pub fn queue(&self) -> usize {
        (self.capacity() * self.server.queue.get().as_secs_f64()).ceil() as usize
    }

    /// When the phase of this number begins and ends.
    pub fn bounds(&self, phase: usize) -> Range<Duration> {
        let end = self.phases.get(phase + 1).map_or(self.fleet.duration.get(), Phase::at);
        self.phases[phase].at()..end
    }

    /// The phases that come after a disturbance and have none themselves.
    pub fn recoveries(&self) -> impl Iterator<Item = usize> {
        let after = self.phases.windows(2).enumerate();
        after.filter(|(_, pair)| !pair[0].is_calm() && pair[1].is_calm()).map(|(n, _)| n + 1)
    }

    fn check_size(&self) -> Result<(), String> {
        let load = self.phases.iter().map(|phase| phase.load.get()).fold(1.0, f64::max);
        let calls = self.calls_per_second() * load;
        if calls <= MOST_CALLS {
            return Ok(());
        }
        Err(format!(
            "the fleet would make {calls:.0} calls a second (clients, times rate, times the load of a phase); \
             {MOST_CALLS:.0} is the most"
        ))
    }

    /// What no single value shows.
    fn check(&self) -> Result<(), (Option<Range<usize>>, String)> {
        let Some(first) = self.phases.first() else {
            return Err((None, "there is no phase; the first one begins at = \"0s\"".to_owned()));
        };
        let fault = |phase: &Phase, message: String| Err((Some(phase.at.span()), message));
        if !first.at().is_zero() {
            let begins = told(first.at());
            return fault(first, format!("the first phase has to begin at \"0s\", not {begins}"));
        }
        for pair in self.phases.windows(2) {
            let ([before, phase], begins) = (pair, told(pair[1].at())) else { continue };
            if phase.at() <= before.at() {
                let (name, at) = (&before.name, told(before.at()));
                let rule = "phases stand in the order in which they begin";
                return fault(
                    phase,
                    format!(
                        "{rule}: this one has to begin after {at}, when {name:?} does, not {begins}"
                    ),
                );
            }
        }
        let (end, last) = (self.fleet.duration.get(), self.phases.last().unwrap_or(first));
        if last.at() >= end {
            let end = told(end);
            return fault(
                last,
                format!("the phase has to begin before the end: `fleet.duration` is {end}"),
            );
        }
        if let Some(phase) = self.phases.iter().find(|phase| phase.chaos && self.chaos.is_none()) {
            let message = "`chaos = true` needs a table [chaos] that says what goes wrong, such as slow = 0.01";
            return fault(phase, message.to_owned());
        }
        self.check_size().map_err(|message| (None, message))?;
        if self.stacks.is_empty() {
            return Err((None, "there is no stack; one of no layers is `layers = []`".to_owned()));
        }
        for (n, stack) in self.stacks.iter().enumerate() {
            if self.stacks[..n].iter().any(|other| other.name() == stack.name()) {
                let message = "another stack has this name already; each needs its own".to_owned();
                return Err((Some(stack.name.span()), message));
            }
        }
        Ok(())
    }
}

// === impl Server ===

impl TryFrom<ServerText> for Server {
    type Error = String;

    fn try_from(text: ServerText) -> Result<Self, String> {
        let ServerText { workers, load, service_time, spread, queue } = text;
        let size = match (workers, load) {
            (Some(workers), None) => Size::Workers(workers),
            (None, Some(load)) => Size::Load(load),
            _ => {
                return Err("the server's size is either `workers`, how many requests it works on at once, or \
                            `load`, the share of its time that the calm fleet takes, such as 0.75"
                    .to_owned());
            }
        };
        Ok(Self { size, service_time, spread, queue })
    }
}

// === impl Phase ===

impl Phase {
    /// When it begins.
    pub fn at(&self) -> Duration {
        self.at.get_ref().get()
    }

    /// Whether nothing out of the ordinary happens in it.
    pub fn is_calm(&self) -> bool {
        (self.load, self.capacity, self.chaos) == (one(), full(), false)
    }
}

// === impl Stack ===

impl Stack {
    /// What it is called.
    pub fn name(&self) -> &str {
        self.name.get_ref()
    }
}

fn one() -> Positive {
    Positive::ONE
}

fn full() -> Amount {
    Amount::ONE
}

fn told(time: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(time))
}
