//! What is measured: groups of cases that compare.

use crate::{
    drive::{self, ByReady, BySpawn, BySubmit, clone_each, each_thread, one_handle, window},
    inner::{Inner, PendingOnce, Ready},
    measure::{BARE, Case, Flavor, Group},
    stacks,
};

/// The names of the groups that goals are about.
pub mod names {
    /// The service inside is ready, one thread.
    pub const READY: &str = "ready";
    /// The service inside is pending once, one thread.
    pub const PENDING: &str = "pending-once";
    /// The service inside is pending once, a runtime of two workers.
    pub const PENDING_MULTI: &str = "pending-once-multi";
    /// The service inside is ready, two threads share what is called.
    pub const SHARED: &str = "two-threads";
    /// What the groups about pools begin with.
    pub const POOL: &str = "pool";
}

/// The layers, each alone, as cases are called.
pub const LAYERS: [&str; 5] = ["limit", "rate", "timeout", "retry", "breaker"];
/// The five layers together, called through one handle.
pub const FIVE: &str = "five";
/// The five layers together, called through a clone for each call.
pub const FIVE_CLONED: &str = "five, clone each";
/// A pool's job.
pub const POOL_JOB: &str = "pool job";

const JOBS: u64 = 1_000_000;

/// Everything that `pass_path` measures.
pub fn pass_path() -> Vec<Group> {
    let mut groups = vec![
        Group {
            name: names::READY.to_owned(),
            about: "The service inside is ready at its first poll; one task of a current-thread runtime."
                .to_owned(),
            flavor: Flavor::CurrentThread,
            calls: None,
            cases: pass_path_over(Ready),
        },
        Group {
            name: names::PENDING.to_owned(),
            about: "The service inside is pending once; one task of a current-thread runtime.".to_owned(),
            flavor: Flavor::CurrentThread,
            calls: None,
            cases: pass_path_over(PendingOnce),
        },
        Group {
            name: names::PENDING_MULTI.to_owned(),
            about: "The service inside is pending once; one task of a runtime with two workers.".to_owned(),
            flavor: Flavor::MultiThread,
            calls: None,
            cases: pass_path_over(PendingOnce),
        },
        Group {
            name: names::SHARED.to_owned(),
            about: "Two tasks on two threads share one stack, each with a clone of it; the service inside is \
                    ready. Nanoseconds from one call of a task to its next."
                .to_owned(),
            flavor: Flavor::MultiThread,
            calls: None,
            cases: shared_over(Ready),
        },
    ];
    for (flavor, threads) in [(Flavor::CurrentThread, 1), (Flavor::MultiThread, 2)] {
        for outstanding in [1, 64, 1_024] {
            groups.push(Group {
                name: format!("{}-{outstanding}-on-{threads}", names::POOL),
                about: format!(
                    "Round trips of a job that does nothing through 4 workers, {outstanding} outstanding, \
                     threads: {threads}."
                ),
                flavor,
                calls: None,
                cases: pool(outstanding),
            });
        }
        groups.push(Group {
            name: format!("run-on-{threads}"),
            about: format!(
                "{JOBS} jobs that do nothing through 4 workers into one collector, threads: {threads}."
            ),
            flavor,
            calls: Some(JOBS),
            cases: run(),
        });
    }
    groups
}

fn pass_path_over(inner: impl Inner + Copy) -> Vec<Case> {
    vec![
        Case::new(BARE, move |rt| one_handle(rt, inner)),
        Case::new("limit", move |rt| one_handle(rt, stacks::limit(inner))).against("tower limit"),
        Case::new("tower limit", move |rt| one_handle(rt, stacks::tower_limit(inner))),
        Case::new("rate", move |rt| one_handle(rt, stacks::rate(inner))).against("tower rate"),
        Case::new("tower rate", move |rt| one_handle(rt, stacks::tower_rate(inner))),
        Case::new("timeout", move |rt| one_handle(rt, stacks::timeout(inner)))
            .against("tower timeout"),
        Case::new("tower timeout", move |rt| one_handle(rt, stacks::tower_timeout(inner))),
        Case::new("retry", move |rt| one_handle(rt, stacks::retry(inner))).against("tower retry"),
        Case::new("tower retry", move |rt| one_handle(rt, stacks::tower_retry(inner))),
        Case::new("breaker", move |rt| one_handle(rt, stacks::breaker(inner))),
        Case::new(FIVE, move |rt| one_handle(rt, stacks::five(inner))).against("tower five"),
        Case::new("tower five", move |rt| one_handle(rt, stacks::tower_five(inner))),
        Case::new(FIVE_CLONED, move |rt| clone_each(rt, stacks::five(inner)))
            .against("tower five + buffer, clone each"),
        Case::new("tower five + buffer, clone each", move |rt| {
            clone_each(rt, stacks::tower_five_shared(inner))
        }),
    ]
}

fn shared_over(inner: impl Inner + Copy) -> Vec<Case> {
    vec![
        Case::new(BARE, move |rt| each_thread(rt, inner)),
        Case::new("limit", move |rt| each_thread(rt, stacks::limit(inner))).against("tower limit"),
        Case::new("tower limit", move |rt| each_thread(rt, stacks::tower_limit(inner))),
        Case::new("breaker", move |rt| each_thread(rt, stacks::breaker(inner))),
        Case::new(FIVE, move |rt| each_thread(rt, stacks::five(inner)))
            .against("tower five + buffer"),
        Case::new("tower five + buffer", move |rt| {
            each_thread(rt, stacks::tower_five_shared(inner))
        }),
    ]
}

fn pool(outstanding: u64) -> Vec<Case> {
    let job = Case::new(POOL_JOB, move |rt| match outstanding {
        1 => window(rt, 1, ByReady(stacks::pool())),
        more => window(rt, more, BySubmit(stacks::pool())),
    });
    vec![
        job.against("spawn + JoinHandle"),
        Case::new("spawn + JoinHandle", move |rt| window(rt, outstanding, BySpawn(Ready))),
        Case::new("tower Buffer + limit", move |rt| {
            window(rt, outstanding, ByReady(stacks::tower_pool()))
        })
        .against("spawn + JoinHandle"),
    ]
}

fn run() -> Vec<Case> {
    vec![
        Case::new("pool.run", |rt| drive::run(rt, stacks::pool())).against("JoinSet of 128"),
        Case::new("JoinSet of 128", |rt| drive::join_set(rt, 128, Ready)),
    ]
}
