//! Pass 3: a window over all rows of a large table is computed in ranges instead of in one task.
//!
//! ```text
//! f OVER (ORDER BY x)   becomes   f OVER (PARTITION BY range of x ORDER BY x), and
//!                                 put together with f of all ranges before           [`running`]: counts, ranks, sums
//!                                 or computed with rows of other ranges beside       [`neighbours`]: lag, frames of rows or of a distance
//! f OVER ()             becomes   f of all rows, beside each row
//! ```
//!
//! What is taken of other ranges is made of the same rows, which are read a second time. So this is done where that is cheap and
//! gives the same rows again: over scans and what filters and projects them, and over joins where the session asks for it. Other windows
//! without PARTITION BY are computed in one task, whose input is sorted by many.

mod functions;
mod neighbours;
mod running;
mod split;

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Window};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use self::functions::{Distance, Division, Running};
use self::split::Ranges;
use super::ranges::sorted_bytes;
use crate::neighbours::Reach;
use crate::options::VolleyOptions;

/// A window that can be divided.
#[derive(Debug)]
pub(super) struct Candidate {
    window: Window,
    /// The rows that it is over, without the columns of windows below it.
    base: LogicalPlan,
    functions: Vec<Division>,
    order_by: Vec<Sort>,
}

/// The windows of a plan that can be divided.
pub(super) fn candidates(plan: &LogicalPlan, options: &VolleyOptions) -> Result<Vec<Candidate>> {
    let mut candidates = vec![];
    plan.apply(|node| {
        if let LogicalPlan::Window(window) = node {
            candidates.extend(candidate(window, options)?);
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
            None => {
                let running: Vec<_> = self.running().collect();
                let (rows, values) = running::beside_all(&running, &self.base, self.window.input.as_ref().clone())?;
                Some(self.result(rows, values)?)
            }
            Some(first) => match Ranges::of(input, &self.base, first)? {
                None => None,
                Some(ranges) => self.in_ranges(&ranges)?,
            },
        };
        Ok(divided.map(|divided| (LogicalPlan::Window(self.window.clone()), divided)))
    }

    fn in_ranges(&self, ranges: &Ranges) -> Result<Option<LogicalPlan>> {
        let mut rows = ranges.beside(self.window.input.as_ref().clone())?.build()?;
        let (functions, distances): (Vec<_>, Vec<_>) = self.by_distance().unzip();
        if !functions.is_empty() {
            match neighbours::by_distance(&functions, &self.base, ranges, &distances, rows)? {
                Some(with_values) => rows = with_values,
                None => return Ok(None),
            }
        }
        let (functions, reaches): (Vec<_>, Vec<_>) = self.by_rows().unzip();
        if !functions.is_empty() {
            let reach = reaches.into_iter().fold(Reach::default(), Reach::or);
            rows = neighbours::by_rows(&functions, &self.base, ranges, reach, rows)?;
        }
        let (running, mut values): (Vec<_>, _) = (self.running().collect(), vec![]);
        if !running.is_empty() {
            (rows, values) = running::in_ranges(&running, &self.base, ranges, rows)?;
        }
        let mut values = values.into_iter();
        let values = self.functions.iter().enumerate().filter_map(|(number, division)| match division {
            Division::Running(_) => values.next(),
            Division::Rows(..) | Division::Values(..) => Some(Expr::Column(Column::new_unqualified(near(number)))),
        });
        let values = values.collect();
        self.result(rows, values).map(Some)
    }

    fn running(&self) -> impl Iterator<Item = &Running> {
        self.functions.iter().filter_map(|division| if let Division::Running(running) = division { Some(running) } else { None })
    }

    fn by_rows(&self) -> impl Iterator<Item = (neighbours::Named<'_>, Reach)> {
        self.functions.iter().enumerate().filter_map(|(number, division)| match division {
            Division::Rows(function, reach) => Some(((function, near(number)), *reach)),
            _ => None,
        })
    }

    fn by_distance(&self) -> impl Iterator<Item = (neighbours::Named<'_>, &Distance)> {
        self.functions.iter().enumerate().filter_map(|(number, division)| match division {
            Division::Values(function, distance) => Some(((function, near(number)), distance)),
            _ => None,
        })
    }

    /// The columns of the window: those of its input, then `values` under the names of its functions.
    fn result(&self, rows: LogicalPlan, values: Vec<Expr>) -> Result<LogicalPlan> {
        let schema = &self.window.schema;
        let inputs = self.window.input.schema().fields().len();
        let columns = self.window.input.schema().columns().into_iter().map(Expr::Column);
        let values = values.into_iter().enumerate().map(|(number, value)| {
            let (qualifier, field) = schema.qualified_field(inputs + number);
            value.alias_qualified(qualifier.cloned(), field.name())
        });
        LogicalPlanBuilder::from(rows).project(columns.chain(values))?.build()
    }
}

/// What the values of a function that sees rows of others are called.
fn near(number: usize) -> String {
    format!("__volley_near_{number}")
}

fn candidate(window: &Window, options: &VolleyOptions) -> Result<Option<Candidate>> {
    let mut base = window.input.as_ref();
    while let LogicalPlan::Window(below) = base {
        base = below.input.as_ref();
    }
    let of_base = |expr: &Expr| expr.column_refs().into_iter().all(|column| base.schema().has_column(column));
    if !is_repeatable(base, options)? || !window.window_expr.iter().all(of_base) {
        return Ok(None);
    }
    let functions = window.window_expr.iter().map(|expr| Division::of(expr, base)).collect::<Result<Option<Vec<_>>>>()?;
    let Some(functions) = functions else {
        return Ok(None);
    };
    let order_by = window.window_expr.first().map(order_of).unwrap_or_default();
    let candidate = Candidate { window: window.clone(), base: base.clone(), functions, order_by };
    let by_rows: Vec<_> = candidate.by_rows().map(|(function, _)| function).collect();
    Ok(if by_rows.is_empty() || neighbours::can_order(&by_rows, base)? { Some(candidate) } else { None })
}

/// The order of a window function, which is the same one for all functions of a window.
fn order_of(expr: &Expr) -> Vec<Sort> {
    match expr {
        Expr::WindowFunction(function) => function.params.order_by.clone(),
        Expr::Alias(alias) => order_of(&alias.expr),
        _ => vec![],
    }
}

/// Whether a plan gives the same rows when it runs twice, at a cost that is worth it.
fn is_repeatable(plan: &LogicalPlan, options: &VolleyOptions) -> Result<bool> {
    let mut is_repeatable = true;
    plan.apply(|node| {
        is_repeatable &= match node {
            LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
            LogicalPlan::Join(_) => options.repeat_joins,
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
