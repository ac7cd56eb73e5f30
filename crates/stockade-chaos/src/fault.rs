//! What befalls a call. Pure: chance is passed in.

use std::time::Duration;

use fastrand::Rng;

use crate::config::Config;

/// What befalls a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChaosFault {
    /// It is made, and its answer held back for this long.
    Slow(Duration),
    /// It is not made, and fails.
    Error,
    /// It is not made, and refused.
    Reject,
    /// It is not made, and never ends.
    Hang,
    /// It is not made, and its future panics.
    Panic,
}

/// Makes the errors of calls that are to fail. Closures `Fn() -> E` do.
pub trait MakeError<E> {
    /// An error.
    fn make(&self) -> E;
}

/// The default: no call fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoError;

// === impl ChaosFault ===

impl ChaosFault {
    /// What befalls the next call. Of several faults that come together the first counts.
    pub(crate) fn draw(config: &Config, rng: &mut Rng) -> Option<Self> {
        // One number for each, drawn in any case: so a fault that is added leaves the others where they were.
        let draws = [(); 5].map(|()| rng.f64());
        let length = config.length.map(|length| length.draw(rng)).unwrap_or_default();
        let faults = [
            (config.reject, Self::Reject),
            (config.error, Self::Error),
            (config.hang, Self::Hang),
            (config.panic, Self::Panic),
            (config.latency, Self::Slow(length)),
        ];
        let mut drawn = faults.into_iter().zip(draws);
        drawn.find_map(|((chance, fault), draw)| (draw < chance).then_some(fault))
    }
}

// === impl MakeError ===

impl<E> MakeError<E> for NoError {
    fn make(&self) -> E {
        unreachable!("errors are drawn only where a function makes them")
    }
}

impl<E, F: Fn() -> E> MakeError<E> for F {
    fn make(&self) -> E {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Latency;

    const DRAWS: usize = 20_000;

    fn draw(config: Config) -> Vec<Option<ChaosFault>> {
        let mut rng = Rng::with_seed(7);
        (0..DRAWS).map(|_| ChaosFault::draw(&config, &mut rng)).collect()
    }

    fn share(faults: &[Option<ChaosFault>], of: impl Fn(ChaosFault) -> bool) -> f64 {
        faults.iter().flatten().filter(|fault| of(**fault)).count() as f64 / DRAWS as f64
    }

    #[test]
    fn each_fault_comes_as_often_as_it_was_asked_for() {
        let length = Some(Latency::from(Duration::from_millis(10)..=Duration::from_millis(20)));
        let config = Config { latency: 0.1, length, ..Config::default() };
        let slow = draw(config);
        assert!((0.09..0.11).contains(&share(&slow, |fault| matches!(fault, ChaosFault::Slow(_)))));
        let within = Duration::from_millis(10)..=Duration::from_millis(20);
        assert!(
            slow.iter().flatten().all(|f| matches!(f, ChaosFault::Slow(d) if within.contains(d)))
        );
        for (fault, config) in [
            (ChaosFault::Error, Config { error: 0.3, ..Config::default() }),
            (ChaosFault::Reject, Config { reject: 0.3, ..Config::default() }),
            (ChaosFault::Hang, Config { hang: 0.3, ..Config::default() }),
            (ChaosFault::Panic, Config { panic: 0.3, ..Config::default() }),
        ] {
            let of = share(&draw(config), |drawn| drawn == fault);
            assert!((0.28..0.32).contains(&of), "{fault:?}: {of}");
        }
    }

    #[test]
    fn a_fault_that_is_added_leaves_the_others_where_they_were() {
        let hangs = draw(Config { hang: 0.1, ..Config::default() });
        let both = draw(Config { hang: 0.1, panic: 0.1, ..Config::default() });
        for (one, both) in hangs.iter().zip(&both) {
            assert_eq!(*one == Some(ChaosFault::Hang), *both == Some(ChaosFault::Hang));
        }
    }

    #[test]
    fn an_exponential_latency_has_its_mean() {
        let mean = Duration::from_millis(100);
        let (latency, mut rng) = (Latency::exponential(mean), Rng::with_seed(7));
        let total: Duration = (0..20_000).map(|_| latency.draw(&mut rng)).sum();
        let found = total / 20_000;
        assert!((mean * 97 / 100..mean * 103 / 100).contains(&found), "{found:?}");
    }
}
