//! Functions over frames of some rows, or of some distance: they are computed in each range, with what they see of other ranges beside
//! its own rows.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, JoinType, LogicalPlan, LogicalPlanBuilder, lit};

use super::functions::Distance;
use super::split::{RANGE, Ranges, range};
use crate::neighbours::{NeighbourRows, Reach};

/// Whether a row is one of its range, and not a neighbour.
const OWN: &str = "__volley_own";
/// The range that a row of others is for.
const TARGET: &str = "__volley_target";
/// The least key of what a range needs.
const LEAST: &str = "__volley_least";
/// The greatest key of what a range needs.
const GREATEST: &str = "__volley_greatest";

/// A function, and what the column of its values is called.
pub(super) type Named<'a> = (&'a WindowFunction, String);

/// `rows` with the values of functions that see `reach` rows of others.
///
/// Rows that tie come in an order of chance, which must be the same one in a range and in the ranges beside it, and for all functions.
/// So they are ordered by all that the functions take, too.
pub(super) fn by_rows(
    functions: &[Named<'_>],
    base: &LogicalPlan,
    ranges: &Ranges,
    reach: Reach,
    rows: LogicalPlan,
) -> Result<LogicalPlan> {
    let order = order_of_ties(functions);
    let columns = [range()].into_iter().chain(order.iter().map(|key| key.expr.clone()));
    let ends = ranges.beside(base.clone())?.project(columns)?.build()?;
    let options = order.iter().map(|key| SortOptions { descending: !key.asc, nulls_first: key.nulls_first }).collect();
    let node = Arc::new(NeighbourRows::new(ends, options, reach, ranges.number()));
    let functions = functions.iter().map(|(function, name)| {
        let mut function = (*function).clone();
        function.params.order_by = order.clone();
        (function, name.clone())
    });
    beside(rows, &LogicalPlan::Extension(Extension { node }), functions.collect())
}

/// Whether [`by_rows`] can order rows by all that functions take.
pub(super) fn can_order(functions: &[Named<'_>], base: &LogicalPlan) -> Result<bool> {
    let types = order_of_ties(functions).into_iter().map(|key| match key.expr {
        Expr::Column(column) => Ok(Some(SortField::new(Expr::Column(column).get_type(base.schema())?))),
        _ => Ok(None),
    });
    let types = types.collect::<Result<Option<Vec<_>>>>()?;
    Ok(types.is_some_and(|types| RowConverter::supports_fields(&types)))
}

/// The order of the window, and after it that of all other columns that its functions take.
fn order_of_ties(functions: &[Named<'_>]) -> Vec<Sort> {
    let mut order: Vec<Sort> = vec![];
    let keys = functions.iter().take(1).flat_map(|(function, _)| function.params.order_by.clone());
    let args = functions.iter().flat_map(|(function, _)| &function.params.args).flat_map(Expr::column_refs);
    let args = args.map(|column| Expr::Column(column.clone()).sort(true, false));
    for key in keys.chain(args) {
        if order.iter().all(|other| other.expr != key.expr) {
            order.push(key);
        }
    }
    order
}

/// `rows` with the values of functions that see the rows of others in some distance; `None` where the distance leads out of the key's type.
pub(super) fn by_distance(
    functions: &[Named<'_>],
    base: &LogicalPlan,
    ranges: &Ranges,
    distance: &[&Distance],
    rows: LogicalPlan,
) -> Result<Option<LogicalPlan>> {
    let key = &ranges.key().expr;
    let Some(needed) = needed(ranges, distance, ScalarValue::try_new_null(&key.get_type(base.schema())?)?) else {
        return Ok(None);
    };
    let names = [TARGET, LEAST, GREATEST].into_iter().zip(1..);
    let names = names.map(|(name, number)| Expr::Column(Column::new_unqualified(format!("column{number}"))).alias(name));
    let needed = LogicalPlanBuilder::values(needed)?.project(names)?.build()?;
    let columns: Vec<_> = order_of_ties(functions).into_iter().map(|key| key.expr).collect();
    let others = ranges.beside(base.clone())?.project([range()].into_iter().chain(columns.clone()))?.build()?;
    let of = |name| Expr::Column(Column::new_unqualified(name));
    let in_reach = [
        of(TARGET).not_eq(range()),
        of(LEAST).is_null().or(key.clone().gt_eq(of(LEAST))),
        of(GREATEST).is_null().or(key.clone().lt_eq(of(GREATEST))),
    ];
    // What is small comes first: a join keeps that side in memory.
    let others = LogicalPlanBuilder::from(needed).join_on(others, JoinType::Inner, in_reach)?;
    let others = others.project([of(TARGET).alias(RANGE)].into_iter().chain(columns))?.build()?;
    let functions = functions.iter().map(|(function, name)| ((*function).clone(), name.clone())).collect();
    beside(rows, &others, functions).map(Some)
}

/// Of each range its number and the least and the greatest key of what it needs; NULL where nothing is beyond it.
fn needed(ranges: &Ranges, distances: &[&Distance], unlimited: ScalarValue) -> Option<Vec<Vec<Expr>>> {
    let is_ascending = ranges.key().asc;
    let shifted = |from: Option<&ScalarValue>, by: Option<&ScalarValue>, up: bool| match (from, by) {
        (None, _) => Some(unlimited.clone()),
        (Some(from), None) => Some(from.clone()),
        (Some(from), Some(by)) if up => from.add_checked(by).ok().filter(|to| to >= from),
        (Some(from), Some(by)) => from.sub_checked(by).ok().filter(|to| to <= from),
    };
    // The farthest of all functions' distances: what more is there than one needs is out of its frame.
    let farthest = |limits: Vec<ScalarValue>, up: bool| {
        limits.into_iter().reduce(|a, b| if (a.partial_cmp(&b) == Some(std::cmp::Ordering::Less)) == up { b } else { a })
    };
    let limit = |from: Option<&ScalarValue>, side: fn(&Distance) -> Option<&ScalarValue>, up: bool| {
        let limits = distances.iter().map(|distance| shifted(from, side(distance), up)).collect::<Option<Vec<_>>>()?;
        farthest(limits, up)
    };
    let rows = ranges.bounds().map(|(number, begin, end)| {
        let (first, last) = (
            limit(begin, |distance| distance.preceding.as_ref(), !is_ascending)?,
            limit(end, |distance| distance.following.as_ref(), is_ascending)?,
        );
        let (least, greatest) = if is_ascending { (first, last) } else { (last, first) };
        Some(vec![lit(number), Expr::Literal(least, None), Expr::Literal(greatest, None)])
    });
    rows.collect()
}

/// `rows`, of which each has its range, with the values of functions over the rows of its range and those of `others` that are for it.
fn beside(rows: LogicalPlan, others: &LogicalPlan, functions: Vec<(WindowFunction, String)>) -> Result<LogicalPlan> {
    let columns = rows.schema().columns();
    let inner = |place: usize| Column::new_unqualified(format!("__volley_column_{place}"));
    let owned = columns.iter().enumerate().map(|(place, column)| Expr::Column(column.clone()).alias(inner(place).name));
    let owned = owned.chain([lit(true).alias(OWN)]).collect::<Vec<_>>();
    let theirs = columns.iter().enumerate().map(|(place, column)| {
        let (known, field) = (others.schema().has_column(column), rows.schema().qualified_field_from_column(column)?.1);
        let value = if known { Expr::Column(column.clone()) } else { filler(field.data_type(), field.is_nullable())? };
        Ok(value.alias(inner(place).name))
    });
    let theirs = theirs.chain([Ok(lit(false).alias(OWN))]).collect::<Result<Vec<_>>>()?;
    let functions = functions.into_iter().map(|(mut function, name)| {
        function.params.partition_by = vec![range()];
        let function = Expr::from(function).transform(|expr| match &expr {
            Expr::Column(column) => match columns.iter().position(|other| other == column) {
                Some(place) => Ok(Transformed::yes(Expr::Column(inner(place)))),
                None => Ok(Transformed::no(expr)),
            },
            _ => Ok(Transformed::no(expr)),
        })?;
        Ok(function.data.alias(name))
    });
    let functions = functions.collect::<Result<Vec<_>>>()?;
    let values: Vec<_> =
        functions.iter().map(|function| Expr::Column(Column::new_unqualified(function.schema_name().to_string()))).collect();
    let theirs = LogicalPlanBuilder::from(others.clone()).project(theirs)?.build()?;
    let all = LogicalPlanBuilder::from(rows).project(owned)?.union(theirs)?.window(functions)?;
    let outer = columns.into_iter().enumerate().map(|(place, column)| {
        let Column { relation, name, .. } = column;
        Expr::Column(inner(place)).alias_qualified(relation, name)
    });
    all.filter(Expr::Column(Column::new_unqualified(OWN)))?.project(outer.chain(values))?.build()
}

/// A value of a column that nothing reads.
fn filler(data_type: &datafusion::arrow::datatypes::DataType, is_nullable: bool) -> Result<Expr> {
    let value = if is_nullable { ScalarValue::try_new_null(data_type)? } else { ScalarValue::new_default(data_type)? };
    Ok(Expr::Literal(value, None))
}
