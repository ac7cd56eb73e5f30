//! When to shed: by how long jobs have waited, and not by how many do.
//!
//! The algorithm is CoDel: Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 10 (5), 2012, and RFC 8289.
//! A queue that is long for a moment is a burst, and does its work; one in which every job has waited for longer
//! than `target` for a whole `interval` stands, and only adds delay. Then a job is shed as it would be started,
//! the next one `interval / sqrt(n)` later, until a job comes through that has waited for less than `target`.

use std::time::Duration;

use tokio::time::Instant;

/// Sheds what waited too long, with time passed in.
#[derive(Clone, Debug)]
pub(crate) struct Codel {
    target: Duration,
    interval: Duration,
    /// When the waits will have been above the target for an interval; none while they are below.
    standing_at: Option<Instant>,
    /// When the next job is shed; none while none are.
    next: Option<Instant>,
    /// How many have been shed since shedding began.
    count: u32,
    /// What `count` was when shedding began.
    began_with: u32,
    /// When shedding ended.
    ended: Option<Instant>,
}

// === impl Codel ===

impl Codel {
    pub(crate) fn new(target: Duration, interval: Duration) -> Self {
        Self {
            target,
            interval,
            standing_at: None,
            next: None,
            count: 0,
            began_with: 0,
            ended: None,
        }
    }

    /// Whether to shed the job that was taken out of the queue at `now` after it had `waited`, and was the `last`
    /// in it or not.
    pub(crate) fn sheds(&mut self, now: Instant, waited: Duration, last: bool) -> bool {
        let stands = self.stands(now, waited, last);
        match self.next {
            Some(_) if !stands => {
                self.next = None;
                self.ended = Some(now);
                false
            }
            Some(next) if now < next => false,
            Some(next) => {
                self.count = self.count.saturating_add(1);
                self.next = Some(next + self.pause());
                true
            }
            None if !stands => false,
            None => {
                // Shedding that has just ended goes on at the rate at which it worked.
                let recent = self.ended.is_some_and(|ended| now - ended < self.interval * 16);
                let new = self.count - self.began_with;
                self.count = if recent && new > 1 { new } else { 1 };
                self.began_with = self.count;
                self.next = Some(now + self.pause());
                true
            }
        }
    }

    fn stands(&mut self, now: Instant, waited: Duration, last: bool) -> bool {
        if waited < self.target || last {
            self.standing_at = None;
            return false;
        }
        *self.standing_at.get_or_insert(now + self.interval) <= now
    }

    fn pause(&self) -> Duration {
        self.interval.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn codel() -> (Codel, Instant) {
        (Codel::new(5 * MS, 100 * MS), Instant::now())
    }

    #[test]
    fn a_burst_shorter_than_the_interval_sheds_nothing() {
        let (mut codel, start) = codel();
        for at in 0..100 {
            assert!(!codel.sheds(start + MS * at, 50 * MS, false), "at {at}");
        }
        assert!(!codel.sheds(start + 100 * MS, 4 * MS, false));
        for at in 101..200 {
            assert!(!codel.sheds(start + MS * at, 50 * MS, false), "at {at}");
        }
    }

    #[test]
    fn a_standing_queue_sheds_ever_faster() {
        let (mut codel, start) = codel();
        let shed: Vec<u32> =
            (0..1_000).filter(|at| codel.sheds(start + MS * *at, 50 * MS, false)).collect();
        // One at the end of the interval, then after 100 ms / sqrt(n) each.
        assert_eq!(shed[..5], [100, 200, 271, 329, 379]);
        assert!(shed.len() > 20, "{shed:?}");
    }

    #[test]
    fn the_last_job_in_the_queue_is_never_shed() {
        let (mut codel, start) = codel();
        assert!((0..1_000).all(|at| !codel.sheds(start + MS * at, 900 * MS, true)));
    }

    #[test]
    fn shedding_ends_with_the_first_short_wait_and_resumes_at_its_rate() {
        let (mut codel, start) = codel();
        let shed = (0..1_000).filter(|at| codel.sheds(start + MS * *at, 50 * MS, false)).count();
        assert!(!codel.sheds(start + 1_000 * MS, MS, false));
        let again: Vec<u32> =
            (1_001..1_300).filter(|at| codel.sheds(start + MS * *at, 50 * MS, false)).collect();
        assert_eq!(again[0], 1_101);
        let rate = 100.0 / ((shed - 1) as f64).sqrt();
        assert!(f64::from(again[1] - again[0]) <= rate + 1.0, "{again:?}");
    }
}
