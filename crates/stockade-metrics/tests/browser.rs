//! The dashboard in a real browser, by what a person does there.
//!
//! Needs Chromium. Screenshots are left in `target/dashboard`.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{path::Path, time::Duration};

use axum::Router;
use stockade_breaker::{BreakerHandle, BreakerLayer, State};
use stockade_core::{Error, Reason, Rejected};
use stockade_limit::{LimitHandle, LimitLayer};
use stockade_metrics::{MeasureLayer, Metrics, dashboard};
use stockade_pool::{Pool, PoolHandle};
use stockade_rate::RateLayer;
use stockade_retry::RetryLayer;
use stockade_test_servers::Browser;
use stockade_timeout::TimeoutLayer;
use tokio::{net::TcpListener, runtime::Runtime, time::sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};

type Failure = Error<&'static str>;

const TOKEN: &str = "a token of some length";

/// A name that would be seen if it were taken for HTML.
const MARKUP: &str = "<img src=x onerror=\"document.title='taken'\">&amp;\"'\n</script>";

/// A process with something to show.
struct Shop {
    runtime: Runtime,
    address: String,
    metrics: Metrics,
    breaker: BreakerHandle,
    limit: LimitHandle,
    pool: PoolHandle<String, (), Failure>,
}

impl Shop {
    fn open() -> Self {
        let runtime = Runtime::new().unwrap();
        let _guard = runtime.enter();
        let metrics = Metrics::new();
        let (measure, measured) = MeasureLayer::new().with_handle();
        let (retry, retries) = RetryLayer::max_attempts(2).with_handle();
        let (breaker, of_breaker) = BreakerLayer::new().with_handle();
        let (limit, of_limit) = LimitLayer::new(8).with_handle();
        let (_, rate) = RateLayer::per_second(100).with_handle();
        metrics.measure("search", measured).unwrap();
        metrics.retry("search", retries).unwrap();
        metrics.breaker("search", of_breaker.clone()).unwrap();
        metrics.limit("search", of_limit.clone()).unwrap();
        metrics.rate("search", rate).unwrap();
        let (timeout, times_out) = TimeoutLayer::new(Duration::from_millis(9)).with_handle();
        metrics.timeout("search", times_out).unwrap();
        metrics.limit(MARKUP, LimitLayer::new(3).with_handle().1).unwrap();
        let stack = ServiceBuilder::new()
            .layer(measure)
            .layer(retry)
            .layer(breaker)
            .layer(limit)
            .layer(timeout);
        let stack = stack.service(service_fn(async |n: u32| {
            sleep(Duration::from_millis(if n % 8 == 6 { 60_000 } else { 5 })).await;
            match n % 8 {
                3 => Err(Failure::Service("no")),
                5 => Err(Rejected::new(&"timeout", Reason::Elapsed).into()),
                _ => Ok(n),
            }
        }));
        runtime.spawn(async move {
            for n in 0.. {
                let _ = stack.clone().oneshot(n).await;
                sleep(Duration::from_millis(2)).await;
            }
        });
        let pool =
            Pool::builder().workers(2).queue(8).measure().job_name(|job: &String| job.clone());
        let pool = pool.build(service_fn(async |_: String| -> Result<(), Failure> {
            std::future::pending().await
        }));
        for job in ["invoice 17", "<b>bold</b>", "third"] {
            pool.submit(job.to_owned()).detach();
        }
        metrics.pool("orders", pool.handle()).unwrap();
        let page = dashboard(metrics.clone()).control(TOKEN);
        let app: Router = page.at("/stockade");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        let handle = pool.handle();
        runtime.spawn(async move {
            let _stays = pool;
            std::future::pending::<()>().await;
        });
        drop(_guard);
        Self { runtime, address, metrics, breaker: of_breaker, limit: of_limit, pool: handle }
    }
}

/// Something in the card of a handle.
fn card(kind: &str, name: &str, of: &str) -> String {
    format!("document.querySelector('article[data-kind=\"{kind}\"][data-name=\"{name}\"] {of}')")
}

fn click(browser: &mut Browser, kind: &str, name: &str, button: &str) {
    let all = card(kind, name, ".controls");
    let found = format!(
        "[...{all}.querySelectorAll('button')].find(b => !b.hidden && b.textContent === '{button}')"
    );
    browser.wait(&format!("{found}?.offsetParent != null"));
    browser.ask(&format!("{found}.click()"));
}

fn shoot(browser: &mut Browser, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dashboard");
    browser.shoot(&folder, name);
}

fn unlock(browser: &mut Browser, token: &str) {
    browser.wait("document.getElementById('unlock').offsetParent != null");
    browser.ask(&format!(
        "{{ document.getElementById('token').value = '{token}'; \
           document.querySelector('#unlock button').click() }}"
    ));
}

