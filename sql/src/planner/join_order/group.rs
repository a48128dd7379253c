//! Inner joins that stand together.

use std::collections::HashSet;

use datafusion::common::{Column, NullEquality, Result};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder};

use super::order::Order;

/// Least relations for which there is an order to choose.
const LEAST: usize = 3;
/// Most relations that are taken together: sets of them are bits, and joins beyond stay as they were written.
const MOST: usize = 24;

/// Relations that inner joins bring together.
#[derive(Debug)]
pub(super) struct Group {
    /// The joins as written.
    pub(super) written: LogicalPlan,
    /// In which order.
    pub(super) order: Order,
    /// What is joined; no inner join itself.
    pub(super) relations: Vec<LogicalPlan>,
    /// Keys that have to be equal.
    pub(super) keys: Vec<Key>,
    /// What else has to be true.
    others: Vec<Expr>,
}

/// An equality between two relations.
#[derive(Debug)]
pub(super) struct Key {
    /// The relations, by their place.
    pub(super) between: (usize, usize),
    /// What has to be equal in each.
    pub(super) exprs: (Expr, Expr),
}

impl Group {
    /// The group whose topmost join `plan` is; `None` of another plan, and where there is nothing to choose.
    pub(super) fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        if !is_inner_join(plan) {
            return Ok(None);
        }
        let mut parts = Parts::default();
        let order = parts.take(plan);
        let Parts { relations, equal, mut others } = parts;
        if !(LEAST..=MOST).contains(&relations.len()) || !has_unique_columns(&relations) {
            return Ok(None);
        }
        let mut keys = vec![];
        for (left, right) in equal {
            match (relation_of(&relations, &left), relation_of(&relations, &right)) {
                (Some(of_left), Some(of_right)) if of_left != of_right => {
                    keys.push(Key { between: (of_left, of_right), exprs: (left, right) });
                }
                _ => others.push(left.eq(right)),
            }
        }
        Ok(Some(Self { written: plan.clone(), order, relations, keys, others }))
    }

    /// The same rows and columns, joined in another order.
    pub(super) fn in_order(&self, order: &Order) -> Result<LogicalPlan> {
        let (joined, _) = self.join(order)?;
        let filtered = self.others.iter().cloned().reduce(Expr::and);
        let joined = filtered.into_iter().try_fold(LogicalPlanBuilder::from(joined), LogicalPlanBuilder::filter)?;
        joined.project(self.written.schema().columns().into_iter().map(Expr::Column))?.build()
    }

    /// The joins of an order, and the relations in them.
    fn join(&self, order: &Order) -> Result<(LogicalPlan, HashSet<usize>)> {
        let (left, right) = match order {
            Order::Relation(place) => return Ok((self.relations[*place].clone(), HashSet::from([*place]))),
            Order::Join(left, right) => (left, right),
        };
        let ((left, of_left), (right, of_right)) = (self.join(left)?, self.join(right)?);
        let (mut left_keys, mut right_keys) = (vec![], vec![]);
        for Key { between: (a, b), exprs: (of_a, of_b) } in &self.keys {
            if of_left.contains(a) && of_right.contains(b) {
                left_keys.push(of_a.clone());
                right_keys.push(of_b.clone());
            } else if of_left.contains(b) && of_right.contains(a) {
                left_keys.push(of_b.clone());
                right_keys.push(of_a.clone());
            }
        }
        let left = LogicalPlanBuilder::from(left);
        let joined = if left_keys.is_empty() {
            left.cross_join(right)?
        } else {
            left.join_with_expr_keys(right, JoinType::Inner, (left_keys, right_keys), None)?
        };
        Ok((joined.build()?, of_left.union(&of_right).copied().collect()))
    }
}

/// What a group is taken apart into.
#[derive(Debug, Default)]
struct Parts {
    relations: Vec<LogicalPlan>,
    equal: Vec<(Expr, Expr)>,
    others: Vec<Expr>,
}

impl Parts {
    fn take(&mut self, plan: &LogicalPlan) -> Order {
        match plan {
            LogicalPlan::Join(join) if is_inner_join(plan) => {
                let (left, right) = (self.take(&join.left), self.take(&join.right));
                self.equal.extend(join.on.iter().cloned());
                self.others.extend(join.filter.clone().map(split_conjunction_owned).into_iter().flatten());
                Order::Join(Box::new(left), Box::new(right))
            }
            // The engine leaves out columns between joins; it will do so again.
            LogicalPlan::Projection(projection) if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
                if leads_to_join(&projection.input) { self.take(&projection.input) } else { self.relation(plan) }
            }
            LogicalPlan::Filter(filter) if leads_to_join(&filter.input) => {
                self.others.extend(split_conjunction_owned(filter.predicate.clone()));
                self.take(&filter.input)
            }
            _ => self.relation(plan),
        }
    }

    fn relation(&mut self, plan: &LogicalPlan) -> Order {
        self.relations.push(plan.clone());
        Order::Relation(self.relations.len() - 1)
    }
}

fn is_inner_join(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNothing)
}

fn leads_to_join(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) && leads_to_join(&projection.input)
        }
        LogicalPlan::Filter(filter) => leads_to_join(&filter.input),
        _ => is_inner_join(plan),
    }
}

/// Whether no two relations have columns of one name: what was left out between joins may have had the same.
fn has_unique_columns(relations: &[LogicalPlan]) -> bool {
    let mut columns: HashSet<Column> = HashSet::new();
    relations.iter().flat_map(|relation| relation.schema().columns()).all(|column| columns.insert(column))
}

/// The only relation that has all columns of an expression.
fn relation_of(relations: &[LogicalPlan], expr: &Expr) -> Option<usize> {
    let columns = expr.column_refs();
    let has_all = |relation: &LogicalPlan| columns.iter().all(|column| relation.schema().has_column(column));
    if columns.is_empty() { None } else { relations.iter().position(has_all) }
}
