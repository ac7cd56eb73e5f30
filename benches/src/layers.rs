//! Each layer, and five together, beside their peers, called by one task a thread.

use stockade::HedgeLayer;
use tower::Layer;

use crate::{
    combo::Combo,
    drive::{clone_each, each_thread, one_handle},
    keyed,
    kit::{self, Kit, Visit},
    measured, overhead, peers,
    record::inner,
    service::{AtOnce, AtSecond, Source, Stack},
    turns::{Entry, Planned, Promise, on},
};

const OURS: &str = "stockade";
const TOWER: &str = "tower";
const BUFFERED: &str = "tower + Buffer";
#[cfg(feature = "peers")]
const RESILIENCE: &str = "tower-resilience";
const SEATBELT: &str = "seatbelt";
const BARE: &str = "the service alone";
const SHARED: &str = "stockade, calls that others could share";

/// All groups.
#[inline]
pub fn groups(threads: usize) -> Vec<Planned> {
    let mut groups = over(AtOnce, inner::READY);
    groups.extend(over(AtSecond, inner::PENDING));
    if threads > 1 {
        groups.push(shared(threads));
    }
    groups.extend(keyed::groups(threads));
    groups.extend(measured::groups(threads));
    groups.retain(|group| group.entries.len() > 1);
    groups
}

/// One of our stacks, as its overhead is measured.
#[inline]
fn ours(stack: &str, service: &'static str) -> Entry {
    let combo: Combo = stack.parse().expect("a stack of the catalogue");
    let mut entry = overhead::entry(combo, service);
    OURS.clone_into(&mut entry.name);
    entry
}

#[inline]
fn over<T: Source + Copy + 'static>(source: T, service: &'static str) -> Vec<Planned> {
    let ready = service == inner::READY;
    let group = |what: &str, stack: &str, entries: Vec<Entry>, promises: &[Promise]| Planned {
        name: format!("{what}, {service}"),
        about: format!("one thread; the service inside is {service}"),
        per: "call",
        threads: 1,
        entries: [ours(stack, service)].into_iter().chain(entries).collect(),
        promises: [Promise::NoAllocation(OURS)]
            .into_iter()
            .chain(promises.iter().filter(|_| ready).copied())
            .collect(),
    };
    let at_most = |peer, part| Promise::Time(OURS, peer, part);
    let mut groups = vec![
        group(
            "limit",
            "limit",
            vec![Entry::new(TOWER, move |rt| one_handle(rt, peers::limit(source.of::<201>())))],
            &[at_most(TOWER, 0.5)],
        ),
        group(
            "rate",
            "rate",
            // It cannot be cloned.
            vec![Entry::new(TOWER, move |rt| one_handle(rt, peers::rate(source.of::<202>())))],
            &[at_most(TOWER, 1.0)],
        ),
        group(
            "timeout",
            "timeout",
            vec![Entry::new(TOWER, move |rt| one_handle(rt, peers::timeout(source.of::<203>())))],
            &[],
        ),
        group(
            "retry",
            "retry",
            vec![Entry::new(TOWER, move |rt| one_handle(rt, peers::retry(source.of::<204>())))],
            &[at_most(TOWER, 2.0)],
        ),
        group("breaker", "breaker", Vec::new(), &[at_most(SEATBELT, 0.1)]),
        group(
            "five layers",
            FIVE,
            vec![
                // It cannot be cloned.
                Entry::new(TOWER, move |rt| one_handle(rt, peers::five(source.of::<205>()))),
                Entry::new(BUFFERED, move |rt| {
                    one_handle(rt, peers::five_buffered(source.of::<206>()))
                }),
            ],
            &[at_most(TOWER, 0.6)],
        ),
    ];
    #[cfg(feature = "peers")]
    {
        use peers::elsewhere as e;
        groups[0].entries.push(Entry::new(RESILIENCE, move |rt| {
            one_handle(rt, e::resilience_limit(source.of::<207>()))
        }));
        groups[3].entries.push(Entry::new(RESILIENCE, move |rt| {
            one_handle(rt, e::resilience_retry(source.of::<208>()))
        }));
        groups[4].entries.extend([
            Entry::new(RESILIENCE, move |rt| {
                one_handle(rt, e::resilience_breaker(source.of::<209>()))
            }),
            Entry::new(SEATBELT, move |rt| one_handle(rt, e::seatbelt_breaker(source.of::<210>()))),
        ]);
        groups[5].entries.push(Entry::new(RESILIENCE, move |rt| {
            one_handle(rt, e::resilience_five(source.of::<211>()))
        }));
    }
    let mut cloned = group("five layers, a clone per call", FIVE, Vec::new(), &[]);
    cloned.entries = vec![
        Entry::new(OURS, move |rt| Kit::passing().over(five(), &source, CloneEach(rt))),
        Entry::new(BUFFERED, move |rt| clone_each(rt, peers::five_buffered(source.of::<206>()))),
    ];
    groups.push(cloned);
    groups.extend(newer(source, service));
    groups
}

