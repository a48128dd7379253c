//! Plans in Substrait's form, which other engines' planners make.

use arrow_flight::sql::CommandStatementSubstraitPlan;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion_substrait::logical_plan::consumer::from_substrait_plan;
use datafusion_substrait::substrait::proto::plan_rel::RelType;
use datafusion_substrait::substrait::proto::{Plan, PlanRel};
use prost::Message;
use tonic::Status;
use volley_proto::client::Statement;
use volley_proto::{Failure, Remedy};
use volley_sql::diagnostics::failure_of;

use super::service::refuse_transaction;

/// The first and the last version of the protocol whose plans are understood. Plans are not refused by their version.
pub(super) const VERSIONS: (&str, &str) = ("0.20.0", "0.85.0");

/// What a command asks for.
pub(super) fn statement(command: CommandStatementSubstraitPlan) -> Result<Statement, Status> {
    refuse_transaction(command.transaction_id.as_ref())?;
    let plan = command.plan.ok_or_else(|| Status::invalid_argument("the command has no plan"))?;
    Ok(Statement::Substrait(plan.plan))
}

/// The plan that was sent, over the tables that a session sees.
pub(super) async fn decode(sent: &[u8], state: &SessionState) -> Result<LogicalPlan, Failure> {
    let plan = Plan::decode(sent).map_err(|error| Failure::query(format!("the Substrait plan can't be read: {error}")))?;
    check(&plan)?;
    from_substrait_plan(state, &plan).await.map_err(|error| match failure_of(&error) {
        // What is wrong with a plan is not a bug here.
        Failure { remedy: Remedy::Internal, message } => Failure::query(format!("the Substrait plan can't be understood: {message}")),
        other => other,
    })
}

/// Refuses what the engine would take for impossible.
fn check(plan: &Plan) -> Result<(), Failure> {
    let [PlanRel { rel_type: Some(relation) }] = plan.relations.as_slice() else {
        return Err(Failure::query(format!("the Substrait plan has {} relations, but it has to have one", plan.relations.len())));
    };
    match relation {
        RelType::Root(root) if root.input.is_none() => Err(Failure::query("the root of the Substrait plan has no input")),
        RelType::Root(_) | RelType::Rel(_) => Ok(()),
    }
}
