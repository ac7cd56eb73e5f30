//! What every run keeps to, whatever the stack.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{ops::ControlFlow, time::Duration};

use stockade_simulate::{
    builtin::BUILTIN,
    chart, report,
    run::{Run, run},
    scenario::{Changes, Scenario},
};

/// The scenarios that come along, with few clients and for a short time.
fn small(clients: &str) -> impl Iterator<Item = Scenario> {
    BUILTIN.iter().map(move |builtin| {
        let clients = Some(clients.parse().unwrap());
        let duration = Some("16s".parse().unwrap());
        let scenario = Scenario::read(builtin.name, builtin.text).unwrap();
        scenario.with(Changes { clients, duration, rate: None }).unwrap()
    })
}

fn all(scenario: &Scenario, seed: u64) -> Vec<Run> {
    let go_on = |_| ControlFlow::Continue(());
    scenario.stacks.iter().map(|stack| run(scenario, stack, seed, go_on)).collect()
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    for scenario in small("5") {
        let json = |seed| report::json("test", &scenario, seed, &all(&scenario, seed)).to_string();

        let first = json(7);
        // Too long to be shown.
        assert!(first == json(7), "two runs differ");
        assert!(first != json(8), "another seed changes nothing");
    }
}

#[test]
fn all_stacks_are_given_the_same_calls() {
    for scenario in small("5") {
        let calls = |run: &Run| run.record.bins.iter().map(|bin| bin.calls).collect::<Vec<_>>();
        let runs = all(&scenario, 1);

        assert!(runs.iter().all(|run| calls(run) == calls(&runs[0])));
    }
}

#[test]
fn no_task_is_left_and_no_call_is_lost() {
    for scenario in small("5") {
        for (stack, run) in scenario.stacks.iter().zip(all(&scenario, 1)) {
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
    for scenario in small("5") {
        for stack in &scenario.stacks {
            let stopped = run(&scenario, stack, 1, |now| {
                if now < stop { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });

            assert_eq!((stopped.until, stopped.left_over), (stop, 0), "{}", stack.name());
            let before = stopped.record.phases[0].counts;
            let whole = run(&scenario, stack, 1, |_| ControlFlow::Continue(()));
            assert_eq!(before.good, whole.record.phases[0].counts.good);
            assert_eq!(stopped.record.bins.len(), 48, "twelve seconds");
        }
    }
}

#[test]
fn the_chart_has_a_curve_a_stack_in_light_and_in_dark() {
    for scenario in small("2") {
        let runs = all(&scenario, 1);
        let svg = chart::svg("a title & more", "a setting", &scenario, &runs).unwrap();

        for run in &runs {
            assert!(
                svg.contains(&format!("\n{}\n", run.stack.replace('<', "&lt;"))),
                "{}",
                run.stack
            );
        }
        for phase in &scenario.phases {
            assert!(svg.contains(&format!("\n{}\n", phase.name)), "{}", phase.name);
        }
        assert!(svg.contains("prefers-color-scheme: dark"));
        assert!(svg.contains("a title &amp; more"));
        assert_eq!(
            svg.matches(r##"stroke="#1A7F37" stroke-width="4""##).count(),
            3,
            "two panels, a legend"
        );
    }
}
