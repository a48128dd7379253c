//! How the value of each window function over all rows is made of what it is in ranges.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::rank::rank_udwf;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{
    AggregateFunction, NullTreatment, Sort, WindowFunction, WindowFunctionDefinition, WindowFunctionParams,
};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits, lit};
use datafusion::scalar::ScalarValue;

use crate::neighbours::Reach;

/// Rows of other ranges up to which each range is given them.
const MOST_ROWS: u64 = 1000;

/// How a window function is computed.
#[derive(Debug, Clone)]
pub(super) enum Division {
    /// From what it is in a range, and what its parts are over the ranges before.
    Running(Running),
    /// In a range, with some rows of others beside its own.
    Rows(WindowFunction, Reach),
    /// In a range, with the rows of others whose key is near its own.
    Values(WindowFunction, Distance),
}

/// How far from a row's key those in its frame are.
#[derive(Debug, Clone, Default)]
pub(super) struct Distance {
    /// Towards the first row; `None` is no distance.
    pub(super) preceding: Option<ScalarValue>,
    /// Towards the last row.
    pub(super) following: Option<ScalarValue>,
}

/// A function that goes on from range to range.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) parts: Vec<Part>,
    pub(super) finish: Finish,
}

/// A window function whose value over several ranges is made of those over each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// What is computed in each range.
    pub(super) within: WindowFunction,
    /// What is added up over the ranges before.
    pub(super) total: Total,
    pub(super) combine: Combine,
}

/// What is known of each range.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Total {
    /// An aggregate of its rows.
    Of(Expr),
    /// How many different values it has of these together; `NULL` is one of them.
    Distinct(Vec<Expr>),
}

/// How a value over several ranges is made of the values over each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combine {
    Add,
    Least,
    Greatest,
}

/// What is made of a function's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The only one is the value.
    Value,
    /// A sum by a count.
    Average,
    /// Of a rank, the share of the rows before it among all others.
    PercentRank,
    /// Of a count, the share of all rows.
    CumulativeDistribution,
    /// Of a row's number, which of so many buckets it is in.
    Tile(i64),
}

