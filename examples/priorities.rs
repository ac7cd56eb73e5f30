//! Three times as many calls as a service can take: first by class, then in shares for two tenants.
//!
//! A `PriorityLayer` gives each call a class, and a limit admits by it those that wait. Critical calls hardly notice the
//! overload, and the others get what is left, the lowest class least, but none nothing. Then a pool shares its workers
//! between a tenant that submits ten times as many jobs and one that pays for three times as much.
//!
//! It counts what callers see, holds that against what the handles say, and exits with 1 if the books do not balance.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use stockade::{
    Error, LayerError, LimitLayer, Pool, Priority, PriorityLayer, Reason, Share, limit::LimitHandle,
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep},
};
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// The service does so many calls at once, each in so much time: 500 a second.
const AT_ONCE: usize = 10;
const TAKES: Duration = Duration::from_millis(20);

/// The calls of a tick, a fifth of them critical.
const TICK: Duration = Duration::from_millis(10);
const CALLS: [(Priority, u32); 4] = [
    (Priority::Critical, 3),
    (Priority::Default, 4),
    (Priority::Sheddable, 4),
    (Priority::Background, 4),
];
const TICKS: u32 = 300;

/// A line below the header, and no other.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

type Refusal = Error<Infallible>;

/// What callers of one class have seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    offered: u64,
    answered: u64,
    gave_way: u64,
    full: u64,
    waited: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let classes = by_class().await;
    let tenants = by_tenant().await;
    match classes.and(tenants) {
        Ok(()) => {
            println!("the books balance");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("the books do not balance: {wrong}");
            ExitCode::FAILURE
        }
    }
}

// === by class ===

async fn by_class() -> Result<(), String> {
    let limit = LimitLayer::new(AT_ONCE).queue(200).max_wait(Duration::from_millis(300));
    let (limit, handle) = limit.by_priority().name("backend").with_handle();
    let svc = ServiceBuilder::new()
        .layer(PriorityLayer::new(|priority: &Priority| *priority))
        .layer(limit)
        .service_fn(async |_: Priority| {
            sleep(TAKES).await;
            Ok::<_, Refusal>(())
        });

    let mut calls = JoinSet::new();
    let mut ticks = interval(TICK);
    for _ in 0..TICKS {
        ticks.tick().await;
        for (priority, n) in CALLS {
            for _ in 0..n {
                let call = svc.clone().oneshot(priority);
                calls.spawn(async move { (priority, call.await) });
            }
        }
    }
    let mut seen = BTreeMap::<Priority, Seen>::new();
    while let Some(ended) = calls.join_next().await {
        let (priority, result) = ended.map_err(|error| error.to_string())?;
        let seen = seen.entry(priority).or_default();
        seen.offered += 1;
        match result.as_ref().map_err(|error| error.rejected().map(|rejected| rejected.reason())) {
            Ok(()) => seen.answered += 1,
            Err(Some(Reason::Shed)) => seen.gave_way += 1,
            Err(Some(Reason::QueueFull)) => seen.full += 1,
            Err(Some(Reason::WaitExceeded)) => seen.waited += 1,
            Err(reason) => return Err(format!("a call ended with {reason:?}")),
        }
    }
    print(&seen);
    check_classes(&seen, &handle)
}

fn print(seen: &BTreeMap<Priority, Seen>) {
    let mut table = Table::new();
    table.load_style(STYLE).set_header([
        "class",
        "offered",
        "answered",
        "",
        "gave way",
        "queue full",
        "waited long",
    ]);
    for (priority, seen) in seen.iter().rev() {
        let Seen { offered, answered, gave_way, full, waited } = seen;
        let share = format!("{:.1} %", 100.0 * *answered as f64 / *offered as f64);
        let numbers = [offered, answered].map(u64::to_string);
        let refused = [gave_way, full, waited].map(u64::to_string);
        let [offered, answered] = numbers;
        let [gave_way, full, waited] = refused;
        let class = priority.to_string();
        table.add_row([class, offered, answered, share, gave_way, full, waited]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

fn check_classes(seen: &BTreeMap<Priority, Seen>, handle: &LimitHandle) -> Result<(), String> {
    for (priority, count) in seen {
        let Seen { offered, answered, gave_way, full, waited } = *count;
        holds(offered == answered + gave_way + full + waited, "each call ends once")?;
        holds(answered > 0, &format!("{priority} is not starved"))?;
    }
    let sum = |part: fn(&Seen) -> u64| seen.values().map(part).sum::<u64>();
    for (reason, told) in [
        (Reason::Shed, sum(|seen| seen.gave_way)),
        (Reason::QueueFull, sum(|seen| seen.full)),
        (Reason::WaitExceeded, sum(|seen| seen.waited)),
    ] {
        holds(handle.refused(reason) == told, "the handle counts what callers see")?;
    }
    let rate = |priority| seen[&priority].answered as f64 / seen[&priority].offered as f64;
    holds(rate(Priority::Critical) >= 0.99, "critical calls hardly notice")?;
    holds(rate(Priority::Default) > rate(Priority::Sheddable), "the higher class gets more")?;
    holds(rate(Priority::Sheddable) > rate(Priority::Background), "the higher class gets more")?;
    holds((handle.in_flight(), handle.waiting()) == (0, 0), "nothing is left behind")
}

// === by tenant ===

/// Whose a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Tenant {
    Busy,
    Paying,
}

async fn by_tenant() -> Result<(), String> {
    let done = Arc::new(Mutex::new([0_u32; 2]));
    let count = Arc::clone(&done);
    let work = service_fn(move |tenant: Tenant| {
        let count = Arc::clone(&count);
        async move {
            sleep(TAKES).await;
            if let Ok(mut count) = count.lock() {
                count[tenant as usize] += 1;
            }
            Ok::<_, Refusal>(())
        }
    });
    let share = |tenant: &Tenant| match tenant {
        Tenant::Busy => Share::of(tenant),
        Tenant::Paying => Share::of(tenant).weight(3),
    };
    let pool = Pool::builder().workers(AT_ONCE).queue(50).fair_by(share).build(work);

    // All of these wait: the pool has work for longer than is counted.
    let mut jobs = JoinSet::new();
    for tenant in [Tenant::Busy; 10].into_iter().chain([Tenant::Paying]).cycle().take(11 * 200) {
        jobs.spawn(pool.submit(tenant));
    }
    let end = Instant::now() + Duration::from_secs(10);
    let [busy, paying] = loop {
        sleep(TICK).await;
        let done = *done.lock().map_err(|error| error.to_string())?;
        if done.iter().sum::<u32>() >= 200 || Instant::now() > end {
            break done;
        }
    };
    println!(
        "of {} jobs {busy} were the busy tenant's, and {paying} the paying one's",
        busy + paying
    );
    jobs.abort_all();
    while jobs.join_next().await.is_some() {}

    let ratio = f64::from(paying) / f64::from(busy);
    holds((2.5..3.5).contains(&ratio), "the paying tenant gets three times as much")?;
    let stats = pool.stats();
    let left = stats.queued as u64 + stats.running as u64;
    holds(stats.accepted == stats.ended() + left, "each job ends once")
}

fn holds(fact: bool, what: &str) -> Result<(), String> {
    if fact { Ok(()) } else { Err(format!("not true: {what}")) }
}
