//! Many tasks that share one stack, over a service that is pending once: what one and two timeouts add, and the
//! README's stack; and what it costs to wait for a limit in another order than first come, first served.

use stockade::{LimitLayer, Priority, PriorityLayer, TimeoutLayer};
use tower::{Layer, ServiceBuilder};

use crate::{
    drive::{ByReady, window},
    kit::Kit,
    peers,
    service::{AtSecond, Client, Stack},
    turns::{Entry, Planned, Promise, on},
};

const TIMEOUT: &str = "timeout";
const TWO: &str = "two timeouts";
const README: &str = "README's stack";
const TOWER_TIMEOUT: &str = "tower timeout";
const TOWER_TWO: &str = "two tower timeouts";
const TOWER_FOUR: &str = "tower timeout + limit + retry + timeout";
const SEATBELT: &str = "seatbelt retry + breaker + timeout";

/// All groups.
#[inline]
pub fn groups(threads: usize) -> Vec<Planned> {
    let mut counts = vec![1, threads];
    counts.dedup();
    let places =
        counts.into_iter().flat_map(|threads| [1, 64, 1_024].map(|tasks| (tasks, threads)));
    places.map(|(tasks, threads)| group(tasks, threads)).chain([waiting()]).collect()
}

/// Three of four tasks wait, and each place that becomes free is handed over.
#[inline]
fn waiting() -> Planned {
    const TASKS: u64 = 64;
    const PLACES: usize = 16;
    let limit = || LimitLayer::new(PLACES);
    let by_class = PriorityLayer::new(|n: &u64| Priority::ALL[(n % 4) as usize]);
    let by_tenant = move || limit().fair_by(|n: &u64| n % 8);
    Planned {
        name: format!("{TASKS} tasks at {PLACES} places, one thread"),
        about: format!(
            "{TASKS} tasks share a limit of {PLACES}, so most calls wait in its queue; the service inside is pending once"
        ),
        per: "call",
        threads: 1,
        entries: vec![
            entry(TASKS, "first come", move || limit().layer(AtSecond::<228>)),
            entry(TASKS, "by class", move || {
                by_class.layer(limit().by_priority().layer(AtSecond::<229>))
            }),
            entry(TASKS, "in shares", move || by_tenant().layer(AtSecond::<231>)),
        ],
        promises: Vec::new(),
    }
}

#[inline]
fn group(tasks: u64, threads: usize) -> Planned {
    let one = threads == 1;
    let adds = if one { 0.65 } else { 0.5 };
    let mut promises =
        vec![Promise::Adds(TIMEOUT, TOWER_TIMEOUT, adds), Promise::Adds(TWO, TOWER_TWO, adds)];
    if tasks > 1 {
        promises.push(Promise::Time(README, TOWER_FOUR, if one { 0.8 } else { 0.6 }));
        promises.push(Promise::Time(README, SEATBELT, if one { 0.5 } else { 0.6 }));
    }
    promises.extend([TIMEOUT, TWO, README].map(Promise::NoAllocation));
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        entry(tasks, "bare", || AtSecond::<220>),
        entry(tasks, TIMEOUT, || one_timeout(AtSecond::<221>)),
        entry(tasks, TOWER_TIMEOUT, || peers::timeout(AtSecond::<222>)),
        entry(tasks, TWO, || two_timeouts(AtSecond::<223>)),
        entry(tasks, TOWER_TWO, || peers::two_timeouts(AtSecond::<224>)),
        entry(tasks, README, || readme(AtSecond::<225>)),
        entry(tasks, TOWER_FOUR, || peers::four(AtSecond::<226>)),
    ];
    #[cfg(feature = "peers")]
    entries.push(entry(tasks, SEATBELT, || peers::elsewhere::seatbelt_three(AtSecond::<227>)));
    Planned {
        name: format!("{tasks} tasks, {}", on(threads)),
        about: format!(
            "{tasks} tasks share one stack, and each makes call after call; the service inside is pending once"
        ),
        per: "call",
        threads,
        entries,
        promises,
    }
}

fn entry<S: Client + Clone>(tasks: u64, name: &str, stack: impl Fn() -> S + 'static) -> Entry {
    Entry::new(name, move |rt| window(rt, tasks, ByReady(stack()))).by(tasks)
}

fn one_timeout(inner: impl Stack) -> impl Stack {
    ServiceBuilder::new().layer(Kit::passing().timeout).service(inner)
}

fn two_timeouts(inner: impl Stack) -> impl Stack {
    ServiceBuilder::new().layer(total()).layer(Kit::passing().timeout).service(inner)
}

/// Five layers and a total timeout, as the README has them.
pub fn readme(inner: impl Stack) -> impl Stack {
    let Kit { retry, breaker, rate, limit, timeout, .. } = Kit::passing();
    let stack = ServiceBuilder::new().layer(total()).layer(retry).layer(breaker);
    stack.layer(rate).layer(limit).layer(timeout).service(inner)
}

fn total() -> TimeoutLayer {
    TimeoutLayer::new(std::time::Duration::from_secs(30))
}
