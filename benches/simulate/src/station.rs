//! Workers with one queue in front of them, first come, first served. Pure: time and chance are passed in.
//!
//! Time is measured in work: a clock that stands still while the server does, and goes at half the pace while it has
//! half of its capacity. So what is under way when the speed changes is slowed down with all the rest.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

/// The queue and the workers of a server. Requests are told apart by numbers.
#[derive(Debug)]
pub(crate) struct Station {
    workers: usize,
    room: usize,
    speed: f64,
    /// When it was looked at last.
    now: Duration,
    /// How much work, in nanoseconds of one worker, could have been done until then.
    work: u64,
    waiting: VecDeque<usize>,
    /// What is worked on, and how much work is done when it will be.
    busy: BinaryHeap<Reverse<(u64, usize)>>,
}

/// There is no room in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

// === impl Station ===

impl Station {
    pub(crate) fn new(workers: usize, room: usize) -> Self {
        Self {
            workers,
            room,
            speed: 1.0,
            now: Duration::ZERO,
            work: 0,
            waiting: VecDeque::new(),
            busy: BinaryHeap::new(),
        }
    }

    /// From now on it works at `speed` times what it can; 0 makes it stand still.
    pub(crate) fn set_speed(&mut self, speed: f64) {
        self.speed = speed;
    }

    /// A request arrives. `takes` says how much work it is, and is asked when that begins.
    pub(crate) fn arrive(
        &mut self,
        request: usize,
        takes: impl FnOnce() -> Duration,
    ) -> Result<(), Full> {
        if self.busy.len() < self.workers {
            self.begin(self.work, request, takes());
        } else if self.waiting.len() < self.room {
            self.waiting.push_back(request);
        } else {
            return Err(Full);
        }
        Ok(())
    }

    /// Goes on until `now`, and tells which requests were done, in order. A worker that is free takes the next one
    /// at the moment when it becomes free, which may lie between two looks.
    pub(crate) fn advance(
        &mut self,
        now: Duration,
        mut takes: impl FnMut() -> Duration,
        mut done: impl FnMut(usize),
    ) {
        let passed = now.saturating_sub(self.now);
        self.now = now;
        self.work += nanos(passed.mul_f64(self.speed));
        while let Some(&Reverse((finish, request))) = self.busy.peek()
            && finish <= self.work
        {
            self.busy.pop();
            done(request);
            if let Some(next) = self.waiting.pop_front() {
                self.begin(finish, next, takes());
            }
        }
    }

    /// How many requests wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn begin(&mut self, at: u64, request: usize, takes: Duration) {
        self.busy.push(Reverse((at + nanos(takes), request)));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn until(station: &mut Station, now: Duration) -> Vec<usize> {
        let mut done = Vec::new();
        station.advance(now, || 10 * MS, |request| done.push(request));
        done
    }

    fn arrive(station: &mut Station, requests: std::ops::Range<usize>) {
        for request in requests {
            station.arrive(request, || 10 * MS).unwrap();
        }
    }

    #[test]
    fn requests_are_served_in_the_order_in_which_they_came() {
        let mut station = Station::new(1, 8);
        arrive(&mut station, 0..4);

        assert!(until(&mut station, 9 * MS).is_empty());
        assert_eq!(until(&mut station, 10 * MS), [0]);
        assert_eq!(until(&mut station, 40 * MS), [1, 2, 3]);
    }

    #[test]
    fn workers_work_at_the_same_time() {
        let mut station = Station::new(3, 8);
        arrive(&mut station, 0..4);

        assert_eq!(until(&mut station, 10 * MS), [0, 1, 2]);
        assert_eq!(until(&mut station, 20 * MS), [3]);
    }

    #[test]
    fn no_time_is_lost_between_two_looks() {
        let mut station = Station::new(1, 100);
        arrive(&mut station, 0..100);

        let mut done = 0;
        for look in 1..=25 {
            done += until(&mut station, look * 39 * MS).len();
        }
        assert_eq!(done, 97, "975 ms are 97 requests of 10 ms");
    }

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let mut station = Station::new(1, 2);
        arrive(&mut station, 0..3);

        assert_eq!(station.arrive(3, || 10 * MS), Err(Full));
        assert_eq!(station.waiting(), 2);
    }

    #[test]
    fn a_stalled_server_goes_on_where_it_was() {
        let mut station = Station::new(1, 2);
        arrive(&mut station, 0..2);
        assert!(until(&mut station, 6 * MS).is_empty());

        station.set_speed(0.0);
        assert!(until(&mut station, 1_000 * MS).is_empty());
        station.set_speed(1.0);
        assert!(until(&mut station, 1_003 * MS).is_empty());
        assert_eq!(until(&mut station, 1_004 * MS), [0]);
    }

    #[test]
    fn a_server_at_half_its_speed_takes_twice_as_long() {
        let mut station = Station::new(1, 2);
        station.set_speed(0.5);
        arrive(&mut station, 0..2);

        assert_eq!(until(&mut station, 20 * MS), [0]);
        assert!(until(&mut station, 39 * MS).is_empty());
        assert_eq!(until(&mut station, 40 * MS), [1]);
    }
}
