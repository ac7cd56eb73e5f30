//! Jobs with the same key run in order, and a busy key does not hold up the others.
//!
//! Account 0 gets as many entries as all others together. Its entries are booked one after the other; those of
//! the other accounts do not wait for them.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use stockade::{Error, Pool};
use tokio::time::{Instant, sleep};
use tower::service_fn;

#[derive(Clone, Copy, Debug)]
struct Entry {
    account: u32,
    number: u32,
}

#[tokio::main]
async fn main() {
    let ledger: Arc<Mutex<HashMap<u32, Vec<u32>>>> = Arc::default();
    let booked = Arc::clone(&ledger);
    let book = service_fn(move |entry: Entry| {
        let ledger = Arc::clone(&booked);
        async move {
            sleep(Duration::from_millis(5)).await;
            let mut ledger = ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            ledger.entry(entry.account).or_default().push(entry.number);
            Ok::<_, Error<Infallible>>(entry.account)
        }
    });
    let pool =
        Pool::builder().workers(4).queue(128).affinity(|entry: &Entry| entry.account).build(book);

    // The busy account first: 40 entries of it, then 40 of eight others.
    let hot = (0..40).map(|number| Entry { account: 0, number });
    let others = (0..5).flat_map(|number| (1..=8).map(move |account| Entry { account, number }));
    let start = Instant::now();
    let mut outcomes = pool.run(hot.chain(others));
    let (mut hot_done, mut others_done) = (Duration::ZERO, Duration::ZERO);
    while let Some(outcome) = outcomes.next().await {
        let at = start.elapsed();
        match outcome.result {
            Ok(0) => hot_done = at,
            _ => others_done = at,
        }
    }

    let ledger = ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    assert_eq!(ledger.values().map(Vec::len).sum::<usize>(), 80);
    for (account, numbers) in ledger.iter() {
        assert!(numbers.is_sorted(), "account {account} is out of order: {numbers:?}");
    }
    assert!(others_done < hot_done, "the others do not wait for the hot account");
    println!(
        "80 entries in 9 accounts, each in order; the others were done after {} ms, the hot one after {} ms",
        others_done.as_millis(),
        hot_done.as_millis()
    );
}