/// The layers that are in no stack of the catalogue unless they are asked for, where they do nothing.
#[inline]
fn newer<T: Source + Copy + 'static>(source: T, service: &'static str) -> Vec<Planned> {
    let group = |what: &str, ours: Entry, others: Vec<Entry>, promises: Vec<Promise>| Planned {
        name: format!("{what}, {service}"),
        about: format!("one thread; the service inside is {service}"),
        per: "call",
        threads: 1,
        entries: [ours, Entry::new(BARE, move |rt| one_handle(rt, source.of::<240>()))]
            .into_iter()
            .chain(others)
            .collect(),
        promises,
    };
    let free = || vec![Promise::NoAllocation(OURS)];
    let hedge = || Kit::passing().hedge;
    let mut groups = vec![
        group(
            "hedge",
            Entry::new(OURS, move |rt| one_handle(rt, hedge().layer(source.of::<241>()))),
            Vec::new(),
            if service == inner::READY { free() } else { Vec::new() },
        ),
        group(
            "fallback",
            Entry::new(OURS, move |rt| {
                one_handle(rt, Kit::passing().fallback.layer(source.of::<242>()))
            }),
            Vec::new(),
            free(),
        ),
        group(
            "chaos",
            Entry::new(OURS, move |rt| {
                one_handle(rt, Kit::passing().chaos.layer(source.of::<243>()))
            }),
            Vec::new(),
            free(),
        ),
        group(
            "coalesce",
            Entry::new(OURS, move |rt| one_handle(rt, kit::unshared(source.of::<244>()))),
            vec![Entry::new(SHARED, move |rt| one_handle(rt, kit::shared(source.of::<245>())))],
            free(),
        ),
    ];
    #[cfg(feature = "peers")]
    {
        use peers::elsewhere as e;
        groups[0].entries.push(Entry::new(SEATBELT, move |rt| {
            one_handle(rt, e::seatbelt_hedge(source.of::<246>()))
        }));
        groups[1].entries.push(Entry::new(SEATBELT, move |rt| {
            one_handle(rt, e::seatbelt_fallback(source.of::<247>()))
        }));
        groups[2].entries.push(Entry::new(SEATBELT, move |rt| {
            one_handle(rt, e::seatbelt_chaos(source.of::<248>()))
        }));
        groups[0].entries.push(Entry::new(RESILIENCE, move |rt| {
            one_handle(rt, e::resilience_hedge(source.of::<251>()))
        }));
        groups[1].entries.push(Entry::new(RESILIENCE, move |rt| {
            one_handle(rt, e::resilience_fallback(source.of::<252>()))
        }));
        groups[2].entries.push(Entry::new(RESILIENCE, move |rt| {
            one_handle(rt, e::resilience_chaos(source.of::<253>()))
        }));
        groups[3].entries.push(Entry::new(RESILIENCE, move |rt| {
            one_handle(rt, e::resilience_coalesce(source.of::<254>()))
        }));
    }
    // Calls that are pending for less than a microsecond are above their own percentile as soon as a clock ticks. tower's
    // hedge has no other delay, but it may never repeat them.
    if service != inner::READY {
        groups[0]
            .entries
            .push(Entry::new(TOWER, move |rt| one_handle(rt, peers::hedge(source.of::<250>()))));
    } else {
        groups.push(group(
            "hedge by percentile",
            Entry::new(OURS, move |rt| {
                one_handle(rt, HedgeLayer::percentile(0.95).layer(source.of::<249>()))
            }),
            vec![Entry::new(TOWER, move |rt| one_handle(rt, peers::hedge(source.of::<250>())))],
            free(),
        ));
    }
    groups
}

const FIVE: &str = "retry+breaker+rate+limit+timeout";

fn five() -> Combo {
    Combo { pool: false, ..Combo::FULL }
}

#[inline]
fn shared(threads: usize) -> Planned {
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        ours(FIVE, inner::READY),
        Entry::new(BUFFERED, |rt| each_thread(rt, peers::five_buffered(AtOnce::<206>))),
    ];
    #[cfg(feature = "peers")]
    entries.push(Entry::new(RESILIENCE, |rt| {
        each_thread(rt, peers::elsewhere::resilience_five(AtOnce::<211>))
    }));
    Planned {
        name: format!("five layers, {}, {}", inner::READY, on(threads)),
        about: format!("{threads} threads share one stack, each with a clone of it"),
        per: "call",
        threads,
        entries,
        promises: vec![Promise::Time(OURS, BUFFERED, 0.2)],
    }
}

/// Calls a stack through a clone for each call.
struct CloneEach<'a>(&'a std::sync::Arc<tokio::runtime::Runtime>);

impl Visit<u64> for CloneEach<'_> {
    type Out = crate::drive::Runner;

    fn visit<S: Stack>(self, stack: S) -> Self::Out {
        clone_each(self.0, stack)
    }
}
