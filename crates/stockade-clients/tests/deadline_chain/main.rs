//! One deadline for three processes in a row, axum, tonic and axum, and the PostgreSQL behind the last.
//!
//! Each place is a process of its own, which this program starts by starting itself. Each counts its handlers that are
//! under way, and the database its statements. So the tests compare what was counted, and no clock is looked at to see
//! whether something has ended: what hangs would hang for a minute, and is waited for for ten seconds. How soon it ends is
//! looked at for each place that can hang, in the fastest of many tries, which a busy machine does not slow down.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod chain;
mod place;

use std::{collections::BTreeMap, fmt, time::Duration};

use chain::Chain;
use stockade_core::priority::Priority;

/// Says which place a process is, and where the next one listens.
const ROLE: &str = "STOCKADE_CHAIN_ROLE";
const NEXT: &str = "STOCKADE_CHAIN_NEXT";

/// By how many hours its clock is ahead.
const AHEAD: &str = "STOCKADE_CHAIN_AHEAD";

/// What a process prints before its addresses.
const SAYS: &str = "it listens at ";

/// The most that each place allows, whatever is asked for.
const MAX: Duration = Duration::from_secs(20);

/// The deadline that is set at the first place, in milliseconds.
const DEADLINE: u64 = 200;

/// More than half of that.
const SLOW: u64 = 110;

/// Longer than anybody waits for anything here.
const STUCK: u64 = 60_000;

/// When all have stopped, counted from the answer, unless the machine is busy.
const SOON: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
enum Role {
    Front,
    Middle,
    Back,
}

/// What one place has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Handlers under way.
    alive: u64,
    /// Handlers begun so far.
    begun: u64,
    /// The most milliseconds that any of them had.
    most_left: u64,
    /// The highest priority of any of them.
    highest: u64,
    /// Statements that the database itself has ended.
    ended: u64,
}

// === impl Role ===

impl Role {
    const ALL: [Self; 3] = [Self::Front, Self::Middle, Self::Back];

    fn of(name: &str) -> Self {
        let named = |role: &Self| format!("{role:?}") == name;
        Self::ALL.into_iter().find(named).unwrap()
    }
}

// === impl Counts ===

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alive, begun, most_left, highest, ended } = self;
        write!(f, "{alive} {begun} {most_left} {highest} {ended}")
    }
}

impl Counts {
    fn of(text: &str) -> Self {
        let mut numbers = text.split(' ').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Self { alive: next(), begun: next(), most_left: next(), highest: next(), ended: next() }
    }
}

#[test]
#[ignore = "one of the processes, which the tests start"]
fn serve() {
    place::serve();
}

/// In all combinations of places that answer at once, take more than half of the time, or hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_deadline_passes_all_three_and_the_statement_have_stopped() {
    let mut chain = Chain::start().await;
    let delays = [0, SLOW, STUCK];
    // By the first place that hangs: the fastest in which all had stopped.
    let mut soonest = BTreeMap::new();
    for n in 0..3_usize.pow(4) {
        let plan = [n / 27 % 3, n / 9 % 3, n / 3 % 3, n % 3].map(|delay| delays[delay]);
        let before = chain.begun().await;
        let status = chain.ask(plan, &[("x-request-timeout-ms", &DEADLINE.to_string())]).await;
        // A busy machine may take all the time for itself.
        let in_time = plan.iter().sum::<u64>() < DEADLINE;
        assert!(status == 504 || in_time && status == 200, "{plan:?}: {status}");
        let took = chain.rests(plan).await;
        let hangs = plan.iter().position(|delay| *delay == STUCK);
        soonest
            .entry(hangs)
            .and_modify(|best: &mut Duration| *best = took.min(*best))
            .or_insert(took);
        let after = chain.begun().await;
        for place in 0..3 {
            let passed: u64 = plan[..place].iter().sum();
            let begun = after[place] - before[place];
            assert!(begun <= u64::from(passed < DEADLINE), "{plan:?}: place {place} began late");
        }
    }
    println!("all had stopped at most {:?} after the answer", chain.slowest);
    assert!(soonest.values().all(|took| *took <= SOON), "{soonest:?}");
    let [.., back] = chain.counts().await;
    assert!(back.ended > 0, "of those that hang in the database some got there");
    let status = chain.ask([0; 4], &[]).await;
    assert_eq!(status, 200, "and all is well where there is time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_starts_work_that_has_expired() {
    let mut chain = Chain::start().await;
    assert_eq!(chain.ask([0; 4], &[("x-request-timeout-ms", "0")]).await, 504);
    assert_eq!(chain.begun().await, [0, 0, 0]);
    // Less than what the way to the next place takes.
    for left in ["1", "4"] {
        assert_eq!(chain.ask([0; 4], &[("x-request-timeout-ms", left)]).await, 504);
    }
    let [front, behind @ ..] = chain.begun().await;
    assert!(front <= 2);
    assert_eq!(behind, [0, 0]);
    chain.rests([0; 4]).await;
}

/// Durations travel, not instants: a clock that is hours ahead is as good as any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_hours_apart_change_nothing() {
    for ahead in [[0, 1, 2], [2, 1, 0], [1, 0, 1]] {
        let mut chain = Chain::start_ahead(ahead).await;
        assert_eq!(chain.ask([0; 4], &[("x-request-timeout-ms", "10000")]).await, 200);
        for (place, counts) in (0..).zip(chain.counts().await) {
            let most = 10_000 - 5 * place;
            assert!((1..=most).contains(&counts.most_left), "{counts:?} at place {place}");
        }
        for plan in [[0, 0, 0, STUCK], [0, 0, STUCK, 0], [0, STUCK, 0, 0], [STUCK, 0, 0, 0]] {
            let status = chain.ask(plan, &[("x-request-timeout-ms", "200")]).await;
            assert_eq!(status, 504, "{plan:?}, {ahead:?}");
            chain.rests(plan).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_priority_goes_through_all_three_also_through_a_task() {
    let chain = Chain::start().await;
    assert_eq!(chain.ask([0; 4], &[("x-request-priority", "sheddable")]).await, 200);
    assert_eq!(chain.counts().await.map(|counts| counts.highest), [Priority::Sheddable as u64; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_client_gets_no_more_than_the_first_server_allows() {
    let mut chain = Chain::start().await;
    let number = format!("1{}", "0".repeat(30));
    for time in ["-1", &number, "1e30", "18446744073709551616", "99999999999", "soon", ""] {
        let claims = [("x-request-timeout-ms", time), ("x-request-priority", "critical")];
        assert_eq!(chain.ask([0; 4], &claims).await, 200, "{time}");
    }
    chain.rests([0; 4]).await;
    let default = Priority::Default as u64;
    for (place, counts) in (0..).zip(chain.counts().await) {
        let most = MAX.as_millis() as u64 - 5 * place;
        assert!(counts.most_left <= most, "{counts:?} at place {place}");
        assert_eq!((counts.begun, counts.highest), (7, default));
    }
}
