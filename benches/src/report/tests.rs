use super::*;
use crate::{
    environment::Environment,
    numbers::Interval,
    plan::{Offered, Plan},
    record::{FORM, Overhead, inner},
};

fn run() -> Run {
    let exact = |value: f64| Interval { low: value, mid: value, high: value };
    let stacks: Vec<_> = Combo::all().iter().map(Combo::to_string).collect();
    let overhead = stacks.iter().enumerate().map(|(place, stack)| Overhead {
        stack: stack.clone(),
        inner: inner::READY.to_owned(),
        threads: 1,
        ns: exact(place as f64 + 1.0),
        ratio: exact(place as f64 + 1.0),
        adds: exact(place as f64),
        allocations: 0.0,
        bytes: 0.0,
        rounds: 3,
    });
    Run {
        form: FORM,
        name: "test".to_owned(),
        began: "2030-01-01T00:00:00Z".to_owned(),
        took: 1.0,
        partial: false,
        environment: Environment::default(),
        notes: vec!["<b>a note</b>".to_owned()],
        overhead: overhead.collect(),
        load: Vec::new(),
        faults: Vec::new(),
        adaptive: Vec::new(),
        groups: Vec::new(),
        memory: Vec::new(),
        plan: Plan {
            seed: 1,
            quick: true,
            stacks,
            sections: Vec::new(),
            offered: Offered::USUAL.to_vec(),
            duration: None,
            threads: 1,
        },
    }
}

#[test]
fn every_stack_has_a_row() {
    let page = page(&run(), None);
    assert_eq!(page.matches("<tr data-stack=").count(), 64);
}

#[test]
fn nothing_is_taken_from_elsewhere() {
    let page = page(&run(), Some(&run()));
    for word in ["<link rel=\"stylesheet", "src=", "@import", "url(", "fetch("] {
        assert!(!page.contains(word), "{word}");
    }
    let addresses = page.matches("http").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
}

#[test]
fn text_is_escaped() {
    assert!(page(&run(), None).contains("&lt;b&gt;a note"));
}

#[test]
fn an_interrupted_run_and_a_busy_machine_are_told() {
    let mut run = run();
    assert!(!page(&run, None).contains("class=\"warning\""));
    run.partial = true;
    run.environment.busy = true;
    let page = page(&run, None);
    assert!(page.contains("Partial.") && page.contains("Busy machine."));
}

#[test]
fn colours_of_plots_are_those_of_the_theme() {
    let page = page(&run(), None);
    assert!(page.contains("var(--accent)"));
    assert!(!page.contains("#010101") && !page.contains("#040404"));
}

#[test]
fn sections_without_figures_are_left_out_and_a_difference_is_shown_when_asked_for() {
    let without = page(&run(), None);
    assert!(!without.contains("id=\"faults\"") && !without.contains("id=\"difference\""));
    assert!(page(&run(), Some(&run())).contains("id=\"difference\""));
}
