//! How many rows joins give.
//!
//! A join of `a` and `b` rows by a key gives `a * b / max(values in a, values in b)` rows, as if each value of the side with fewer of them were in
//! the other (Selinger et al., 1979). Several keys between two relations are one key, which has no more values than either table has rows.

use std::collections::BTreeMap;

use datafusion::common::{ColumnStatistics, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{BinaryExpr, Expr, Like, LogicalPlan, Operator};
use datafusion::physical_plan::{StatisticsArgs, StatisticsContext};

use super::group::{Group, Key};
use crate::planner::size::{Leaves, range};

/// What a pattern leaves of a table.
const SHARE_OF_LIKE: f64 = 0.1;

/// What is known of a group's relations and keys.
#[derive(Debug)]
pub(super) struct Sizes {
    /// Rows of each relation after its own filters, at least one.
    rows: Vec<f64>,
    keys: Vec<KeyShare>,
}

/// What a key leaves of the pairs of rows of two relations.
#[derive(Debug)]
struct KeyShare {
    between: u32,
    share: f64,
}

/// Sizes as the engine estimates them; `None` where it does not know the rows of a relation.
pub(super) async fn sizes(state: &SessionState, group: &Group) -> Result<Option<Sizes>> {
    let mut known = vec![];
    for relation in &group.relations {
        match Relation::of(state, relation).await? {
            Some(relation) => known.push(relation),
            None => return Ok(None),
        }
    }
    let mut keys: BTreeMap<(usize, usize), Vec<(&Expr, &Expr)>> = BTreeMap::new();
    for Key { between: (left, right), exprs: (of_left, of_right) } in &group.keys {
        let (between, exprs) = if left < right { ((*left, *right), (of_left, of_right)) } else { ((*right, *left), (of_right, of_left)) };
        keys.entry(between).or_default().push(exprs);
    }
    let share = |((left, right), exprs): (&(usize, usize), &Vec<(&Expr, &Expr)>)| {
        let (left_values, right_values): (Vec<f64>, Vec<f64>) =
            exprs.iter().map(|(of_left, of_right)| (known[*left].values(of_left), known[*right].values(of_right))).unzip();
        let (of_left, of_right) = (known[*left].together(&left_values), known[*right].together(&right_values));
        // Of several keys more is known of the side that they are unique in, than of how they go together in the other.
        let values = if exprs.len() > 1 { of_left.min(of_right) } else { of_left.max(of_right) };
        KeyShare { between: 1 << left | 1 << right, share: 1.0 / values.max(1.0) }
    };
    let keys = keys.iter().map(share).collect();
    Ok(Some(Sizes { rows: known.iter().map(|relation| relation.rows).collect(), keys }))
}

impl Sizes {
    /// How many relations there are.
    pub(super) fn relations(&self) -> usize {
        self.rows.len()
    }

    /// Whether a key joins two sets of relations.
    pub(super) fn are_joined(&self, left: u32, right: u32) -> bool {
        self.keys.iter().any(|key| key.between & left != 0 && key.between & right != 0 && key.between & !(left | right) == 0)
    }

    /// Rows of the join of a set of relations, in whatever order.
    pub(super) fn rows(&self, set: u32) -> f64 {
        let pairs: f64 = self.rows.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1).map(|(_, rows)| rows).product();
        let share: f64 = self.keys.iter().filter(|key| key.between & !set == 0).map(|key| key.share).product();
        (pairs * share).max(1.0)
    }
}

/// One relation, planned by itself.
struct Relation<'a> {
    logical: &'a LogicalPlan,
    columns: Vec<ColumnStatistics>,
    leaves: Leaves,
    /// After its filters, at least one.
    rows: f64,
}

