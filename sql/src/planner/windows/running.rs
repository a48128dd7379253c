//! Functions that go on from range to range: what they are in a range is put together with what they are over the ranges before.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, JoinType, NullEquality, TableReference};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::{coalesce, greatest, least, nullif};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound, WindowFrameUnits, lit, when,
};
use datafusion::scalar::ScalarValue;

use super::functions::{Combine, Finish, Part, Running, Total, count_of_rows};
use super::split::{Ranges, range};

/// The column of the range that aggregates are of what is before.
const RANGE_AFTER: &str = "__volley_range_after";
/// The column of the range that different keys are counted of.
const RANGE_OF_KEYS: &str = "__volley_range_of_keys";
/// What aggregates of other rows are called.
const BEFORE: &str = "__volley_before";

/// A function and the places of its parts among those of all functions.
type Placed<'a> = (&'a Running, Vec<usize>);

/// The parts of all functions, each once, and where each function's are: the engine computes no window twice.
fn parts<'a>(functions: &[&'a Running]) -> (Vec<&'a Part>, Vec<Placed<'a>>) {
    let mut parts: Vec<&Part> = vec![];
    let mut place = |part: &'a Part| {
        parts.iter().position(|other| *other == part).unwrap_or_else(|| {
            parts.push(part);
            parts.len() - 1
        })
    };
    let placed = functions.iter().map(|running| (*running, running.parts.iter().map(&mut place).collect())).collect();
    (parts, placed)
}

/// The rows beside what functions are over all of them, and the values of these.
pub(super) fn beside_all(functions: &[&Running], base: &LogicalPlan, rows: LogicalPlan) -> Result<(LogicalPlan, Vec<Expr>)> {
    let (parts, placed) = parts(functions);
    let totals = aggregates(&parts);
    let all = LogicalPlanBuilder::from(base.clone()).aggregate(Vec::<Expr>::new(), totals)?.alias(BEFORE)?.build()?;
    // What is small comes first: a join keeps that side in memory.
    let rows = LogicalPlanBuilder::from(all).cross_join(rows)?.build()?;
    let values = placed.into_iter().flat_map(|(_, places)| places).map(|place| of_others(total(place))).collect();
    Ok((rows, values))
}

/// `rows`, which have their range beside them, with what the values of functions are made of, and these values.
pub(super) fn in_ranges(
    functions: &[&Running],
    base: &LogicalPlan,
    ranges: &Ranges,
    rows: LogicalPlan,
) -> Result<(LogicalPlan, Vec<Expr>)> {
    let before = before_each(functions, base, ranges)?;
    let (parts, placed) = parts(functions);
    let within = parts.iter().enumerate().map(|(number, part)| {
        let mut function = part.within.clone();
        function.params.partition_by = vec![range()];
        Expr::from(function).alias(within(number))
    });
    let rows = LogicalPlanBuilder::from(rows).window(within)?.build()?;
    let on = (vec![Column::new(Some(BEFORE), RANGE_AFTER)], vec![Column::new_unqualified(super::split::RANGE)]);
    // What is small comes first: a join keeps that side in memory.
    let before = LogicalPlanBuilder::from(before);
    let rows = before.join_detailed(rows, JoinType::Inner, on, None, NullEquality::NullEqualsNothing)?.build()?;
    let values = placed.iter().map(|function| value(function, &parts, &rows)).collect::<Result<_>>()?;
    Ok((rows, values))
}

/// Of each range, what the parts of functions are over the ranges before it, and over all.
fn before_each(functions: &[&Running], base: &LogicalPlan, ranges: &Ranges) -> Result<LogicalPlan> {
    let (parts, placed) = parts(functions);
    let totals = totals_of_each(&parts, base, ranges)?;
    let preceding = |rows| WindowFrameBound::Preceding(ScalarValue::UInt64(rows));
    let frame = WindowFrame::new_bounds(WindowFrameUnits::Rows, preceding(None), preceding(Some(1)));
    let over = |number: usize, udaf| {
        let of = Expr::Column(Column::new_unqualified(total(number)));
        WindowFunction::new(WindowFunctionDefinition::AggregateUDF(udaf), vec![of])
    };
    let before = parts.iter().enumerate().map(|(number, part)| {
        let mut function = over(
            number,
            match part.combine {
                Combine::Add => sum_udaf(),
                Combine::Least => min_udaf(),
                Combine::Greatest => max_udaf(),
            },
        );
        function.params.order_by = vec![range().sort(true, true)];
        function.params.window_frame = frame.clone();
        Expr::from(function).alias(before_name(number))
    });
    let rows = totals.window(before)?;
    let shares = placed.iter().filter(|(running, _)| running.finish.is_of_all()).flat_map(|(_, places)| places.iter().copied());
    let shares: BTreeSet<usize> = shares.collect();
    let rows = match shares.is_empty() {
        true => rows,
        false => rows.window(shares.iter().map(|number| Expr::from(over(*number, sum_udaf())).alias(all_name(*number))))?,
    };
    let column = |name: String| Expr::Column(Column::new_unqualified(name));
    let columns = (0..parts.len()).map(|number| column(before_name(number)).alias(total(number)));
    let columns = columns.chain(shares.iter().map(|number| column(all_name(*number))));
    rows.project([range().alias(RANGE_AFTER)].into_iter().chain(columns))?.alias(BEFORE)?.build()
}

