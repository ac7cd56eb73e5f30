//! Who is next, where some count for more than others: by class, or by whose call it is.
//!
//! Those who wait form flows, first come first served within each. Which flow is next is decided by self-clocked fair
//! queueing (S. J. Golestani, "A Self-Clocked Fair Queueing Scheme for Broadband Applications", INFOCOM 1994). The head
//! of each flow has a tag: the virtual time at which its flow was served last, plus its cost divided by the weight of the
//! flow. The smallest tag is next, and the virtual time becomes that tag. A flow that comes anew starts at the virtual
//! time. So each flow with somebody in it gets a share as large as its weight, whatever the others do, and what it does not
//! use goes to them. A flow that has become empty has no claim left, and is forgotten: memory is bounded by who waits.
//!
//! Where the queue is full, room is made in the same shares. The flow that has the most waiting for its weight loses its
//! last one, if the newcomer's flow would still have less than that. ("Longest queue drop": B. Suter et al., "Design
//! Considerations for Supporting TCP with Per-flow Queueing", INFOCOM 1998.)
//!
//! A class is a flow, too, and there are four of them with very different weights. In a short queue the lowest one
//! would always lose, and be starved. So a class that was refused, or left, remembers since when it was not served. Once it
//! would have had a turn, its next one is let in, and is not dropped.
//!
//! Pure: no lock, no clock, nothing of the user's.

use std::collections::{BTreeMap, BTreeSet};

use crate::Share;

/// The order of those who wait. `K` names one; keys of one flow are served in their own order.
#[derive(Debug)]
pub struct FairOrder<K> {
    flows: BTreeMap<u64, Flow<K>>,
    /// The flow that each is in.
    members: BTreeMap<K, u64>,
    /// The flows by the tags of their heads; among equals the one that was served first, or came first.
    heads: BTreeSet<(u128, u64, u64)>,
    /// The flows by how many wait in them for their weight.
    lengths: BTreeSet<(u64, u64)>,
    /// The virtual time: each flow is served `weight` times in [`UNIT`].
    now: u128,
    turns: u64,
    /// Whether a flow that is empty remembers since when it was not served.
    remembers: bool,
}

#[derive(Debug)]
struct Flow<K> {
    weight: u32,
    /// The virtual time at which it was served last, or came, or was refused first.
    since: u128,
    turn: u64,
    /// With what each costs.
    waiting: BTreeMap<K, u32>,
    /// Where it stands in `heads` and in `lengths`.
    listed: Option<(u128, u64)>,
}

const UNIT: u64 = 1 << 32;

// === impl FairOrder ===

impl<K: Copy + Ord> FairOrder<K> {
    /// By class.
    pub const fn by_class() -> Self {
        Self::new(true)
    }

    /// By whose call it is.
    pub const fn by_share() -> Self {
        Self::new(false)
    }

