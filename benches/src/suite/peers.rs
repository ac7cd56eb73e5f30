//! The layers beside their peers: tower's own always, the others with the feature `peers`.

use super::{
    payload::{AtOnce, AtSecond, Stack},
    plan::{Plan, Section},
    pools::{self, Planned},
    record::inner,
    turns::Entry,
    worker::{Event, Worker},
};
use crate::{
    drive::{clone_each, each_thread, one_handle},
    inner::Inner,
    stacks,
};

#[cfg(feature = "peers")]
pub mod elsewhere;

/// Whether this was built with the peers of other crates than tower.
pub const ALL: bool = cfg!(feature = "peers");

/// Measures all groups.
#[inline]
pub fn measure(plan: &Plan, worker: &Worker) {
    pools::take(groups(plan.threads), plan, Section::Peers, worker, Event::Peers);
}

/// Everything that layers are compared in.
#[inline]
pub fn groups(threads: usize) -> Vec<Planned> {
    let mut groups = over(AtOnce, inner::READY);
    groups.extend(over(AtSecond, inner::PENDING));
    if threads > 1 {
        groups.push(Planned {
            name: format!("five layers, {}, {threads} threads", inner::READY),
            about: format!("{threads} threads share one stack, each with a clone of it"),
            per: "call",
            threads,
            entries: shared(),
        });
    }
    groups
}

fn over<I: Inner + Stack<u64> + Copy>(service: I, name: &str) -> Vec<Planned> {
    let group = |what: &str, entries: Vec<Entry>| Planned {
        name: format!("{what}, {name}"),
        about: format!("one thread, one handle; the service inside is {name}"),
        per: "call",
        threads: 1,
        entries,
    };
    let mut groups = vec![
        group(
            "limit",
            vec![
                Entry::new("stockade", move |rt| one_handle(rt, stacks::limit(service))),
                Entry::new("tower ConcurrencyLimit", move |rt| {
                    one_handle(rt, stacks::tower_limit(service))
                }),
            ],
        ),
        group(
            "rate",
            vec![
                Entry::new("stockade", move |rt| one_handle(rt, stacks::rate(service))),
                Entry::new("tower RateLimit (no Clone)", move |rt| {
                    one_handle(rt, stacks::tower_rate(service))
                }),
            ],
        ),
        group(
            "timeout",
            vec![
                Entry::new("stockade", move |rt| one_handle(rt, stacks::timeout(service))),
                Entry::new("tower Timeout", move |rt| {
                    one_handle(rt, stacks::tower_timeout(service))
                }),
            ],
        ),
        group(
            "retry",
            vec![
                Entry::new("stockade", move |rt| one_handle(rt, stacks::retry(service))),
                Entry::new("tower Retry (no budget)", move |rt| {
                    one_handle(rt, stacks::tower_retry(service))
                }),
            ],
        ),
        group(
            "breaker",
            vec![Entry::new("stockade", move |rt| one_handle(rt, stacks::breaker(service)))],
        ),
        group(
            "five layers",
            vec![
                Entry::new("stockade", move |rt| one_handle(rt, stacks::five(service))),
                Entry::new("tower's five (no Clone)", move |rt| {
                    one_handle(rt, stacks::tower_five(service))
                }),
                Entry::new("tower's five + Buffer", move |rt| {
                    one_handle(rt, stacks::tower_five_shared(service))
                }),
            ],
        ),
        group(
            "five layers, a clone per call",
            vec![
                Entry::new("stockade", move |rt| clone_each(rt, stacks::five(service))),
                Entry::new("tower's five + Buffer", move |rt| {
                    clone_each(rt, stacks::tower_five_shared(service))
                }),
            ],
        ),
    ];
    #[cfg(feature = "peers")]
    for (group, entry) in groups.iter_mut().zip(elsewhere::layers(service)) {
        group.entries.push(entry);
    }
    groups.retain(|group| group.entries.len() > 1);
    groups
}

#[inline]
fn shared() -> Vec<Entry> {
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        Entry::new("stockade", |rt| each_thread(rt, stacks::five(AtOnce))),
        Entry::new("tower's five + Buffer", |rt| {
            each_thread(rt, stacks::tower_five_shared(AtOnce))
        }),
    ];
    #[cfg(feature = "peers")]
    entries
        .push(Entry::new("tower-resilience's five", |rt| each_thread(rt, elsewhere::five(AtOnce))));
    entries
}
