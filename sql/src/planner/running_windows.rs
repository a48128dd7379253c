//! Pass 3: a window over all rows of a large table is computed in ranges instead of in one task.
//!
//! ```text
//! f OVER (ORDER BY x)   becomes   f OVER (PARTITION BY range of x ORDER BY x), added to f of all ranges before
//! f OVER ()             becomes   f of all rows, beside each row
//! ```
//!
//! What comes before each range is an aggregate over the same rows, which are read a second time. So this is done where that is cheap and
//! gives the same rows again, over scans and what filters and projects them; where a value is made of what it is in a range and of what it is
//! before, as a count or a sum is; and for frames from the first row to the current one. Other windows without PARTITION BY are computed in
//! one task, whose input is sorted by many.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality, TableReference};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::{coalesce, greatest, least};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort, WindowFunction, WindowFunctionDefinition, WindowFunctionParams};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, lit, when,
};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::scalar::ScalarValue;

use super::ranges::{sample, sorted_bytes, split_points};
use crate::options::VolleyOptions;

/// The column that tells which range a row is in.
const RANGE: &str = "__volley_range";
/// The column of the range that aggregates are of what is before.
const RANGE_AFTER: &str = "__volley_range_after";
/// What aggregates of other rows are called.
const BEFORE: &str = "__volley_before";
/// Ranges for each partition, so that partitions, each of which gets some, are of about one size.
const RANGES_OF_PARTITION: usize = 4;

/// How a value over several ranges is made of the values over each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combine {
    Add,
    Least,
    Greatest,
}

/// A window function of a statement.
#[derive(Debug, Clone)]
struct Running {
    function: WindowFunction,
    combine: Combine,
    /// What is aggregated over the rows before.
    before: (Arc<AggregateUDF>, Vec<Expr>),
}

/// A window that can be divided.
#[derive(Debug)]
pub(super) struct Candidate {
    window: Window,
    /// The rows that it is over, without the columns of windows below it.
    base: LogicalPlan,
    functions: Vec<Running>,
    order_by: Vec<Sort>,
}