impl<'a> Relation<'a> {
    async fn of(state: &SessionState, logical: &'a LogicalPlan) -> Result<Option<Self>> {
        let physical = state.query_planner().create_physical_plan(logical, state).await?;
        let context = StatisticsContext::new();
        let statistics = context.compute(physical.as_ref(), &StatisticsArgs::new())?;
        let Some(&rows) = statistics.num_rows.get_value() else { return Ok(None) };
        let leaves = Leaves::below(&physical, &context)?;
        let columns = statistics.column_statistics.clone();
        let mut relation = Self { logical, columns, leaves, rows: rows as f64 };
        if let Some(table) = relation.leaves.rows() {
            relation.rows = relation.rows.min(table as f64 * relation.share_of_equalities());
        }
        relation.rows = relation.rows.max(1.0);
        Ok(Some(relation))
    }

    /// What conditions on single values leave of a table: the engine takes a fifth where it knows no distinct values.
    fn share_of_equalities(&self) -> f64 {
        let share = |condition: &Expr| {
            let (column, values) = match condition {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
                    (Expr::Column(column), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(column)) => (column, 1),
                    _ => return 1.0,
                },
                Expr::InList(InList { expr, list, negated: false }) => match expr.as_ref() {
                    Expr::Column(column) => (column, list.len()),
                    _ => return 1.0,
                },
                Expr::Like(Like { negated: false, .. }) => return SHARE_OF_LIKE,
                _ => return 1.0,
            };
            // As many as there are rows: they are not known.
            let all = self.leaves.values(&column.name).filter(|all| Some(*all) != self.leaves.rows());
            all.map_or(1.0, |all| (values as f64 / all as f64).min(1.0))
        };
        conditions(self.logical).iter().map(share).product()
    }

    /// How many values an expression has in the whole table, before the relation's filters: that is what they take their share of.
    fn values(&self, expr: &Expr) -> f64 {
        let Expr::Column(column) = expr else { return self.rows };
        let in_leaves = self.leaves.values(&column.name).map(|values| values as f64);
        let place = self.logical.schema().maybe_index_of_column(column);
        let of_column = place.and_then(|place| range(self.columns.get(place)?)).map(|values| values as f64);
        match (in_leaves, of_column) {
            (Some(values), Some(range)) => values.min(range),
            (Some(values), None) | (None, Some(values)) => values,
            (None, None) => self.rows,
        }
    }

    /// How many values several columns have together.
    fn together(&self, values: &[f64]) -> f64 {
        let rows = self.leaves.rows().map_or(self.rows, |rows| (rows as f64).max(self.rows));
        values.iter().product::<f64>().min(rows)
    }
}

/// The conditions of a relation that is a filtered table.
fn conditions(relation: &LogicalPlan) -> Vec<Expr> {
    match relation {
        LogicalPlan::Filter(filter) => {
            let mut all = conditions(&filter.input);
            all.extend(split_conjunction_owned(filter.predicate.clone()));
            all
        }
        LogicalPlan::Projection(projection) => conditions(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => conditions(&alias.input),
        _ => vec![],
    }
}

#[cfg(test)]
impl Sizes {
    /// Relations of so many rows, and keys between two of them with so many values.
    pub(super) fn known(rows: &[f64], keys: &[(usize, usize, f64)]) -> Self {
        let keys = keys.iter().map(|(left, right, values)| KeyShare { between: 1 << left | 1 << right, share: 1.0 / values });
        Self { rows: rows.to_vec(), keys: keys.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leaves_its_share_of_the_pairs() {
        let sizes = Sizes::known(&[100.0, 1000.0, 10.0], &[(0, 1, 100.0), (1, 2, 50.0)]);
        assert_eq!(sizes.rows(0b001), 100.0);
        assert_eq!(sizes.rows(0b011), 1000.0);
        assert_eq!(sizes.rows(0b101), 1000.0, "all pairs");
        assert_eq!(sizes.rows(0b111), 200.0);
        assert!(sizes.are_joined(0b001, 0b110) && !sizes.are_joined(0b001, 0b100));
    }

    #[test]
    fn a_join_gives_a_row_at_least() {
        let sizes = Sizes::known(&[2.0, 2.0], &[(0, 1, 1e6)]);
        assert_eq!(sizes.rows(0b11), 1.0);
    }
}
