//! Which kind of statement a plan is.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, MergeIntoOp, Statement as EngineStatement, WriteOp};
use datafusion::prelude::SessionContext;

use super::immediate::Immediate;
use super::plan::explained;
use super::{SqlError, Statement, change, create, ddl, merge, write};
use crate::catalog::check_folders;
use crate::diagnostics::in_words;

/// The schema whose tables describe the session.
const INFORMATION_SCHEMA: &str = "information_schema";

/// What a plan asks for that did not come as text: from a DataFrame, or from Substrait.
pub async fn classify(session: &SessionContext, plan: LogicalPlan) -> Result<Statement, SqlError> {
    classify_plan(session, plan).await
}

pub(super) async fn classify_plan(session: &SessionContext, plan: LogicalPlan) -> Result<Statement, SqlError> {
    check_folders(&plan).map_err(|error| SqlError::of(&error, ""))?;
    match plan {
        LogicalPlan::Copy(copy) => write::copy(&session.state(), copy).map(Statement::Write),
        LogicalPlan::Dml(dml) => match dml.op {
            WriteOp::Insert(_) | WriteOp::Truncate => write::insert(&session.state(), dml).await.map(Statement::Write),
            WriteOp::Delete | WriteOp::Update => change::rows(&session.state(), dml).await.map(Statement::Write),
            WriteOp::MergeInto(ref op) => {
                let op = MergeIntoOp::clone(op);
                merge::rows(&session.state(), dml, op).await.map(Statement::Write)
            }
            other => {
                let name = other.name().to_uppercase();
                Err(SqlError::new(format!("{name} is not supported; INSERT, UPDATE, DELETE, MERGE and TRUNCATE are")))
            }
        },
        create @ LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(_)) => {
            create::table(&session.state(), "", create, false).map(Statement::Write)
        }
        LogicalPlan::Ddl(statement) => classify_ddl(session, statement).map(Statement::Immediate),
        LogicalPlan::Statement(statement) => classify_statement(session, statement).await,
        describe @ LogicalPlan::DescribeTable(_) => Ok(Statement::Immediate(Immediate::Local { plan: describe })),
        LogicalPlan::Explain(explain) => {
            let statement = Box::pin(classify_plan(session, Arc::unwrap_or_clone(explain.plan))).await?;
            explained(statement, Some(&explain.explain_format), false, explain.verbose)
        }
        LogicalPlan::Analyze(analyze) => {
            let statement = Box::pin(classify_plan(session, Arc::unwrap_or_clone(analyze.input))).await?;
            explained(statement, Some(&analyze.format), true, analyze.verbose)
        }
        query if is_local(&query)? => Ok(Statement::Immediate(Immediate::Local { plan: query })),
        query => Ok(Statement::Query(query)),
    }
}

fn classify_ddl(session: &SessionContext, statement: DdlStatement) -> Result<Immediate, SqlError> {
    let state = session.state();
    match statement {
        DdlStatement::DropTable(drop) => ddl::drop_table(&state, drop.name, drop.if_exists),
        DdlStatement::DropView(drop) => ddl::drop_view(&state, drop.name, drop.if_exists),
        DdlStatement::CreateCatalogSchema(create) => ddl::create_schema(&state, &create.schema_name, create.if_not_exists),
        DdlStatement::DropCatalogSchema(drop) => ddl::drop_schema(&state, &drop.name, drop.if_exists, drop.cascade),
        DdlStatement::CreateExternalTable(create) => {
            Err(SqlError::new(format!("table '{}' must be created by a statement as text", create.name)))
        }
        DdlStatement::CreateView(create) => Err(SqlError::new(format!("view '{}' must be created by a statement as text", create.name))),
        DdlStatement::CreateCatalog(_) => Err(SqlError::new("CREATE DATABASE is not supported; CREATE SCHEMA is")),
        other => Err(SqlError::new(format!("{} is not supported", in_words(other.name())))),
    }
}

async fn classify_statement(session: &SessionContext, statement: EngineStatement) -> Result<Statement, SqlError> {
    match statement {
        EngineStatement::SetVariable(set) => Ok(Statement::Immediate(Immediate::Set { key: set.variable, value: set.value })),
        EngineStatement::ResetVariable(reset) => Ok(Statement::Immediate(Immediate::Reset { key: reset.variable })),
        EngineStatement::Prepare(_) | EngineStatement::Deallocate(_) => {
            Ok(Statement::Immediate(Immediate::Session { plan: LogicalPlan::Statement(statement) }))
        }
        // Binds the values to the plan that PREPARE stored; nothing runs.
        EngineStatement::Execute(_) => {
            let bound = session.execute_logical_plan(LogicalPlan::Statement(statement)).await;
            let bound = bound.map_err(|error| SqlError::of(&error, ""))?;
            Box::pin(classify_plan(session, bound.logical_plan().clone())).await
        }
        EngineStatement::TransactionStart(_) | EngineStatement::TransactionEnd(_) => {
            Err(SqlError::new("transactions are not supported: each statement is committed by itself"))
        }
    }
}

/// Whether a query reads only tables that describe the session, so that it needs no executor. One that reads others too is planned with
/// the rows that these have now.
fn is_local(plan: &LogicalPlan) -> Result<bool, SqlError> {
    let (mut local, mut other) = (false, false);
    find_scans(plan, &mut local, &mut other).map_err(|error| SqlError::of(&error, ""))?;
    Ok(local && !other)
}

/// Sets which kinds of tables a plan reads, itself or through views.
fn find_scans(plan: &LogicalPlan, local: &mut bool, other: &mut bool) -> datafusion::error::Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            match (scan.source.get_logical_plan(), scan.table_name.schema()) {
                (Some(view), _) => find_scans(&view, local, other)?,
                (None, Some(INFORMATION_SCHEMA)) => *local = true,
                (None, _) => *other = true,
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
