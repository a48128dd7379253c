//! The order whose intermediate results have the fewest rows together.

use std::collections::HashMap;

use super::estimate::Sizes;
use super::order::Order;

/// Relations up to which all orders without cross joins are looked at.
const EXHAUSTIVE: usize = 10;

/// Rows of all joins of an order together.
pub(super) fn cost(sizes: &Sizes, order: &Order) -> f64 {
    match order {
        Order::Relation(_) => 0.0,
        Order::Join(left, right) => cost(sizes, left) + cost(sizes, right) + sizes.rows(order.set()),
    }
}

/// The best order of all relations that was found.
pub(super) fn best(sizes: &Sizes) -> Order {
    let parts = (0..sizes.relations()).map(Order::Relation).collect();
    if sizes.relations() <= EXHAUSTIVE { exhaustive(sizes, parts) } else { greedy(sizes, parts) }
}

/// Every way to bring two sets together that a key joins; sets that no key joins come together greedily at the end.
fn exhaustive(sizes: &Sizes, relations: Vec<Order>) -> Order {
    let all = (1u32 << relations.len()) - 1;
    let mut best: HashMap<u32, (f64, Order)> = relations.into_iter().map(|order| (order.set(), (0.0, order))).collect();
    for set in 1..=all {
        if set.count_ones() < 2 {
            continue;
        }
        let rows = sizes.rows(set);
        let mut part = (set - 1) & set;
        while part > 0 {
            let other = set & !part;
            // Each pair once.
            if part > other
                && sizes.are_joined(part, other)
                && let (Some((left_cost, left)), Some((right_cost, right))) = (best.get(&part), best.get(&other))
            {
                let cost = left_cost + right_cost + rows;
                if best.get(&set).is_none_or(|(known, _)| cost < *known) {
                    let order = Order::Join(Box::new(left.clone()), Box::new(right.clone()));
                    best.insert(set, (cost, order));
                }
            }
            part = (part - 1) & set;
        }
    }
    if let Some((_, order)) = best.remove(&all) {
        return order;
    }
    // The largest sets that hang together, which no key joins.
    let mut parts: Vec<Order> = vec![];
    let mut sets: Vec<u32> = best.keys().copied().collect();
    sets.sort_unstable_by_key(|set| (std::cmp::Reverse(set.count_ones()), *set));
    let mut taken = 0;
    for set in sets {
        if set & taken == 0
            && let Some((_, order)) = best.remove(&set)
        {
            taken |= set;
            parts.push(order);
        }
    }
    greedy(sizes, parts)
}

/// Again and again the two parts together that give the fewest rows, those first that a key joins.
fn greedy(sizes: &Sizes, mut parts: Vec<Order>) -> Order {
    while parts.len() > 1 {
        let mut next: Option<(bool, f64, usize, usize)> = None;
        for left in 0..parts.len() {
            for right in left + 1..parts.len() {
                let (a, b) = (parts[left].set(), parts[right].set());
                let candidate = (!sizes.are_joined(a, b), sizes.rows(a | b), left, right);
                if next.is_none_or(|known| (candidate.0, candidate.1) < (known.0, known.1)) {
                    next = Some(candidate);
                }
            }
        }
        let Some((_, _, left, right)) = next else { break };
        let second = parts.remove(right);
        let first = parts.remove(left);
        parts.push(Order::Join(Box::new(first), Box::new(second)));
    }
    parts.pop().unwrap_or(Order::Relation(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_little_comes_first() {
        // A table that meets itself by a key of few values, and a filter of one row that was written behind that.
        let sizes = Sizes::known(&[4000.0, 4000.0, 1.0], &[(0, 1, 17.0), (0, 2, 4000.0)]);
        let written = join(join(0, 1), 2);
        let best = best(&sizes);
        assert_eq!(best, join(join(2, 0), 1));
        assert!(cost(&sizes, &best) < cost(&sizes, &written) / 1000.0);
    }

    #[test]
    fn relations_without_keys_come_last() {
        let sizes = Sizes::known(&[10.0, 1000.0, 1000.0, 5.0], &[(1, 2, 1000.0)]);
        let order = best(&sizes);
        assert_eq!(order.set(), 0b1111);
        let Order::Join(left, right) = order else { panic!("four relations") };
        assert!([left.set(), right.set()].contains(&0b1001), "the two without keys first: 50 pairs");
    }

    #[test]
    fn many_relations_are_ordered_greedily() {
        let rows: Vec<f64> = (0..20).map(|place| 10f64.powi(place % 5)).collect();
        let keys: Vec<(usize, usize, f64)> = (1..20).map(|place| (place - 1, place, 100.0)).collect();
        let sizes = Sizes::known(&rows, &keys);
        let order = best(&sizes);
        assert_eq!(order.set(), (1 << 20) - 1);
        let written = (1..20).fold(Order::Relation(0), |left, place| Order::Join(Box::new(left), Box::new(Order::Relation(place))));
        assert!(cost(&sizes, &order) <= cost(&sizes, &written));
    }

    trait Part {
        fn order(self) -> Box<Order>;
    }

    impl Part for usize {
        fn order(self) -> Box<Order> {
            Box::new(Order::Relation(self))
        }
    }

    impl Part for Order {
        fn order(self) -> Box<Order> {
            Box::new(self)
        }
    }

    fn join(left: impl Part, right: impl Part) -> Order {
        Order::Join(left.order(), right.order())
    }
}
