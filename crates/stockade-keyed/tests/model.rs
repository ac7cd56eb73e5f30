//! Whatever calls come in whichever order: each is answered once, by a stack that may answer it.

use std::{collections::HashMap, task::Poll, time::Duration};

use proptest::prelude::*;
use stockade_core::LayerError;
use stockade_keyed::{KeyedLayer, WhenFull};
use stockade_testkit::{Probe, Request};
use tokio::time::advance;
use tokio_test::task;
use tower::{Layer, Service, layer::layer_fn};

const KEYS: u64 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// A call of this key begins, and is polled.
    Call(u64),
    /// The call that began as the n-th of those in flight is answered, or dropped.
    End(usize, bool),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..KEYS).prop_map(Step::Call),
        3 => (0..8_usize, any::<bool>()).prop_map(|(n, answered)| Step::End(n, answered)),
        1 => (1..15_u64).prop_map(Step::Advance),
    ]
}

/// Answers with the key whose stack was called.
#[derive(Clone)]
struct Tagged {
    tag: u64,
    inner: Probe,
}

impl Service<(u64, Request)> for Tagged {
    type Response = (u64, u64);
    type Error = <Probe as Service<Request>>::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<(u64, u64), Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, (_, request): (u64, Request)) -> Self::Future {
        let (tag, call) = (self.tag, self.inner.call(request));
        Box::pin(async move { Ok((tag, call.await?.id)) })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_call_is_lost_doubled_or_served_by_the_stack_of_another_key(
        steps in proptest::collection::vec(step(), 1..60),
        max_keys in 1..5_usize,
        refuses in any::<bool>(),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let probe = Probe::new();
            let layer = KeyedLayer::new(
                |(key, _): &(u64, Request)| *key,
                max_keys,
                |key: &u64| {
                    let tag = *key;
                    layer_fn(move |inner: Probe| Tagged { tag, inner })
                },
            );
            let when_full = if refuses { WhenFull::Refuse } else { WhenFull::Share };
            let (layer, handle) =
                layer.idle(Duration::from_secs(10)).when_full(when_full).with_handle();
            let mut stack = layer.layer(probe.clone());
            let mut in_flight = Vec::new();
            let mut reached = Vec::new();
            let mut calls: HashMap<u64, usize> = HashMap::new();
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Call(key) => {
                        let had_place = handle.stats(&key).is_some();
                        let overflowed = handle.overflowed();
                        let request = (key, Request::wait(id as u64));
                        let mut call = task::spawn(stack.call(request));
                        match call.poll() {
                            Poll::Pending => {
                                let shares = handle.overflowed() > overflowed;
                                prop_assert!(!shares || !had_place, "a known key has a stack");
                                reached.push(id as u64);
                                if !shares {
                                    *calls.entry(key).or_default() += 1;
                                }
                                in_flight.push((key, id as u64, shares, call));
                            }
                            Poll::Ready(Ok(_)) => prop_assert!(false, "nobody released it"),
                            Poll::Ready(Err(error)) => {
                                prop_assert!(refuses && error.rejected().is_some());
                                prop_assert!(!had_place, "a known key is not refused");
                                prop_assert_eq!(handle.len(), max_keys);
                            }
                        }
                    }
                    Step::End(n, answered) if !in_flight.is_empty() => {
                        let (key, id, shares, mut call) = in_flight.remove(n % in_flight.len());
                        if !shares {
                            *calls.entry(key).or_default() -= 1;
                        }
                        if answered {
                            prop_assert_eq!(probe.release(id), 1);
                            let Poll::Ready(Ok((tag, answer))) = call.poll() else {
                                return Err(TestCaseError::fail("it was released"));
                            };
                            prop_assert_eq!(answer, id);
                            prop_assert!(shares || tag == key, "{tag} served {key}");
                        }
                    }
                    Step::End(..) => {}
                    Step::Advance(seconds) => advance(Duration::from_secs(seconds)).await,
                }
                prop_assert!(handle.len() <= max_keys);
                prop_assert_eq!(probe.started(), reached.clone());
                for (key, calls) in &calls {
                    let stats = handle.stats(key);
                    prop_assert!(stats.is_some() || *calls == 0, "dropped while in use");
                    prop_assert_eq!(stats.map_or(0, |stats| stats.in_flight), *calls as u64);
                }
            }
            drop(in_flight);
            advance(Duration::from_secs(10)).await;
            prop_assert!(handle.is_empty());
            prop_assert_eq!(probe.in_flight(), 0);
            Ok(())
        })?;
    }
}
