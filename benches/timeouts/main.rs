//! Measures what timeouts add to a call that is pending once, beside tower's, where many tasks run.

use std::{env, time::Duration};

use stockade_benches::{
    drive::{ByReady, window},
    inner::PendingOnce,
    measure::{BARE, Case, Effort, Flavor, Group},
    stacks,
};

fn main() {
    let quick = env::args().any(|arg| arg == "--quick");
    let rounds = if quick { 15 } else { 60 };
    let effort = Effort { rounds, round: Duration::from_millis(6), long_rounds: rounds };
    println!(
        "What timeouts add to a call, of what tower's add: median (lower to upper quartile) of {rounds} rounds."
    );
    println!("{:>8} {:>6}  {:24} {:24}", "threads", "tasks", "one timeout", "two timeouts");
    for (threads, flavor) in [(1, Flavor::CurrentThread), (2, Flavor::MultiThread)] {
        for tasks in [1, 64, 1_024] {
            let measured = group(flavor, tasks).run(effort);
            let ratio = |name| {
                let row = measured.row(name).expect("it is a case");
                let adds = measured.adds(row).expect("it is not the bare case").median;
                let of = measured.ratio_of_adds(row);
                of.map_or_else(String::new, |of| {
                    format!("{:.2} ({:.2}-{:.2}) {adds:.0} ns", of.median, of.low, of.high)
                })
            };
            println!("{threads:>8} {tasks:>6}  {:24} {:24}", ratio("one"), ratio("two"));
        }
    }
}

fn group(flavor: Flavor, tasks: u64) -> Group {
    let cases = vec![
        Case::new(BARE, move |runtime| window(runtime, tasks, ByReady(PendingOnce))),
        Case::new("tower's one", move |runtime| {
            window(runtime, tasks, ByReady(stacks::tower_timeout(PendingOnce)))
        }),
        Case::new("one", move |runtime| {
            window(runtime, tasks, ByReady(stacks::timeout(PendingOnce)))
        })
        .against("tower's one"),
        Case::new("tower's two", move |runtime| {
            window(runtime, tasks, ByReady(stacks::tower_two_timeouts(PendingOnce)))
        }),
        Case::new("two", move |runtime| {
            window(runtime, tasks, ByReady(stacks::two_timeouts(PendingOnce)))
        })
        .against("tower's two"),
    ];
    let about = format!("{tasks} tasks make one call after the other, each pending once");
    Group { name: "timeouts".to_owned(), about, flavor, calls: None, cases }
}
