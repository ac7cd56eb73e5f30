//! A stack per key beside the bare stack, for a few keys and for many, and beside what others have for keys.

use std::{hint::black_box, sync::Arc};

use stockade::{BreakerLayer, KeyedLayer, LimitLayer, RateLayer};
use tower::{Layer, ServiceBuilder, ServiceExt, layer::util::Stack as Layers, service_fn};

#[cfg(feature = "peers")]
use crate::peers::elsewhere;
use crate::{
    drive::{Runner, each_thread, one_handle},
    kit::Kit,
    service::{AtOnce, Stack, key},
    turns::{Entry, Planned, Promise, on},
};

const BARE: &str = "bare stacks, cloned for each call";
const KEYED: &str = "stockade";
const ALONE: &str = "one of the threads alone";
const BOTH: &str = "all threads";
const BARE_BOTH: &str = "all threads, bare stacks";

/// All groups.
#[inline]
pub fn groups(threads: usize) -> Vec<Planned> {
    let keys = [1, 1_000, 100_000];
    let mut groups: Vec<_> = keys.map(group).into();
    if threads > 1 {
        groups.extend(keys.map(|keys| shared(keys, threads)));
    }
    groups
}

#[inline]
fn group(keys: u64) -> Planned {
    let mut entries = vec![
        Entry::new(BARE, move |rt| one_handle(rt, bare(keys))),
        Entry::new(KEYED, move |rt| warm(one_handle(rt, keyed(keys)), keys)),
    ];
    if keys == 1_000 {
        let rate = move |rt: &_| warm(one_handle(rt, rate(keys)), keys);
        entries.push(Entry::new("stockade rate, keyed", rate));
        #[cfg(feature = "peers")]
        entries.extend([
            Entry::new("seatbelt breaker with ids", move |rt| {
                let breaker = elsewhere::seatbelt_keyed_breaker(AtOnce::<203>, keys);
                warm(one_handle(rt, breaker), keys)
            }),
            Entry::new("governor, keyed, no service", move |rt| {
                warm(elsewhere::governor_keyed(rt, keys), keys)
            }),
        ]);
    }
    Planned {
        name: format!("a stack for each of {keys} keys"),
        about: "one thread; a breaker, a rate limit, a limit and a timeout for each key, and a service that is ready at once"
            .to_owned(),
        per: "call",
        threads: 1,
        entries,
        promises: vec![Promise::Time(KEYED, BARE, 2.0), Promise::NoAllocation(KEYED)],
    }
}

/// With one key all threads write to the limit and the rate limit of one stack, which is slow with keys and without.
#[inline]
fn shared(keys: u64, threads: usize) -> Planned {
    let promise = match keys {
        1 => Promise::Time(BOTH, BARE_BOTH, 2.0),
        _ => Promise::Time(BOTH, ALONE, 1.5),
    };
    Planned {
        name: format!("a stack for each of {keys} keys, {}", on(threads)),
        about: format!("{threads} threads share all stacks, each with a clone"),
        per: "call",
        threads,
        entries: vec![
            Entry::new(ALONE, move |rt| warm(one_handle(rt, keyed(keys)), keys)),
            Entry::new(BOTH, move |rt| warm(each_thread(rt, keyed(keys)), keys)),
            Entry::new(BARE_BOTH, move |rt| each_thread(rt, bare(keys))),
        ],
        promises: vec![promise],
    }
}

/// Takes the stack of each call's key from an array.
fn bare(keys: u64) -> impl Stack {
    let stacks: Arc<[_]> = (0..keys).map(|_| layers().layer(AtOnce::<200>)).collect();
    service_fn(move |n| black_box(&stacks[key(n, keys) as usize]).clone().oneshot(n))
}

type Four = Layers<stockade::TimeoutLayer, Layers<LimitLayer, Layers<RateLayer, BreakerLayer>>>;

/// New layers, which let every call pass.
fn layers() -> Four {
    let Kit { breaker, rate, limit, timeout, .. } = Kit::passing();
    Layers::new(timeout, Layers::new(limit, Layers::new(rate, breaker)))
}

fn keyed(keys: u64) -> impl Stack {
    KeyedLayer::new(move |n: &u64| key(*n, keys), keys as usize, |_: &u64| layers())
        .layer(AtOnce::<201>)
}

fn rate(keys: u64) -> impl Stack {
    let rate = RateLayer::per_second(1_000_000_000);
    ServiceBuilder::new()
        .layer(rate.keyed(move |n: &u64| key(*n, keys), keys as usize))
        .service(AtOnce::<202>)
}

/// Makes the stack of each key before anything is measured.
fn warm(mut runner: Runner, keys: u64) -> Runner {
    runner(keys);
    runner
}
