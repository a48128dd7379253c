//! What a partitioned join knows, said in a way that is quick to look up.
//!
//! The engine says it as `CASE hash(key) % n WHEN 0 THEN .. WHEN 1 THEN .. ELSE false END`: a row's partition first, then what is known of it. A key
//! is in one partition alone, so that what is true of any partition is true of the row. Going without the hash may let more rows pass, never fewer.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Column, InListExpr, lit};
use datafusion::physical_expr::utils::split_conjunction;

/// Partitions up to which looking in each of them is quicker than finding out which it is.
const FEW: usize = 4;

/// `expr`, or what is quicker and true of all rows that `expr` is true of.
pub(super) fn simplified(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(case) = expr.downcast_ref::<CaseExpr>().filter(|case| is_routing(case)) else { return Ok(expr) };
    let branches: Vec<_> = case.when_then_expr().iter().map(|(_, then)| then).collect();
    if let Some(list) = one_list(&branches, schema)? {
        return Ok(list);
    }
    if branches.len() > FEW {
        return Ok(expr);
    }
    let any = |left, right: Arc<dyn PhysicalExpr>| Arc::new(BinaryExpr::new(left, Operator::Or, right)) as Arc<dyn PhysicalExpr>;
    Ok(branches.into_iter().cloned().reduce(any).unwrap_or_else(|| lit(false)))
}

/// Whether a row of no partition is dropped; one of a partition that nothing is known of passes.
fn is_routing(case: &CaseExpr) -> bool {
    case.expr().is_some() && case.else_expr().is_some_and(|other| other.as_ref() == lit(false).as_ref())
}

/// The values of all branches in one list, where each is a list of values of the same column.
fn one_list(branches: &[&Arc<dyn PhysicalExpr>], schema: &Schema) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let mut key: Option<Arc<dyn PhysicalExpr>> = None;
    let mut values = vec![];
    for branch in branches {
        if branch.as_ref() == lit(false).as_ref() {
            continue;
        }
        let parts = split_conjunction(branch);
        let Some(list) = parts.iter().find_map(|part| part.downcast_ref::<InListExpr>()).filter(|list| !list.negated()) else {
            return Ok(None);
        };
        if !list.expr().is::<Column>() || key.as_ref().is_some_and(|key| key.as_ref() != list.expr().as_ref()) {
            return Ok(None);
        }
        key = Some(Arc::clone(list.expr()));
        values.extend(list.list().iter().cloned());
    }
    let Some(key) = key else { return Ok(None) };
    Ok(Some(Arc::new(InListExpr::try_new(key, values, false, schema)?)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{BooleanArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::common::cast::as_boolean_array;
    use datafusion::physical_expr::expressions::{binary, col};

    use super::*;

    type Expr = Arc<dyn PhysicalExpr>;

    fn schema() -> Schema {
        Schema::new(vec![Field::new("k", DataType::Int64, true)])
    }

    fn key() -> Expr {
        col("k", &schema()).unwrap()
    }

    fn of(values: &[i64]) -> Expr {
        Arc::new(InListExpr::try_new(key(), values.iter().map(|value| lit(*value)).collect(), false, &schema()).unwrap())
    }

    fn at_least(value: i64) -> Expr {
        binary(key(), Operator::GtEq, lit(value), &schema()).unwrap()
    }

    /// `CASE k % n WHEN 0 THEN .. END`.
    fn routed(branches: &[Expr]) -> Expr {
        let partition = binary(key(), Operator::Modulo, lit(branches.len() as i64), &schema()).unwrap();
        let branches = branches.iter().enumerate().map(|(number, branch)| (lit(number as i64), Arc::clone(branch))).collect();
        Arc::new(CaseExpr::try_new(Some(partition), branches, Some(lit(false))).unwrap())
    }

    fn kept(expr: &Expr) -> Vec<bool> {
        let keys = Int64Array::from((0..12).map(Some).chain([None]).collect::<Vec<_>>());
        let batch = RecordBatch::try_from_iter([("k", Arc::new(keys) as _)]).unwrap();
        let kept = expr.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
        let kept: &BooleanArray = as_boolean_array(&kept).unwrap();
        kept.iter().map(|kept| kept == Some(true)).collect()
    }

    #[test]
    fn lists_of_all_partitions_are_one() {
        let bounded = binary(at_least(1), Operator::And, of(&[3, 5]), &schema()).unwrap();
        let routed = routed(&[of(&[2, 4, 10]), bounded]);
        let simple = simplified(Arc::clone(&routed), &schema()).unwrap();
        assert!(simple.is::<InListExpr>(), "{simple}");
        assert_eq!(kept(&simple), kept(&routed));
    }

    #[test]
    fn few_partitions_are_all_looked_into() {
        let routed = routed(&[at_least(6), lit(false)]);
        let simple = simplified(Arc::clone(&routed), &schema()).unwrap();
        assert!(!simple.is::<CaseExpr>(), "{simple}");
        assert!(kept(&routed).iter().zip(kept(&simple)).all(|(before, after)| !before || after));
    }

    #[test]
    fn others_stay() {
        let many = routed(&[at_least(0), at_least(1), at_least(2), at_least(3), at_least(4)]);
        for expr in [at_least(4), many] {
            assert_eq!(simplified(Arc::clone(&expr), &schema()).unwrap().as_ref(), expr.as_ref());
        }
    }
}
