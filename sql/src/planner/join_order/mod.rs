//! Pass 0, on the optimized plan: the order of inner joins, which the engine takes as it was written.
//!
//! Inner joins that stand together are one [`Group`] of relations, keys that join two of them, and other conditions. Relations are planned by
//! themselves, so that the engine tells how many rows they have after their own filters ([`estimate`]); the order whose intermediate
//! results are smallest together is searched ([`search`]). It replaces what was written where it makes them much smaller: estimates err, and
//! whoever wrote a query may have known better.

mod estimate;
mod group;
mod order;
mod search;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use group::Group;
use order::Order;

/// What the intermediate results of another order may come to, as a share of those of the order that was written.
const WORTH_IT: f64 = 0.5;

/// An optimized plan with its inner joins in an order that makes little of them; `None` where all stay as they were.
pub(super) async fn reordered(state: &SessionState, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let mut groups = vec![];
    collect(plan, &mut groups)?;
    let mut better = vec![];
    for group in &groups {
        if let Some(order) = better_order(state, group).await? {
            better.push((&group.written, group.in_order(&order)?));
        }
    }
    if better.is_empty() {
        return Ok(None);
    }
    // From the root down: what takes a group's place has its relations, within which there may be other groups.
    let replaced = plan.clone().transform_down(|node| {
        let other = better.iter().find(|(written, _)| **written == node);
        Ok(other.map_or_else(|| Transformed::no(node), |(_, other)| Transformed::yes(other.clone())))
    })?;
    Ok(Some(replaced.data))
}

/// The groups of a plan, from the root down.
fn collect(plan: &LogicalPlan, groups: &mut Vec<Group>) -> Result<()> {
    // Our own operators may count on what stands right below them.
    if matches!(plan, LogicalPlan::Extension(_)) {
        return Ok(());
    }
    match Group::of(plan)? {
        Some(group) => {
            let relations = group.relations.clone();
            groups.push(group);
            relations.iter().flat_map(LogicalPlan::inputs).try_for_each(|input| collect(input, groups))
        }
        None => plan.inputs().into_iter().try_for_each(|input| collect(input, groups)),
    }
}

async fn better_order(state: &SessionState, group: &Group) -> Result<Option<Order>> {
    let Some(sizes) = estimate::sizes(state, group).await? else { return Ok(None) };
    let written = search::cost(&sizes, &group.order);
    let best = search::best(&sizes);
    let cost = search::cost(&sizes, &best);
    tracing::debug!(written, cost, ?best, "order of joins");
    Ok((cost < written * WORTH_IT).then_some(best))
}