/// The aggregates among what is known of each range.
fn aggregates(parts: &[&Part]) -> Vec<Expr> {
    let of = |(number, part): (usize, &&Part)| match &part.total {
        Total::Of(aggregate) => Some(aggregate.clone().alias(total(number))),
        Total::Distinct(_) => None,
    };
    parts.iter().enumerate().filter_map(of).collect()
}

/// Of each range, what is known of it.
fn totals_of_each(parts: &[&Part], base: &LogicalPlan, ranges: &Ranges) -> Result<LogicalPlanBuilder> {
    let mut totals = ranges.beside(base.clone())?.aggregate([range()], aggregates(parts))?;
    for (number, part) in parts.iter().enumerate() {
        let Total::Distinct(keys) = &part.total else {
            continue;
        };
        // Not an aggregate of distinct values, which would have all of a range's in one place: first each once, then their number.
        let keys = [range()].into_iter().chain(keys.iter().cloned());
        let each = ranges.beside(base.clone())?.aggregate(keys, Vec::<Expr>::new())?;
        let counted = each.aggregate([range()], [count_of_rows().alias(total(number))])?;
        let counted = counted.project([range().alias(RANGE_OF_KEYS), Expr::Column(Column::new_unqualified(total(number)))])?.build()?;
        let on = (vec![Column::new_unqualified(super::split::RANGE)], vec![Column::new_unqualified(RANGE_OF_KEYS)]);
        let joined = totals.join_detailed(counted, JoinType::Inner, on, None, NullEquality::NullEqualsNothing)?;
        let is_of_range = |column: &Column| column.name != RANGE_OF_KEYS;
        let columns = joined.schema().columns().into_iter().filter(is_of_range).map(Expr::Column).collect::<Vec<_>>();
        totals = joined.project(columns)?;
    }
    Ok(totals)
}

impl Finish {
    /// Whether the number of all rows is asked for.
    fn is_of_all(self) -> bool {
        matches!(self, Self::PercentRank | Self::CumulativeDistribution | Self::Tile(_))
    }
}

/// The value of a function, of a row and what is beside it.
fn value((running, places): &Placed<'_>, parts: &[&Part], rows: &LogicalPlan) -> Result<Expr> {
    let part = |number: usize| {
        let place = places.get(number).copied().unwrap_or_default();
        combined(place, parts[place].combine, rows)
    };
    let as_type = |expr: Expr, data_type: &DataType| expr.cast_to(data_type, rows.schema());
    let value = part(0)?;
    let share = |of: Expr, among: Expr| Ok(as_type(of, &DataType::Float64)? / as_type(among, &DataType::Float64)?);
    let all = || as_type(of_others(all_name(places.first().copied().unwrap_or_default())), &DataType::Int64);
    match running.finish {
        Finish::Value => Ok(value),
        Finish::Average => Ok(value / as_type(part(1)?, &DataType::Float64)?),
        Finish::PercentRank => share(as_type(value, &DataType::Int64)? - lit(1i64), greatest(vec![all()? - lit(1i64), lit(1i64)])),
        Finish::CumulativeDistribution => share(value, all()?),
        Finish::Tile(buckets) => {
            let row = as_type(value, &DataType::Int64)? - lit(1i64);
            as_type(bucket(row, &all()?, buckets)?, &DataType::UInt64)
        }
    }
}

/// Which of `buckets`, from 1 on, a row is in, the `row`th of `all` from 0 on: the first `all % buckets` have a row more than the others.
fn bucket(row: Expr, all: &Expr, buckets: i64) -> Result<Expr> {
    let (size, larger) = (all.clone() / lit(buckets), all.clone() % lit(buckets));
    let in_larger = larger.clone() * (size.clone() + lit(1i64));
    // Of less rows than buckets none has the smaller size, which is no number to divide by.
    let later = larger + (row.clone() - in_larger.clone()) / nullif(size.clone(), lit(0i64));
    Ok(when(row.clone().lt(in_larger), row / (size + lit(1i64))).otherwise(later)? + lit(1i64))
}

/// A part's value: what it is in its range, and what was before.
fn combined(number: usize, combine: Combine, rows: &LogicalPlan) -> Result<Expr> {
    let within = Expr::Column(Column::new_unqualified(within(number)));
    let data_type = within.get_type(rows.schema())?;
    let before = of_others(total(number)).cast_to(&data_type, rows.schema())?;
    let value = match combine {
        Combine::Add => coalesce(vec![before.clone() + within.clone(), within, before]),
        Combine::Least => least(vec![before, within]),
        Combine::Greatest => greatest(vec![before, within]),
    };
    value.cast_to(&data_type, rows.schema())
}

fn total(number: usize) -> String {
    format!("__volley_total_{number}")
}

fn all_name(number: usize) -> String {
    format!("__volley_all_{number}")
}

fn before_name(number: usize) -> String {
    format!("__volley_before_{number}")
}

fn within(number: usize) -> String {
    format!("__volley_within_{number}")
}

fn of_others(name: String) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(BEFORE)), name))
}
