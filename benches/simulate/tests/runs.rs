//! What every run keeps to, whatever the stack.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{ops::ControlFlow, sync::LazyLock, time::Duration};

use stockade_simulate::{
    builtin::BUILTIN,
    chart, report,
    run::{Run, run},
    scenario::{Changes, Scenario, Stack},
};

/// The scenarios that come along, with few clients and for a short time, and their runs from the seed 1.
static SMALL: LazyLock<Vec<(Scenario, Vec<Run>)>> = LazyLock::new(|| {
    let small = BUILTIN.iter().map(|builtin| {
        let (clients, duration) = (Some("5".parse().unwrap()), Some("16s".parse().unwrap()));
        let changes = Changes { clients, duration, rate: None };
        let scenario = Scenario::read(builtin.name, builtin.text).unwrap().with(changes).unwrap();
        let runs = scenario.stacks.iter().map(|stack| whole(&scenario, stack, 1)).collect();
        (scenario, runs)
    });
    small.collect()
});

fn whole(scenario: &Scenario, stack: &Stack, seed: u64) -> Run {
    run(scenario, stack, seed, |_| ControlFlow::Continue(()))
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    for (scenario, runs) in &*SMALL {
        for (stack, first) in scenario.stacks.iter().zip(runs) {
            let json = |run: &Run| {
                report::json("test", scenario, 1, std::slice::from_ref(run)).to_string()
            };

            // Too long to be shown.
            assert!(
                json(first) == json(&whole(scenario, stack, 1)),
                "{}: two differ",
                stack.name()
            );
        }
    }
}

#[test]
fn another_seed_gives_other_calls() {
    let (scenario, runs) = &SMALL[0];

    assert_ne!(runs[0].record.bins, whole(scenario, &scenario.stacks[0], 2).record.bins);
}

#[test]
fn all_stacks_are_given_the_same_calls() {
    for (_, runs) in &*SMALL {
        let calls = |run: &Run| run.record.bins.iter().map(|bin| bin.calls).collect::<Vec<_>>();

        assert!(runs.iter().all(|run| calls(run) == calls(&runs[0])));
    }
}

#[test]
fn no_task_is_left_and_no_call_is_lost() {
    for (scenario, runs) in &*SMALL {
        for (stack, run) in scenario.stacks.iter().zip(runs) {
            assert_eq!(run.left_over, 0, "{}", run.stack);
            for phase in &run.record.phases {
                let counts = phase.counts;
                let ended = counts.good + counts.late + counts.failed;
                let bounded = stack.name() != "no layers" && stack.name() != "no total timeout";
                assert!(ended == counts.calls || !bounded, "{}: {counts:?}", run.stack);
                let refused: u64 = phase.refusals.iter().map(|refusal| refusal.calls).sum();
                assert_eq!(refused, counts.failed, "{}", run.stack);
            }
        }
    }
}

#[test]
fn a_run_that_is_stopped_keeps_what_it_has() {
    let stop = Duration::from_secs(12);
    let (scenario, runs) = &SMALL[0];
    for (stack, whole) in scenario.stacks.iter().zip(runs) {
        let stopped = run(scenario, stack, 1, |now| {
            if now < stop { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });

        assert_eq!((stopped.until, stopped.left_over), (stop, 0), "{}", stack.name());
        assert_eq!(stopped.record.bins[..40], whole.record.bins[..40], "{}", stack.name());
        assert_eq!(stopped.record.bins.len(), 48, "twelve seconds");
    }
}

#[test]
fn the_chart_has_a_curve_a_stack_in_light_and_in_dark() {
    for (scenario, runs) in &*SMALL {
        let svg = chart::svg("a title & more", "a setting", scenario, runs).unwrap();

        for run in runs {
            assert!(svg.contains(&format!("\n{}\n", run.stack)), "{}", run.stack);
        }
        for phase in &scenario.phases {
            assert!(svg.contains(&format!("\n{}\n", phase.name)), "{}", phase.name);
        }
        assert!(svg.contains("prefers-color-scheme: dark"));
        assert!(svg.contains("a title &amp; more"));
        let last = r##"stroke="#1A7F37" stroke-width="4""##;
        assert_eq!(svg.matches(last).count(), 3, "in two panels and in the legend");
    }
}