#[test]
fn a_person_sees_every_handle_live_and_controls_what_the_token_allows() {
    let shop = Shop::open();
    let mut browser = Browser::start();
    browser.allow(format!("{}/stockade", shop.address));
    browser.look(1_280, false);
    browser.open(&format!("{}/stockade", shop.address));

    // Every handle has a card, and names are text, whatever is in them.
    browser.wait("document.getElementById('state').textContent === 'live'");
    browser.wait("document.querySelectorAll('article').length === 8");
    assert_eq!(browser.ask("document.querySelectorAll('img, article b b').length"), 0);
    assert_eq!(browser.ask("document.title"), "Stockade");
    let names = "[...document.querySelectorAll('h3')].map(h => h.textContent)";
    assert!(browser.ask(names).as_array().unwrap().contains(&MARKUP.into()));
    let jobs = "[...document.querySelectorAll('.jobs li span:first-child')].map(j => j.textContent).sort()";
    assert_eq!(browser.ask(jobs), serde_json::json!(["<b>bold</b>", "invoice 17"]));

    // Numbers move by themselves: calls are made, refusals are told by reason, jobs get older.
    let made = format!(
        "Number([...{}.children].find(d => d.firstChild.textContent === 'calls/s')?.lastChild.textContent)",
        card("measure", "search", "dl")
    );
    browser.wait(&format!("{made} > 0"));
    browser.wait(&format!(
        "/timed out \\d/.test({}?.textContent)",
        card("measure", "search", ".reasons")
    ));
    browser.wait(&format!(
        "parseFloat({}?.lastChild.textContent) >= 2",
        card("pool", "orders", ".jobs li")
    ));

    browser.wait(&format!("/ended[1-9]/.test({}.textContent)", card("timeout", "search", "dl")));

    // Another handle appears while the page is open, and goes.
    shop.metrics.limit("late", LimitLayer::new(1).with_handle().1).unwrap();
    browser.wait("document.querySelectorAll('article').length === 9");
    shop.metrics.remove("late");
    browser.wait("document.querySelectorAll('article').length === 8");

    // Without a token there is no button; with a wrong one a button says why nothing happens.
    let visible =
        "[...document.querySelectorAll('.controls')].filter(c => c.offsetParent != null).length";
    assert_eq!(browser.ask(visible), 0);
    unlock(&mut browser, "some other token here");
    click(&mut browser, "breaker", "search", "Force open");
    let told = card("breaker", "search", ".told");
    browser.wait(&format!("{told}?.textContent === 'this is not the token'"));
    assert_ne!(shop.breaker.state(), State::ForcedOpen);
    // The browser itself notes that the answer was 401.
    assert!(browser.complaints().iter().all(|complaint| complaint.contains("401")));
    let noted = browser.complaints().len();
    browser.ask("document.getElementById('lock').click()");

    // With the right one a breaker is forced open and released.
    unlock(&mut browser, TOKEN);
    click(&mut browser, "breaker", "search", "Force open");
    let badge = card("breaker", "search", ".badge");
    browser.wait(&format!("{badge}.textContent === 'forced open, by hand'"));
    assert_eq!(shop.breaker.state(), State::ForcedOpen);
    shoot(&mut browser, "desktop-light");
    click(&mut browser, "breaker", "search", "Release");
    browser.wait(&format!("{badge}.textContent !== 'forced open, by hand'"));

    // A pool is paused and goes on.
    click(&mut browser, "pool", "orders", "Pause");
    browser.wait(&format!("{}.textContent === 'paused'", card("pool", "orders", ".badge")));
    assert!(shop.pool.is_paused());
    click(&mut browser, "pool", "orders", "Resume");
    browser.wait(&format!("{}.textContent !== 'paused'", card("pool", "orders", ".badge")));

    // A limit is changed; what is not allowed is said.
    let enter = |to: &str| format!("{}.value = '{to}'", card("limit", "search", ".controls input"));
    browser.ask(&enter("21"));
    click(&mut browser, "limit", "search", "Set");
    browser.wait(&format!(
        "/of 21$/.test({}.textContent)",
        card("limit", "search", ".bar span:last-child")
    ));
    assert_eq!(shop.limit.max(), 21);

    // The filter leaves what was asked for.
    let shown =
        "[...document.querySelectorAll('article')].filter(c => c.offsetParent != null).length";
    let filter = |text: &str| {
        format!(
            "{{ const f = document.getElementById('filter'); f.value = '{text}'; \
               f.dispatchEvent(new Event('input', {{ bubbles: true }})) }}"
        )
    };
    browser.ask(&filter("ORD"));
    assert_eq!(browser.ask(shown), 1);
    browser.ask(&filter(""));
    assert_eq!(browser.ask(shown), 8);

    // Light and dark differ, and on a phone nothing is wider than the screen.
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = browser.ask(paper);
    browser.look(1_280, true);
    assert_ne!(browser.ask(paper), light);
    shoot(&mut browser, "desktop-dark");
    for dark in [false, true] {
        browser.look(375, dark);
        let wide = browser.ask("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= 375, "{wide}");
        shoot(&mut browser, if dark { "phone-dark" } else { "phone-light" });
    }
    assert_eq!(browser.complaints().len(), noted, "{:#?}", browser.complaints());

    // The process goes away, and the page says so.
    shop.runtime.shutdown_background();
    browser.wait("document.getElementById('state').className === 'lost'");
}
