//! The report in a real browser.
//!
//! Needs Chromium. Screenshots are left in `target/bench/screenshots`.

mod sample;

use std::{fs, path::Path};

use serde_json::{Value, json};
use stockade_benches::report;
use stockade_test_servers::Browser;
use tempfile::TempDir;

/// Leaves a picture of the page.
fn shoot(browser: &mut Browser, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/screenshots");
    browser.shoot(&folder, name);
}

#[test]
fn the_report_works_in_a_browser() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("report.html");
    let (run, base) = (sample::run("now"), sample::run("before"));
    fs::write(&page, report::page(&run, Some(&base))).unwrap();
    let mut browser = Browser::start();
    browser.look(1_200, false);
    browser.open(&format!("file://{}", page.display()));

    // Every stack has a row, and every section is there.
    assert_eq!(browser.ask("document.querySelectorAll('#stacks tbody tr').length"), 64);
    for id in [
        "summary",
        "heatmap",
        "curves",
        "waterfall",
        "offered",
        "peers",
        "faults",
        "adaptive",
        "difference",
    ] {
        let there = format!("document.querySelector('section#{id} h2') !== null");
        assert_eq!(browser.ask(&there), true, "{id}");
    }

    // A click on a header sorts, another one the other way round.
    let values = "[...document.querySelectorAll('#stacks tbody tr')].map(r => Number(r.cells[4].dataset.value))";
    let click = "document.querySelectorAll('#stacks thead button')[4].click()";
    let sorted = |values: &Value| {
        let values: Vec<_> =
            values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(values.len(), 64);
        (values.is_sorted(), values.iter().rev().is_sorted())
    };
    assert_eq!(sorted(&browser.ask(values)), (false, false));
    browser.ask(click);
    assert_eq!(sorted(&browser.ask(values)), (true, false));
    browser.ask(click);
    assert_eq!(sorted(&browser.ask(values)), (false, true));

    // A tick draws a stack, another one takes it away.
    let drawn = "[...document.querySelectorAll('#curves figure:not([hidden]) .series')]\
                 .filter(l => getComputedStyle(l).stroke !== 'none').map(l => l.dataset.stack)";
    let tick = "document.querySelector('#stacks input[value=\"retry+rate\"]').click()";
    let has = |drawn: &Value| drawn.as_array().unwrap().contains(&json!("retry+rate"));
    assert!(!has(&browser.ask(drawn)));
    browser.ask(tick);
    assert!(has(&browser.ask(drawn)));
    assert_eq!(browser.ask("document.querySelectorAll('#chips button').length"), 6);
    shoot(&mut browser, "desktop-light");
    browser.ask(tick);
    assert!(!has(&browser.ask(drawn)));
    // Another load is another plot.
    let shown = "document.querySelector('#curves figure:not([hidden])').dataset.load";
    browser.ask(
        "{ const load = document.getElementById('load'); load.value = '0'; \
         load.dispatchEvent(new Event('change', { bubbles: true })) }",
    );
    assert_eq!(browser.ask(shown), "0");

    // Light and dark differ, and on a phone nothing is wider than the screen.
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = browser.ask(paper);
    browser.look(1_200, true);
    assert_ne!(browser.ask(paper), light);
    shoot(&mut browser, "desktop-dark");
    for dark in [false, true] {
        browser.look(360, dark);
        let wide = browser.ask("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= 360, "{wide}");
        shoot(&mut browser, if dark { "phone-dark" } else { "phone-light" });
    }
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
}