impl Division {
    /// How `expr`, an expression of a window over `input`, is computed; `None` of those that need all rows in one place.
    pub(super) fn of(expr: &Expr, input: &LogicalPlan) -> Result<Option<Self>> {
        let function = match expr {
            Expr::WindowFunction(function) => function.as_ref(),
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::WindowFunction(function) => function.as_ref(),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let WindowFunctionParams { args, partition_by, order_by, filter, distinct, .. } = &function.params;
        let is_plain = partition_by.is_empty() && filter.is_none() && (!distinct || order_by.is_empty());
        if !is_plain || order_by.iter().map(|key| &key.expr).chain(args).any(Expr::is_volatile) {
            return Ok(None);
        }
        match &function.fun {
            WindowFunctionDefinition::WindowUDF(_) if order_by.is_empty() => Ok(None),
            WindowFunctionDefinition::WindowUDF(udwf) => window_function(function, udwf.name(), input),
            WindowFunctionDefinition::AggregateUDF(aggregate) => match running_aggregate(function, aggregate, input)? {
                Some(running) => Ok(Some(Self::Running(running))),
                None if order_by.is_empty() => Ok(None),
                None => Ok(framed(function)),
            },
        }
    }
}

fn window_function(function: &WindowFunction, name: &str, input: &LogicalPlan) -> Result<Option<Division>> {
    if name != "dense_rank" {
        return Ok(ranked_or_framed(function, name));
    }
    let keys: Vec<_> = function.params.order_by.iter().map(|key| key.expr.clone()).collect();
    for key in &keys {
        // Zeros of both signs are one value to an aggregate and two in an order.
        if key.get_type(input.schema())?.is_floating() {
            return Ok(None);
        }
    }
    let part = Part { within: function.clone(), total: Total::Distinct(keys), combine: Combine::Add };
    Ok(Some(Division::Running(Running { parts: vec![part], finish: Finish::Value })))
}

fn ranked_or_framed(function: &WindowFunction, name: &str) -> Option<Division> {
    let WindowFunctionParams { args, order_by, null_treatment, .. } = &function.params;
    let counted = |within| Part { within, total: Total::Of(count_of_rows()), combine: Combine::Add };
    let made_of = |part, finish| Some(Division::Running(Running { parts: vec![part], finish }));
    let ranking = |udwf| ordered(WindowFunctionDefinition::WindowUDF(udwf), vec![], order_by);
    match name {
        "row_number" | "rank" => made_of(counted(function.clone()), Finish::Value),
        "percent_rank" => made_of(counted(ranking(rank_udwf())), Finish::PercentRank),
        "cume_dist" => {
            let rows = ordered(WindowFunctionDefinition::AggregateUDF(count_udaf()), vec![lit(1i64)], order_by);
            made_of(counted(rows), Finish::CumulativeDistribution)
        }
        "ntile" => {
            let buckets = whole_number(args.first()).filter(|buckets| *buckets > 0)?;
            made_of(counted(ranking(row_number_udwf())), Finish::Tile(buckets))
        }
        // What is skipped may be any number of rows.
        "lag" | "lead" if *null_treatment != Some(NullTreatment::IgnoreNulls) => {
            let offset = if args.len() > 1 { whole_number(args.get(1))? } else { 1 };
            let rows = offset.unsigned_abs();
            let is_before = (name == "lag") == (offset >= 0);
            let reach = if is_before { Reach { before: rows, ..Reach::default() } } else { Reach { after: rows, ..Reach::default() } };
            of_rows(function, reach)
        }
        "first_value" | "last_value" | "nth_value" => framed(function),
        _ => None,
    }
}

/// A function in the order of a window, from the first row to the current one and those that tie with it.
fn ordered(function: WindowFunctionDefinition, args: Vec<Expr>, order_by: &[Sort]) -> WindowFunction {
    let mut function = WindowFunction::new(function, args);
    function.params.order_by = order_by.to_vec();
    function.params.window_frame = WindowFrame::new(Some(false));
    function
}

/// How many rows there are.
pub(super) fn count_of_rows() -> Expr {
    aggregate(count_udaf(), vec![lit(1i64)], false)
}

fn aggregate(function: Arc<AggregateUDF>, args: Vec<Expr>, distinct: bool) -> Expr {
    Expr::AggregateFunction(AggregateFunction::new_udf(function, args, distinct, None, vec![], None))
}

fn whole_number(expr: Option<&Expr>) -> Option<i64> {
    match expr {
        Some(Expr::Literal(value, _)) if value.data_type().is_integer() => {
            match value.cast_to(&datafusion::arrow::datatypes::DataType::Int64) {
                Ok(ScalarValue::Int64(number)) => number,
                _ => None,
            }
        }
        _ => None,
    }
}

/// An aggregate from the first row to the current one, or of all rows where they are in no order.
fn running_aggregate(function: &WindowFunction, udaf: &Arc<AggregateUDF>, input: &LogicalPlan) -> Result<Option<Running>> {
    let WindowFunctionParams { args, order_by, window_frame, null_treatment, distinct, .. } = &function.params;
    if null_treatment.is_some() || !is_of_all_before(window_frame, order_by.is_empty()) {
        return Ok(None);
    }
    let (_, field) = Expr::from(function.clone()).to_field(input.schema())?;
    let data_type = field.data_type();
    let part = |udaf: Arc<AggregateUDF>, combine| {
        let mut within = function.clone();
        within.fun = WindowFunctionDefinition::AggregateUDF(Arc::clone(&udaf));
        Part { within, total: Total::Of(aggregate(udaf, args.clone(), *distinct)), combine }
    };
    let value = |combine| Some(Running { parts: vec![part(Arc::clone(udaf), combine)], finish: Finish::Value });
    Ok(match udaf.name() {
        // Of all rows it is put beside each row, which a large value is too large for.
        _ if order_by.is_empty() => value(Combine::Add).filter(|_| !data_type.is_nested()),
        "count" | "sum" => value(Combine::Add).filter(|_| data_type.is_numeric()),
        // What NaN is among numbers differs between those who are asked.
        "min" => value(Combine::Least).filter(|_| !data_type.is_nested() && !data_type.is_floating()),
        "max" => value(Combine::Greatest).filter(|_| !data_type.is_nested() && !data_type.is_floating()),
        "avg" if data_type.is_floating() => {
            let parts = vec![part(sum_udaf(), Combine::Add), part(count_udaf(), Combine::Add)];
            Some(Running { parts, finish: Finish::Average })
        }
        _ => None,
    })
}

/// Whether a frame has all rows up to the current one, or all rows where they are in no order.
fn is_of_all_before(frame: &WindowFrame, all: bool) -> bool {
    let starts = is_first(&frame.start_bound);
    match &frame.end_bound {
        WindowFrameBound::CurrentRow => starts && !all,
        WindowFrameBound::Following(_) => starts && all && frame.end_bound.is_unbounded(),
        WindowFrameBound::Preceding(_) => false,
    }
}

fn is_first(bound: &WindowFrameBound) -> bool {
    matches!(bound, WindowFrameBound::Preceding(_)) && bound.is_unbounded()
}

fn is_last(bound: &WindowFrameBound) -> bool {
    matches!(bound, WindowFrameBound::Following(_)) && bound.is_unbounded()
}

/// A function over a frame of some rows, or one that takes the ends of its frame.
fn framed(function: &WindowFunction) -> Option<Division> {
    let WindowFunctionParams { args, window_frame: frame, null_treatment, .. } = &function.params;
    let name = function.fun.name();
    let takes_any = *null_treatment != Some(NullTreatment::IgnoreNulls);
    let wanted = match name {
        "first_value" | "last_value" => Some(1),
        "nth_value" => whole_number(args.get(1)).filter(|place| *place > 0).map(|place| place as u64),
        _ => None,
    };
    let is_from_first = name != "last_value" && is_first(&frame.start_bound);
    let current = matches!(frame.end_bound, WindowFrameBound::CurrentRow);
    match wanted {
        // From the first row on: those that are wanted of it stand at the head of all rows, wherever the frame ends after the current row.
        Some(rows) if is_from_first && takes_any && current => of_rows(function, Reach { first: rows, ..Reach::default() }),
        Some(rows) if name == "first_value" && is_from_first && takes_any && is_last(&frame.end_bound) => {
            of_rows(function, Reach { first: rows, ..Reach::default() })
        }
        // The last one up to the current row is in its range; up to the last row it stands at the end of all rows.
        Some(_) if name == "last_value" && takes_any && current && is_first(&frame.start_bound) => of_rows(function, Reach::default()),
        Some(rows) if name == "last_value" && takes_any && is_last(&frame.end_bound) && is_first(&frame.start_bound) => {
            of_rows(function, Reach { last: rows, ..Reach::default() })
        }
        _ => match frame.units {
            WindowFrameUnits::Rows => {
                let before = rows_before(&frame.start_bound)?.max(rows_before(&frame.end_bound)?);
                let after = rows_after(&frame.start_bound)?.max(rows_after(&frame.end_bound)?);
                of_rows(function, Reach { before, after, ..Reach::default() })
            }
            WindowFrameUnits::Range if function.params.order_by.len() == 1 => {
                let preceding = distance(&frame.start_bound, &frame.end_bound, |bound| matches!(bound, WindowFrameBound::Preceding(_)))?;
                let following = distance(&frame.end_bound, &frame.start_bound, |bound| matches!(bound, WindowFrameBound::Following(_)))?;
                Some(Division::Values(function.clone(), Distance { preceding, following }))
            }
            WindowFrameUnits::Range | WindowFrameUnits::Groups => None,
        },
    }
}

fn of_rows(function: &WindowFunction, reach: Reach) -> Option<Division> {
    (reach.most() <= MOST_ROWS).then(|| Division::Rows(function.clone(), reach))
}

/// How many rows before the current one a bound is; `None` where there is no telling.
fn rows_before(bound: &WindowFrameBound) -> Option<u64> {
    match bound {
        WindowFrameBound::Preceding(ScalarValue::UInt64(rows)) => *rows,
        WindowFrameBound::Preceding(_) => None,
        WindowFrameBound::CurrentRow | WindowFrameBound::Following(_) => Some(0),
    }
}

/// As [`rows_before`], of rows after the current one.
fn rows_after(bound: &WindowFrameBound) -> Option<u64> {
    match bound {
        WindowFrameBound::Following(ScalarValue::UInt64(rows)) => *rows,
        WindowFrameBound::Following(_) => None,
        WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_) => Some(0),
    }
}

/// How far on one side the farther of two bounds is, of which `outer` is that one if both are on it; `None` where it has no end.
fn distance(
    outer: &WindowFrameBound,
    inner: &WindowFrameBound,
    is_there: impl Fn(&WindowFrameBound) -> bool,
) -> Option<Option<ScalarValue>> {
    for bound in [outer, inner] {
        if is_there(bound) {
            return match bound {
                WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) if !value.is_null() => Some(Some(value.clone())),
                _ => None,
            };
        }
    }
    Some(None)
}
