//! Window functions, as far as the engine's encoding says too little of them.
//!
//! Of a window function it leaves out `IGNORE NULLS` and whether it runs against the order of its rows, of an aggregate over a window its
//! `FILTER`: what comes out at the other side is another function, without an error. The first two are put into fields of the message that
//! mean nothing for such a function otherwise; a `FILTER` is refused.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::window::{StandardWindowExpr, StandardWindowFunctionExpr};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{ExecutionPlan, WindowExpr};
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::physical_window_expr_node::WindowFunction;
use datafusion_proto::protobuf::{PhysicalPlanNode, PhysicalWindowExprNode};

/// Adds to an encoded operator over windows what the engine's encoding left out.
pub(super) fn complete(plan: &Arc<dyn ExecutionPlan>, node: &mut PhysicalPlanNode) -> Result<()> {
    match (window_exprs(plan), &mut node.physical_plan_type) {
        (Some(exprs), Some(PhysicalPlanType::Window(window))) => {
            exprs.iter().zip(&mut window.window_expr).try_for_each(|(expr, node)| complete_expr(expr, node))
        }
        // What is below an operator of ours is encoded without our converter.
        (None, Some(PhysicalPlanType::Extension(ours))) => {
            plan.children().into_iter().zip(&mut ours.inputs).try_for_each(|(input, node)| complete(input, node))
        }
        _ => Ok(()),
    }
}

/// Puts it back into a decoded one.
pub(super) fn restore(node: &PhysicalPlanNode, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let (Some(exprs), Some(PhysicalPlanType::Window(window))) = (window_exprs(&plan), &node.physical_plan_type) else {
        return Ok(plan);
    };
    if !window.window_expr.iter().any(is_reversed) {
        return Ok(plan);
    }
    let exprs = exprs.iter().zip(&window.window_expr);
    let exprs = exprs.map(|(expr, node)| if is_reversed(node) { reversed(expr) } else { Ok(Arc::clone(expr)) });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    if let Some(bounded) = plan.downcast_ref::<BoundedWindowAggExec>() {
        let (input, mode, keyed) = (Arc::clone(bounded.input()), bounded.input_order_mode.clone(), !bounded.partition_keys().is_empty());
        return Ok(Arc::new(BoundedWindowAggExec::try_new(exprs, input, mode, keyed)?));
    }
    match plan.downcast_ref::<WindowAggExec>() {
        Some(whole) => Ok(Arc::new(WindowAggExec::try_new(exprs, Arc::clone(whole.input()), !whole.partition_keys().is_empty())?)),
        None => Ok(plan),
    }
}

fn window_exprs(plan: &Arc<dyn ExecutionPlan>) -> Option<&[Arc<dyn WindowExpr>]> {
    match plan.downcast_ref::<BoundedWindowAggExec>() {
        Some(bounded) => Some(bounded.window_expr()),
        None => plan.downcast_ref::<WindowAggExec>().map(WindowAggExec::window_expr),
    }
}

fn complete_expr(expr: &Arc<dyn WindowExpr>, node: &mut PhysicalWindowExprNode) -> Result<()> {
    let Some(standard) = expr.as_any().downcast_ref::<StandardWindowExpr>() else {
        // The only thing that tells: the field is private, and so is the trait that has a method for it.
        return match format!("{expr:?}").ends_with("filter: None }") {
            true => Ok(()),
            false => Err(DataFusionError::NotImplemented(format!(
                "{}: FILTER of a function over a window can't be sent to executors; write CASE WHEN condition THEN argument END as its argument",
                expr.name()
            ))),
        };
    };
    let function = standard.get_standard_func_expr();
    let (is_reversed, ignore_nulls) = flags(function)?;
    (node.ignore_nulls, node.distinct) = (ignore_nulls, is_reversed);
    if is_reversed {
        // What it was reversed from, so that the other side can do the same.
        let forward = function.reverse_expr();
        let forward = forward.as_ref().and_then(|forward| forward.as_any().downcast_ref::<WindowUDFExpr>());
        let forward = forward.ok_or_else(|| unknown(function))?;
        node.window_function = Some(WindowFunction::UserDefinedWindowFunction(forward.fun().name().to_owned()));
    }
    Ok(())
}

/// Whether a function runs against the order of its rows, and whether it ignores nulls. Both fields are private, so that the text for
/// developers, which ends in them, is read.
fn flags(function: &Arc<dyn StandardWindowFunctionExpr>) -> Result<(bool, bool)> {
    let function_expr = function.as_any().downcast_ref::<WindowUDFExpr>().ok_or_else(|| unknown(function))?;
    let text = format!("{function_expr:?}");
    for (is_reversed, ignore_nulls) in [(false, false), (false, true), (true, false), (true, true)] {
        if text.ends_with(&format!("is_reversed: {is_reversed}, ignore_nulls: {ignore_nulls} }}")) {
            return Ok((is_reversed, ignore_nulls));
        }
    }
    Err(unknown(function))
}

fn is_reversed(node: &PhysicalWindowExprNode) -> bool {
    node.distinct && matches!(node.window_function, Some(WindowFunction::UserDefinedWindowFunction(_)))
}

/// The function against the order of its rows, over the same window.
fn reversed(expr: &Arc<dyn WindowExpr>) -> Result<Arc<dyn WindowExpr>> {
    let standard = expr.as_any().downcast_ref::<StandardWindowExpr>();
    let reversed = standard.and_then(|standard| Some((standard, standard.get_standard_func_expr().reverse_expr()?)));
    let (standard, function) =
        reversed.ok_or_else(|| DataFusionError::Internal(format!("window function {} can't be reversed", expr.name())))?;
    let frame = Arc::clone(standard.get_window_frame());
    Ok(Arc::new(StandardWindowExpr::new(function, standard.partition_by(), standard.order_by(), frame)))
}

fn unknown(function: &Arc<dyn StandardWindowFunctionExpr>) -> DataFusionError {
    DataFusionError::Internal(format!("window function {} is of a kind that can't be sent to executors", function.name()))
}
