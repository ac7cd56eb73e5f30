//! What it costs to count calls and to time them.

use stockade::{Budget, Class, MeasureLayer, RetryLayer, retry::Backoff};
use tower::{Layer, ServiceBuilder};

#[cfg(feature = "peers")]
use crate::peers::elsewhere as e;
use crate::{
    drive::{each_thread, one_handle},
    record::inner,
    service::{AtOnce, AtSecond, Failure, Source, Stack},
    turns::{Entry, Planned, Promise, on},
};

const BARE: &str = "the service alone";
const MEASURED: &str = "stockade, measured";
const RETRY: &str = "stockade, retry";
const RETRY_MEASURED: &str = "stockade, measured retry";
const ALONE: &str = "one task";
const TOGETHER: &str = "a task on each thread";
#[cfg(feature = "peers")]
const PEER: &str = "seatbelt, retry";
#[cfg(feature = "peers")]
const PEER_MEASURED: &str = "seatbelt, retry with metrics";

/// How often a call is tried where attempts are counted.
const ATTEMPTS: u32 = 3;

/// All groups.
#[inline]
pub fn groups(threads: usize) -> Vec<Planned> {
    let mut groups = vec![over(AtOnce, inner::READY), over(AtSecond, inner::PENDING), attempts()];
    if threads > 1 {
        groups.push(shared(threads));
    }
    groups
}

#[inline]
fn measured(inner: impl Stack) -> impl Stack {
    MeasureLayer::new().layer(inner)
}

#[inline]
fn over<T: Source + Copy + 'static>(source: T, service: &'static str) -> Planned {
    Planned {
        name: format!("measure, {service}"),
        about: format!("one thread; the service inside is {service}"),
        per: "call",
        threads: 1,
        entries: vec![
            Entry::new(MEASURED, move |rt| one_handle(rt, measured(source.of::<212>()))),
            Entry::new(BARE, move |rt| one_handle(rt, source.of::<213>())),
        ],
        promises: vec![Promise::NoAllocation(MEASURED)],
    }
}

/// seatbelt counts what goes wrong, and no call that goes well, so the calls here are tried three times.
#[inline]
fn attempts() -> Planned {
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut entries = vec![
        Entry::new(RETRY, |rt| one_handle::<u64>(rt, retry().layer(AtOnce::<214>))),
        Entry::new(RETRY_MEASURED, |rt| {
            let stack = ServiceBuilder::new().layer(MeasureLayer::new()).layer(retry());
            one_handle::<u64>(rt, stack.service(AtOnce::<215>))
        }),
    ];
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "without peers it is all"))]
    let mut promises = Vec::new();
    #[cfg(feature = "peers")]
    {
        entries.extend([
            Entry::new(PEER, |rt| {
                one_handle(rt, e::seatbelt_attempts(AtOnce::<216>, ATTEMPTS, false))
            }),
            Entry::new(PEER_MEASURED, |rt| {
                one_handle(rt, e::seatbelt_attempts(AtOnce::<217>, ATTEMPTS, true))
            }),
        ]);
        promises.push(Promise::AddsTo((RETRY_MEASURED, RETRY), (PEER_MEASURED, PEER), 0.25));
    }
    Planned {
        name: "measure, three attempts".to_owned(),
        about: "one thread; a retry tries each call three times, and its attempts are counted"
            .to_owned(),
        per: "call",
        threads: 1,
        entries,
        promises,
    }
}

/// A retry to which no answer is good enough.
#[inline]
fn retry() -> RetryLayer<stockade::retry::Policy<impl Fn(Result<&u64, &Failure>) -> Class + Clone>>
{
    RetryLayer::max_attempts(ATTEMPTS)
        .backoff(Backoff::none())
        .budget(Budget::unlimited())
        .classify(|_: Result<&u64, &Failure>| Class::TRANSIENT)
}

#[inline]
fn shared(threads: usize) -> Planned {
    Planned {
        name: format!("measure, {}, {}", inner::READY, on(threads)),
        about: format!(
            "what a call takes while others on {threads} threads are counted in one place"
        ),
        per: "call",
        threads,
        entries: vec![
            Entry::new(ALONE, |rt| one_handle(rt, measured(AtOnce::<218>))),
            Entry::new(TOGETHER, |rt| each_thread(rt, measured(AtOnce::<219>))),
        ],
        promises: vec![Promise::Time(TOGETHER, ALONE, 1.3)],
    }
}