/// The windows of a plan that can be divided.
pub(super) fn candidates(plan: &LogicalPlan) -> Result<Vec<Candidate>> {
    let mut candidates = vec![];
    plan.apply(|node| {
        if let LogicalPlan::Window(window) = node {
            candidates.extend(candidate(window)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(candidates)
}

/// The plan with windows replaced.
pub(super) fn replace(plan: &LogicalPlan, replacements: &[(LogicalPlan, LogicalPlan)]) -> Result<LogicalPlan> {
    let replaced = plan.clone().transform_down(|node| match replacements.iter().find(|(window, _)| *window == node) {
        Some((_, replaced)) => Ok(Transformed::yes(replaced.clone())),
        None => Ok(Transformed::no(node)),
    })?;
    Ok(replaced.data)
}

impl Candidate {
    /// The rows that the window is over.
    pub(super) fn base(&self) -> &LogicalPlan {
        &self.base
    }

    /// The window, and what takes its place; `None` where its rows are few or nothing is known of what they are sorted by. `input` is the
    /// engine's plan of [`Self::base`].
    pub(super) fn divided(&self, input: &Arc<dyn ExecutionPlan>, options: &VolleyOptions) -> Result<Option<(LogicalPlan, LogicalPlan)>> {
        if input.output_partitioning().partition_count() < 2 || sorted_bytes(input)? < options.range_sort_bytes {
            return Ok(None);
        }
        let divided = match self.order_by.first() {
            None => beside_all(self)?,
            Some(first) => match split_values(input, &self.base, first)? {
                points if points.is_empty() => return Ok(None),
                points => in_ranges(self, first, &points)?,
            },
        };
        Ok(Some((LogicalPlan::Window(self.window.clone()), divided)))
    }
}

fn candidate(window: &Window) -> Result<Option<Candidate>> {
    let mut base = window.input.as_ref();
    while let LogicalPlan::Window(below) = base {
        base = below.input.as_ref();
    }
    let of_base = |expr: &Expr| expr.column_refs().into_iter().all(|column| base.schema().has_column(column));
    if !is_repeatable(base)? || !window.window_expr.iter().all(of_base) {
        return Ok(None);
    }
    let functions = window.window_expr.iter().map(|expr| running(expr, base)).collect::<Result<Option<Vec<_>>>>()?;
    let Some(functions) = functions else {
        return Ok(None);
    };
    let Some(order_by) = functions.first().map(|running| running.function.params.order_by.clone()) else {
        return Ok(None);
    };
    Ok(Some(Candidate { window: window.clone(), base: base.clone(), functions, order_by }))
}

/// Whether a plan gives the same rows when it runs twice, at the cost of reading files twice.
fn is_repeatable(plan: &LogicalPlan) -> Result<bool> {
    let mut is_repeatable = true;
    plan.apply(|node| {
        is_repeatable &= match node {
            LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
            LogicalPlan::Filter(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Union(_) => true,
            _ => false,
        };
        node.apply_expressions(|expr| {
            is_repeatable &= !expr.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if is_repeatable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_repeatable)
}

/// A window function whose value is made of that in a range and that before it; `None` of others.
fn running(expr: &Expr, input: &LogicalPlan) -> Result<Option<Running>> {
    let function = match expr {
        Expr::WindowFunction(function) => function.as_ref(),
        Expr::Alias(alias) => match alias.expr.as_ref() {
            Expr::WindowFunction(function) => function.as_ref(),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, null_treatment, distinct } = &function.params;
    let is_plain = partition_by.is_empty() && filter.is_none() && null_treatment.is_none() && (!distinct || order_by.is_empty());
    if !is_plain || order_by.iter().map(|key| &key.expr).chain(args).any(Expr::is_volatile) {
        return Ok(None);
    }
    let counted = || (count_udaf(), vec![lit(1i64)]);
    let (combine, before) = match &function.fun {
        WindowFunctionDefinition::WindowUDF(ranking) => match ranking.name() {
            "row_number" | "rank" if !order_by.is_empty() => (Combine::Add, counted()),
            _ => return Ok(None),
        },
        WindowFunctionDefinition::AggregateUDF(aggregate) => {
            if !is_of_all_before(window_frame, order_by.is_empty()) {
                return Ok(None);
            }
            let combine = match aggregate.name() {
                "count" | "sum" => Combine::Add,
                "min" => Combine::Least,
                "max" => Combine::Greatest,
                // Of all rows it is a value as any other.
                _ if order_by.is_empty() => Combine::Add,
                _ => return Ok(None),
            };
            let data_type = expr.get_type(input.schema())?;
            // Of ranges, values are added and compared, in which NaN is another for each who is asked. Large ones are not put beside each row.
            let fits = if order_by.is_empty() {
                !data_type.is_nested()
            } else {
                data_type.is_integer() || (combine == Combine::Add && data_type.is_numeric())
            };
            if !fits {
                return Ok(None);
            }
            (combine, (Arc::clone(aggregate), args.clone()))
        }
    };
    Ok(Some(Running { function: function.clone(), combine, before }))
}

/// Whether a frame has all rows up to the current one, or all rows where they are in no order.
fn is_of_all_before(frame: &WindowFrame, all: bool) -> bool {
    let unbounded = |bound: &WindowFrameBound| bound.is_unbounded();
    let starts = matches!(&frame.start_bound, WindowFrameBound::Preceding(_)) && unbounded(&frame.start_bound);
    match &frame.end_bound {
        WindowFrameBound::CurrentRow => starts && !all,
        WindowFrameBound::Following(_) => starts && all && unbounded(&frame.end_bound),
        WindowFrameBound::Preceding(_) => false,
    }
}

/// Values at which ranges of about one size begin, in the order of the sort.
fn split_values(input: &Arc<dyn ExecutionPlan>, base: &LogicalPlan, first: &Sort) -> Result<Vec<ScalarValue>> {
    let Expr::Column(column) = &first.expr else {
        return Ok(vec![]);
    };
    let place = base.schema().index_of_column(column)?;
    let options = SortOptions { descending: !first.asc, nulls_first: first.nulls_first };
    let key = PhysicalSortExpr::new(Arc::new(PhysicalColumn::new(&column.name, place)), options);
    let ranges = input.output_partitioning().partition_count() * RANGES_OF_PARTITION;
    let points = split_points(sample(input, &key)?, &key, ranges);
    Ok(points.iter().filter_map(|point| point.values().first().cloned()).collect())
}

/// Which range a value is in: their numbers are in the order of the sort, and NULL has one of its own.
fn range_of(key: &Sort, points: &[ScalarValue]) -> Result<Expr> {
    let of_null = if key.nulls_first { -1 } else { points.len() as i32 + 1 };
    when(key.expr.clone().is_null(), lit(of_null)).otherwise(search(key, points, 0)?)
}

/// The number of `points` that a value is not before, and of the `first` ones.
fn search(key: &Sort, points: &[ScalarValue], first: i32) -> Result<Expr> {
    if points.is_empty() {
        return Ok(lit(first));
    }
    let (before, rest) = points.split_at(points.len() / 2);
    let Some((point, after)) = rest.split_first() else {
        return Ok(lit(first));
    };
    let value = Expr::Literal(point.clone(), None);
    let is_before = if key.asc { key.expr.clone().lt(value) } else { key.expr.clone().gt(value) };
    when(is_before, search(key, before, first)?).otherwise(search(key, after, first + before.len() as i32 + 1)?)
}

/// Each row beside what its functions are over all rows.
fn beside_all(candidate: &Candidate) -> Result<LogicalPlan> {
    let aggregates = candidate.functions.iter().enumerate().map(|(number, running)| aggregate(running).alias(name(number)));
    let all = LogicalPlanBuilder::from(candidate.base.clone()).aggregate(Vec::<Expr>::new(), aggregates)?.alias(BEFORE)?.build()?;
    // What is small comes first: a join keeps that side in memory.
    let rows = LogicalPlanBuilder::from(all).cross_join(candidate.window.input.as_ref().clone())?;
    let values = (0..candidate.functions.len()).map(before);
    rows.project(result(candidate, values.collect())?)?.build()
}

fn in_ranges(candidate: &Candidate, first: &Sort, points: &[ScalarValue]) -> Result<LogicalPlan> {
    let range = || Expr::Column(Column::new_unqualified(RANGE));
    let with_range = |plan: LogicalPlan| {
        let columns = plan.schema().columns().into_iter().map(Expr::Column);
        let columns = columns.chain([range_of(first, points)?.alias(RANGE)]).collect::<Vec<_>>();
        LogicalPlanBuilder::from(plan).project(columns)
    };
    let aggregates = candidate.functions.iter().enumerate().map(|(number, running)| aggregate(running).alias(name(number)));
    let totals = with_range(candidate.base.clone())?.aggregate([range()], aggregates)?.build()?;
    let before = before_each(candidate, totals, range())?;
    let within = candidate.functions.iter().enumerate().map(|(number, running)| {
        let mut function = running.function.clone();
        function.params.partition_by = vec![range()];
        Expr::from(function).alias(within_name(number))
    });
    let rows = with_range(candidate.window.input.as_ref().clone())?.window(within)?.build()?;
    let on = (vec![Column::new(Some(BEFORE), RANGE_AFTER)], vec![Column::new_unqualified(RANGE)]);
    // What is small comes first: a join keeps that side in memory.
    let before = LogicalPlanBuilder::from(before);
    let rows = before.join_detailed(rows, JoinType::Inner, on, None, NullEquality::NullEqualsNothing)?.build()?;
    let values = candidate.functions.iter().enumerate().map(|(number, running)| combined(number, running.combine, &rows));
    let values = values.collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(rows).project(result(candidate, values)?)?.build()
}

/// Of each range, what the functions are over the ranges before it.
fn before_each(candidate: &Candidate, totals: LogicalPlan, range: Expr) -> Result<LogicalPlan> {
    let preceding = |rows| WindowFrameBound::Preceding(ScalarValue::UInt64(rows));
    let frame = WindowFrame::new_bounds(WindowFrameUnits::Rows, preceding(None), preceding(Some(1)));
    let sums = candidate.functions.iter().enumerate().map(|(number, running)| {
        let aggregate = match running.combine {
            Combine::Add => sum_udaf(),
            Combine::Least => min_udaf(),
            Combine::Greatest => max_udaf(),
        };
        let total = Expr::Column(Column::new_unqualified(name(number)));
        let mut function = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(aggregate), vec![total]);
        function.params.order_by = vec![range.clone().sort(true, true)];
        function.params.window_frame = frame.clone();
        Expr::from(function).alias(before_name(number))
    });
    let windows = LogicalPlanBuilder::from(totals).window(sums)?;
    let columns =
        (0..candidate.functions.len()).map(|number| Expr::Column(Column::new_unqualified(before_name(number))).alias(name(number)));
    windows.project([range.alias(RANGE_AFTER)].into_iter().chain(columns))?.alias(BEFORE)?.build()
}

fn aggregate(running: &Running) -> Expr {
    let ((function, args), distinct) = (running.before.clone(), running.function.params.distinct);
    Expr::AggregateFunction(AggregateFunction::new_udf(function, args, distinct, None, vec![], None))
}

/// The value of a row: what it is in its range, and what was before.
fn combined(number: usize, combine: Combine, rows: &LogicalPlan) -> Result<Expr> {
    let within = Expr::Column(Column::new_unqualified(within_name(number)));
    let data_type = within.get_type(rows.schema())?;
    let before = before(number);
    let value = match combine {
        Combine::Add => coalesce(vec![
            before.clone().cast_to(&data_type, rows.schema())? + within.clone(),
            within,
            before.cast_to(&data_type, rows.schema())?,
        ]),
        Combine::Least => least(vec![before, within]),
        Combine::Greatest => greatest(vec![before, within]),
    };
    value.cast_to(&data_type, rows.schema())
}

/// The columns of the window: those of its input, then `values` under the names of its functions.
fn result(candidate: &Candidate, values: Vec<Expr>) -> Result<Vec<Expr>> {
    let schema = &candidate.window.schema;
    let inputs = candidate.window.input.schema().fields().len();
    let columns = candidate.window.input.schema().columns().into_iter().map(Expr::Column);
    let values = values.into_iter().enumerate().map(|(number, value)| {
        let (qualifier, field) = schema.qualified_field(inputs + number);
        value.alias_qualified(qualifier.cloned(), field.name())
    });
    Ok(columns.chain(values).collect())
}

fn name(number: usize) -> String {
    format!("__volley_total_{number}")
}

fn before_name(number: usize) -> String {
    format!("__volley_before_{number}")
}

fn within_name(number: usize) -> String {
    format!("__volley_within_{number}")
}

fn before(number: usize) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(BEFORE)), name(number)))
}
