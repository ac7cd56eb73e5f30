//! Ten workers but five calls a second: of twenty jobs, five run at once and the last one starts at 3.0 s.

use std::time::Duration;

use stockade::{Error, Pool, RateLayer, pool::Status};
use tokio::time::Instant;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() {
    let start = Instant::now();
    let stack = ServiceBuilder::new()
        .layer(RateLayer::per_second(5))
        .map_err(Error::Service)
        .service_fn(move |_: u32| async move { Ok::<_, std::io::Error>(start.elapsed()) });
    let pool = Pool::builder().workers(10).queue(20).build(stack);

    let mut times = Vec::new();
    let mut outcomes = pool.run(1..=20);
    while let Some(outcome) = outcomes.next().await {
        assert_eq!(outcome.status, Status::Success);
        let Ok(at) = outcome.result else { continue };
        println!("{:>5.2} s  job {}", at.as_secs_f64(), outcome.id + 1);
        times.push(at);
    }

    assert_eq!(times.len(), 20);
    times.sort_unstable();
    assert!(times[4] < Duration::from_millis(100), "the bucket is full at first: five at once");
    for (n, at) in times.iter().enumerate().skip(5) {
        let due = Duration::from_millis(200) * (n as u32 - 4);
        assert!(*at + Duration::from_millis(1) >= due, "call {n} went at {at:?}, before {due:?}");
    }
    let last = times[19];
    assert!(last < Duration::from_millis(3_500), "the last goes at 3.0 s, not at {last:?}");
    println!("20 calls at 5 a second: 5 at once, the last at {:.1} s", last.as_secs_f64());
}
