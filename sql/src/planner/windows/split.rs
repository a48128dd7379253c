//! Where ranges begin, and which range a row is in.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::Column;
use datafusion::error::Result;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::scalar::ScalarValue;

use super::super::ranges::{sample, split_points};

/// The column that tells which range a row is in.
pub(super) const RANGE: &str = "__volley_range";
/// Ranges for each partition, so that partitions, each of which gets some, are of about one size.
const RANGES_OF_PARTITION: usize = 4;

/// Ranges of the first key of an order. Their numbers, from -1 on, are in that order; NULL has one of its own, the first or the last.
#[derive(Debug)]
pub(super) struct Ranges {
    key: Sort,
    /// Where each but the first begins.
    points: Vec<ScalarValue>,
}

impl Ranges {
    /// Ranges of about one size; `None` where nothing is known of the key's values. `input` is the engine's plan of `base`.
    pub(super) fn of(input: &Arc<dyn ExecutionPlan>, base: &LogicalPlan, key: &Sort) -> Result<Option<Self>> {
        let Expr::Column(column) = &key.expr else {
            return Ok(None);
        };
        let place = base.schema().index_of_column(column)?;
        let options = SortOptions { descending: !key.asc, nulls_first: key.nulls_first };
        let physical = PhysicalSortExpr::new(Arc::new(PhysicalColumn::new(&column.name, place)), options);
        let ranges = input.output_partitioning().partition_count() * RANGES_OF_PARTITION;
        let points = split_points(sample(input, &physical)?, &physical, ranges);
        let points: Vec<_> = points.iter().filter_map(|point| point.values().first().cloned()).collect();
        Ok((!points.is_empty()).then(|| Self { key: key.clone(), points }))
    }

    /// How many there are, with those of NULL before and after all.
    pub(super) fn number(&self) -> u32 {
        self.points.len() as u32 + 3
    }

    /// The key, whose values they are of.
    pub(super) fn key(&self) -> &Sort {
        &self.key
    }

    /// Each range of values: its number, where it begins, and where the next one does.
    pub(super) fn bounds(&self) -> impl Iterator<Item = (i32, Option<&ScalarValue>, Option<&ScalarValue>)> {
        let begins = std::iter::once(None).chain(self.points.iter().map(Some));
        let ends = self.points.iter().map(Some).chain([None]);
        begins.zip(ends).enumerate().map(|(number, (begin, end))| (number as i32, begin, end))
    }

    /// `plan` with a column that tells each row's range.
    pub(super) fn beside(&self, plan: LogicalPlan) -> Result<LogicalPlanBuilder> {
        let columns = plan.schema().columns().into_iter().map(Expr::Column);
        let columns = columns.chain([self.number_of()?.alias(RANGE)]).collect::<Vec<_>>();
        LogicalPlanBuilder::from(plan).project(columns)
    }

    /// The number of a row's range.
    fn number_of(&self) -> Result<Expr> {
        let of_null = if self.key.nulls_first { -1 } else { self.points.len() as i32 + 1 };
        when(self.key.expr.clone().is_null(), lit(of_null)).otherwise(search(&self.key, &self.points, 0)?)
    }
}

/// The column of ranges.
pub(super) fn range() -> Expr {
    Expr::Column(Column::new_unqualified(RANGE))
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