    const fn new(remembers: bool) -> Self {
        Self {
            flows: BTreeMap::new(),
            members: BTreeMap::new(),
            heads: BTreeSet::new(),
            lengths: BTreeSet::new(),
            now: 0,
            turns: 0,
            remembers,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// One more waits, in the flow of its share.
    pub fn push(&mut self, share: Share, key: K) {
        let (weight, cost) = share.weight_and_cost();
        let (now, turn) = (self.now, self.turns);
        self.turns += 1;
        self.edit(share.flow(), |flow| {
            flow.weight = weight;
            if flow.waiting.is_empty() {
                // However long it was refused, it is owed one turn and no more.
                flow.since = flow.since.max(now.saturating_sub(step(cost, weight)));
                flow.turn = turn;
            }
            flow.waiting.insert(key, cost);
        });
        self.members.insert(key, share.flow());
    }

    /// One leaves without being served. Returns whether it was waiting.
    pub fn remove(&mut self, key: K) -> bool {
        let Some(flow) = self.members.remove(&key) else { return false };
        self.edit(flow, |flow| flow.waiting.remove(&key));
        if !self.remembers {
            self.forget_empty(flow);
        }
        true
    }

    /// Who is next among the flows that `may` be served.
    pub fn first(&self, may: impl Fn(u64) -> bool) -> Option<K> {
        let (.., id) = self.heads.iter().find(|(.., id)| may(*id))?;
        let (key, _) = self.flows.get(id)?.waiting.first_key_value()?;
        Some(*key)
    }

    /// Serves the one that is next among the flows that `may` be served.
    pub fn pop(&mut self, may: impl Fn(u64) -> bool) -> Option<K> {
        let (tag, _, id) = *self.heads.iter().find(|(.., id)| may(*id))?;
        self.now = self.now.max(tag);
        let (now, turn) = (self.now, self.turns);
        self.turns += 1;
        let (key, _) = self.edit(id, |flow| {
            (flow.since, flow.turn) = (now, turn);
            flow.waiting.pop_first()
        })?;
        self.members.remove(&key);
        self.forget_empty(id);
        Some(key)
    }

    /// Who is to leave a full queue for a newcomer with this share, among the flows that `may` be served or not. None if the
    /// newcomer is the one to be refused.
    pub fn give_way(&mut self, share: Share, may: impl Fn(u64) -> bool) -> Option<K> {
        let ((weight, cost), now) = (share.weight_and_cost(), self.now);
        let own = self.flows.get(&share.flow());
        let len = own.map_or(0, |own| own.waiting.len());
        let is_due = own.is_some_and(|own| len == 0 && own.since + step(cost, weight) <= now);
        let wanted = length(len + 1, weight);
        let has_turn = |id: &u64, flow: &Flow<K>| {
            let is_due = flow.listed.is_some_and(|(tag, _)| tag <= now);
            self.remembers && is_due && flow.waiting.len() == 1 && may(*id)
        };
        let longest = self.lengths.iter().rev().find_map(|(length, id)| {
            let flow = self.flows.get(id)?;
            let last = flow.waiting.last_key_value()?;
            (!has_turn(id, flow)).then_some((*length, *last.0))
        });
        let last = longest.filter(|(length, _)| is_due || wanted < *length).map(|(_, last)| last);
        if last.is_none() && self.remembers && len == 0 {
            self.edit(share.flow(), |flow| flow.weight = weight);
        }
        last
    }

    /// Changes a flow, which is there afterwards, and lists it anew.
    fn edit<R>(&mut self, id: u64, change: impl FnOnce(&mut Flow<K>) -> R) -> R {
        let new =
            Flow { weight: 1, since: self.now, turn: 0, waiting: BTreeMap::new(), listed: None };
        let flow = self.flows.entry(id).or_insert(new);
        let old = (flow.listed, flow.turn);
        let result = change(flow);
        let head = flow.waiting.first_key_value();
        let tag = head.map(|(_, cost)| flow.since + step(*cost, flow.weight));
        flow.listed = tag.map(|tag| (tag, length(flow.waiting.len(), flow.weight)));
        if (flow.listed, flow.turn) != old {
            if let (Some((tag, length)), turn) = old {
                self.heads.remove(&(tag, turn, id));
                self.lengths.remove(&(length, id));
            }
            if let Some((tag, length)) = flow.listed {
                self.heads.insert((tag, flow.turn, id));
                self.lengths.insert((length, id));
            }
        }
        result
    }

    fn forget_empty(&mut self, id: u64) {
        if self.flows.get(&id).is_some_and(|flow| flow.waiting.is_empty()) {
            self.flows.remove(&id);
        }
    }
}

/// How far the virtual time goes on with one that is served.
fn step(cost: u32, weight: u32) -> u128 {
    u128::from(u64::from(cost) * UNIT / u64::from(weight))
}

/// How many wait for the weight of their flow.
fn length(len: usize, weight: u32) -> u64 {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    u64::from(len) * (UNIT - 1) / u64::from(weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::priority::Priority;

    fn all(_: u64) -> bool {
        true
    }

    fn class(priority: Priority) -> Share {
        Share::of_class(priority)
    }

    /// Serves `n` of flows that always have somebody waiting, and counts whom.
    fn serve(shares: &[Share], n: usize) -> Vec<usize> {
        let mut order = FairOrder::by_share();
        let mut next = 0;
        let mut push = |order: &mut FairOrder<_>, flow: usize| {
            order.push(shares[flow], (next, flow));
            next += 1;
        };
        (0..shares.len()).for_each(|flow| push(&mut order, flow));
        let mut served = vec![0; shares.len()];
        for _ in 0..n {
            let (_, flow) = order.pop(all).unwrap();
            served[flow] += 1;
            push(&mut order, flow);
        }
        served
    }

    #[test]
    fn who_waits_is_served_in_equal_shares_or_by_weight_and_cost() {
        let [a, b, c] = ["a", "b", "c"].map(Share::of);
        assert_eq!(serve(&[a, b, c], 300), [100, 100, 100]);
        assert_eq!(serve(&[a, b.weight(3)], 400), [100, 300]);
        assert_eq!(serve(&[a, b.cost(4)], 500), [400, 100]);
    }

    #[test]
    fn one_who_waits_with_one_at_a_time_gets_as_much_as_one_with_many() {
        let (many, one) = (Share::of("many"), Share::of("one"));
        let mut order = FairOrder::by_share();
        (0..1_000).for_each(|key| order.push(many, key));
        order.push(one, 1_000);
        let mut served = 0;
        for key in 1_001..1_201 {
            if order.pop(all).unwrap() >= 1_000 {
                served += 1;
                order.push(one, key);
            }
        }
        assert_eq!(served, 100);
    }

    #[test]
    fn a_class_is_served_before_the_lower_ones_and_starves_none() {
        let mut order = FairOrder::by_class();
        for key in 0..2_000 {
            Priority::ALL
                .into_iter()
                .for_each(|priority| order.push(class(priority), (key, priority)));
        }
        assert_eq!(order.pop(all), Some((0, Priority::Critical)));
        let mut served = [1, 0, 0, 0];
        for _ in 1..1_111 {
            let (_, priority) = order.pop(all).unwrap();
            served[Priority::Critical as usize - priority as usize] += 1;
        }
        assert_eq!(served, [1_000, 100, 10, 1]);
    }

    #[test]
    fn the_lowest_class_gives_way_and_its_last_one_first() {
        use Priority::*;
        let mut order = FairOrder::by_class();
        for (key, priority) in [Default, Background, Background, Critical].into_iter().enumerate() {
            order.push(class(priority), key);
        }
        assert_eq!(order.give_way(class(Background), all), None);
        for (priority, last) in [(Sheddable, 2), (Critical, 1), (Critical, 0)] {
            assert_eq!(order.give_way(class(priority), all), Some(last));
            assert!(order.remove(last) && !order.remove(last));
        }
        assert_eq!(order.give_way(class(Critical), all), None);
        assert_eq!(order.len(), 1);
    }

    #[test]
    fn a_class_that_a_short_queue_always_refuses_is_let_in_when_its_turn_has_come() {
        use Priority::*;
        let (mut order, mut lets_in) = (FairOrder::by_class(), 0);
        for key in 0..10_000 {
            order.push(class(Default), key);
            if let Some(last) = order.give_way(class(Background), all) {
                order.remove(last);
                order.push(class(Background), 10_000 + key);
                assert_eq!(order.give_way(class(Critical), all), None, "it keeps its turn");
                lets_in += 1;
            }
            order.pop(all).unwrap();
        }
        assert!((90..=100).contains(&lets_in), "{lets_in}");
    }

    #[test]
    fn the_flow_with_the_most_waiting_gives_way_to_one_with_less() {
        let (hot, cold) = (Share::of("hot"), Share::of("cold"));
        let mut order = FairOrder::by_share();
        (0..4).for_each(|key| order.push(hot, key));
        for (key, last) in [(4, Some(3)), (5, Some(2)), (6, None)] {
            assert_eq!(order.give_way(cold, all), last);
            assert_eq!(order.give_way(hot, all), None);
            if let Some(last) = last {
                order.remove(last);
                order.push(cold, key);
            }
        }
        assert_eq!(
            order.give_way(Share::of("third"), all),
            Some(if cold.flow() > hot.flow() { 5 } else { 1 })
        );
    }

    #[test]
    fn a_flow_that_may_not_be_served_is_passed_over_and_has_no_claim_to_more_later() {
        let mut order = FairOrder::by_class();
        let (low, high) = (class(Priority::Background), class(Priority::Critical));
        (0..10).for_each(|key| order.push(low, key));
        (10..5_010).for_each(|key| order.push(high, key));
        let not_low = |flow| flow != low.flow();
        (0..4_000).for_each(|_| assert!(order.pop(not_low).unwrap() >= 10));
        assert_eq!(order.pop(all), Some(0));
        (0..999).for_each(|_| assert!(order.pop(all).unwrap() >= 10));
        assert_eq!(order.first(|flow| flow == low.flow()), Some(1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Pop,
        Remove(prop::sample::Index),
        GiveWay(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (0..4_u8).prop_map(Step::Push),
            3 => Just(Step::Pop),
            2 => any::<prop::sample::Index>().prop_map(Step::Remove),
            2 => (0..4_u8).prop_map(Step::GiveWay),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn nobody_is_lost_or_served_twice_and_nothing_is_kept_of_who_left(
            by_class in any::<bool>(),
            steps in steps(),
        ) {
            let share = |flow: u8| match by_class {
                true => class(Priority::ALL[usize::from(flow)]),
                false => Share::of(flow).weight(u32::from(flow)).cost(u32::from(flow % 2) * 7),
            };
            let mut order = if by_class { FairOrder::by_class() } else { FairOrder::by_share() };
            let mut waiting: Vec<(u8, usize)> = Vec::new();
            for (key, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(flow) => {
                        order.push(share(flow), key);
                        waiting.push((flow, key));
                    }
                    Step::Pop => {
                        let first = order.first(all);
                        prop_assert_eq!(first, order.pop(all));
                        prop_assert_eq!(first.is_none(), waiting.is_empty());
                        if let Some(first) = first {
                            let at = waiting.iter().position(|(_, key)| *key == first);
                            let (flow, _) = waiting.remove(at.unwrap());
                            let earlier = |&(other, key): &(u8, usize)| other == flow && key < first;
                            prop_assert!(!waiting.iter().any(earlier), "first come in its flow");
                        }
                    }
                    Step::Remove(at) if !waiting.is_empty() => {
                        let (_, key) = waiting.remove(at.index(waiting.len()));
                        prop_assert!(order.remove(key) && !order.remove(key));
                    }
                    Step::Remove(_) => {}
                    Step::GiveWay(flow) => {
                        if let Some(last) = order.give_way(share(flow), all) {
                            let at = waiting.iter().position(|(_, key)| *key == last).unwrap();
                            let (other, _) = waiting.remove(at);
                            prop_assert!(other != flow);
                            prop_assert!(order.remove(last));
                            order.push(share(flow), key);
                            waiting.push((flow, key));
                        }
                    }
                }
                prop_assert_eq!(order.len(), waiting.len());
                let flows: BTreeSet<u8> = waiting.iter().map(|(flow, _)| *flow).collect();
                prop_assert_eq!((order.heads.len(), order.lengths.len()), (flows.len(), flows.len()));
                prop_assert!(order.flows.len() == flows.len() || by_class && order.flows.len() <= 4);
            }
        }

        /// The bound that the paper proves.
        #[test]
        fn two_flows_that_both_wait_differ_by_no_more_than_one_turn_of_each(
            weights in prop::array::uniform3(1..20_u32),
            costs in prop::collection::vec(prop::array::uniform3(1..10_u32), 100..200),
        ) {
            let mut order = FairOrder::by_share();
            for (n, costs) in costs.iter().enumerate() {
                for flow in 0..3 {
                    let share = Share::of(flow).weight(weights[flow]).cost(costs[flow]);
                    order.push(share, (n, flow));
                }
            }
            let mut served = [0.0; 3];
            for _ in 0..100 {
                let (n, flow) = order.pop(all).unwrap();
                served[flow] += f64::from(costs[n][flow]) / f64::from(weights[flow]);
                for (a, b) in [(0, 1), (1, 2), (0, 2)] {
                    let turn = 9.0 / f64::from(weights[a]) + 9.0 / f64::from(weights[b]);
                    prop_assert!((served[a] - served[b]).abs() <= turn + 1e-6);
                }
            }
        }
    }
}
