//! Accounts under thousands of schedules of three threads that make calls, as clones that live on and as guests, while
//! some of the calls ask for tokens. Each call has to be paid for once.

use std::sync::Arc;

use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};
use stockade_testkit::schedules;
use tokio::time::Instant;

use crate::{
    Budget, Config,
    account::{Account, Member},
    shared::Shared,
};

fn call(member: &mut Member<(), ()>, asks: bool) -> usize {
    let origin = member.charge();
    usize::from(asks && origin.account.withdraw(Instant::now()))
}

#[test]
fn each_call_is_paid_for_once() {
    schedules(|| {
        const CALLS: usize = 40;
        let budget = Budget::new(1.0, 0.0);
        let config = Config { budget: Some(budget.clone()), ..Config::new(3) };
        let mut first = Member::new((), Arc::new(()), Account::new(Arc::new(Shared::new(config))));
        let mut spent: usize = (0..5).map(|_| call(&mut first, false)).sum();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let mut member = first.clone();
                thread::spawn(move || {
                    let once = |_| {
                        let asks = thread_rng().gen_bool(0.2);
                        if thread_rng().gen_bool(0.5) {
                            call(&mut member.clone(), asks)
                        } else {
                            call(&mut member, asks)
                        }
                    };
                    (0..CALLS).map(once).sum::<usize>()
                })
            })
            .collect();
        spent += (0..CALLS).map(|n| call(&mut first, n % 7 == 0)).sum::<usize>();
        spent += threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>();
        drop(first);
        let left = (0..).take_while(|_| budget.withdraw(Instant::now())).count();
        assert_eq!(spent + left, 3 * CALLS + 5);
    });
}
