//! Syntax trees to statements.

use datafusion::common::ParamValues;
use datafusion::common::format::ExplainFormat as EngineFormat;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{ExplainStatement as ExplainAst, ResetStatement, Statement as Ast};
use datafusion::sql::sqlparser::ast::{CreateTable, Ident, ObjectName, Statement as SqlAst, Use};

use super::classify::classify_plan;
use super::immediate::Immediate;
use super::parse::ParsedStatement;
use super::{ExplainFormat, ExplainStatement, SqlError, Statement, create, ddl, show};
use crate::diagnostics::nearest;

/// What a statement asks for, in a session that [`crate::session::SessionBuilder`] made. Without `parameters` a statement that takes
/// some can be described but not run.
pub async fn plan(session: &SessionContext, statement: &ParsedStatement, parameters: Option<&ParamValues>) -> Result<Statement, SqlError> {
    plan_with_state(session, &session.state(), statement, parameters).await
}

/// As [`plan`], for callers that hold the session's state already: a copy of it has an entry for each function there is.
pub async fn plan_with_state(
    session: &SessionContext,
    state: &SessionState,
    statement: &ParsedStatement,
    parameters: Option<&ParamValues>,
) -> Result<Statement, SqlError> {
    plan_ast(session, state, statement, statement.ast(), parameters).await
}

async fn plan_ast(
    session: &SessionContext,
    state: &SessionState,
    parsed: &ParsedStatement,
    ast: &Ast,
    parameters: Option<&ParamValues>,
) -> Result<Statement, SqlError> {
    match ast {
        Ast::Explain(explain) => Box::pin(plan_explain(session, state, parsed, explain, parameters)).await,
        Ast::CreateExternalTable(create) => ddl::create_table(state, create).map(Statement::Immediate),
        Ast::Reset(reset) => {
            let ResetStatement::Variable(name) = reset;
            Ok(Statement::Immediate(Immediate::Reset { key: name.to_string() }))
        }
        Ast::Statement(sql) => match sql.as_ref() {
            SqlAst::ShowVariable { variable } => show::variable(state, variable),
            SqlAst::AlterTable(alter) => ddl::alter_table(state, alter).map(Statement::Immediate),
            SqlAst::Use(target) => use_target(target).map(Statement::Immediate),
            SqlAst::CreateView(_) => {
                let plan = logical_plan(state, parsed, ast).await?;
                ddl::create_view(state, parsed, plan).map(Statement::Immediate)
            }
            SqlAst::CreateTable(create) => {
                // The engine has no temporary tables: to it this is one like others.
                let lasting = SqlAst::CreateTable(CreateTable { temporary: false, ..create.clone() });
                let plan = logical_plan(state, parsed, &Ast::Statement(Box::new(lasting))).await?;
                let plan = with_parameters(parsed, plan, parameters)?;
                create::table(state, parsed.text(), plan, create.temporary).map(Statement::Write)
            }
            SqlAst::StartTransaction { .. } | SqlAst::Commit { .. } | SqlAst::Rollback { .. } => {
                Err(SqlError::new("transactions are not supported: each statement is committed by itself"))
            }
            _ => plan_other(session, state, parsed, ast, parameters).await,
        },
        Ast::CopyTo(_) => plan_other(session, state, parsed, ast, parameters).await,
    }
}

async fn plan_other(
    session: &SessionContext,
    state: &SessionState,
    parsed: &ParsedStatement,
    ast: &Ast,
    parameters: Option<&ParamValues>,
) -> Result<Statement, SqlError> {
    let plan = logical_plan(state, parsed, ast).await?;
    classify_plan(session, with_parameters(parsed, plan, parameters)?).await
}

fn with_parameters(parsed: &ParsedStatement, plan: LogicalPlan, parameters: Option<&ParamValues>) -> Result<LogicalPlan, SqlError> {
    match parameters {
        Some(values) => plan.with_param_values(values.clone()).map_err(|error| parsed.error(&error)),
        None => Ok(plan),
    }
}

async fn logical_plan(state: &SessionState, parsed: &ParsedStatement, ast: &Ast) -> Result<LogicalPlan, SqlError> {
    match state.statement_to_plan(ast.clone()).await {
        Ok(plan) => Ok(plan),
        Err(error) => {
            let described = parsed.error(&error);
            Err(match table_hint(state, ast, &described.message) {
                Some(hint) => described.with_hint(hint),
                None => described,
            })
        }
    }
}

/// A table that was probably meant where one is not found.
fn table_hint(state: &SessionState, ast: &Ast, message: &str) -> Option<String> {
    if !message.contains("not found") && !message.contains("failed to resolve") {
        return None;
    }
    let names = &state.config_options().catalog;
    let references = state.resolve_table_references(ast).ok()?;
    references.into_iter().find_map(|reference| {
        let wanted = reference.resolve(&names.default_catalog, &names.default_schema);
        let Some(catalog) = state.catalog_list().catalog(&wanted.catalog) else {
            let catalogs = state.catalog_list().catalog_names();
            return Some(format!("the catalogs are {}", catalogs.join(", ")));
        };
        let Some(schema) = catalog.schema(&wanted.schema) else {
            let schemas = catalog.schema_names();
            return Some(format!("the schemas of '{}' are {}", wanted.catalog, schemas.join(", ")));
        };
        if schema.table_exist(&wanted.table) {
            return None;
        }
        let tables = schema.table_names();
        nearest(&wanted.table, tables.iter().map(String::as_str)).map(|near| format!("did you mean '{near}'?"))
    })
}

async fn plan_explain(
    session: &SessionContext,
    state: &SessionState,
    parsed: &ParsedStatement,
    explain: &ExplainAst,
    parameters: Option<&ParamValues>,
) -> Result<Statement, SqlError> {
    let statement = plan_ast(session, state, parsed, &explain.statement, parameters).await?;
    let options = &explain.options;
    explained(statement, options.format.as_ref(), options.analyze, options.verbose)
}

/// The explanation of a statement.
pub(super) fn explained(statement: Statement, format: Option<&EngineFormat>, analyze: bool, verbose: bool) -> Result<Statement, SqlError> {
    let format = match format {
        None | Some(EngineFormat::Indent | EngineFormat::Tree) => ExplainFormat::Text,
        Some(EngineFormat::PostgresJSON) => ExplainFormat::Json,
        Some(other) => return Err(SqlError::new(format!("explain format '{other}' is not supported; the formats are text and json"))),
    };
    match statement {
        Statement::Query(_) | Statement::Write(_) => {}
        Statement::Explain(_) => return Err(SqlError::new("an EXPLAIN can't be explained")),
        Statement::Immediate(_) => return Err(SqlError::new("there is no plan to explain: the session does this by itself")),
    }
    Ok(Statement::Explain(ExplainStatement { statement: Box::new(statement), analyze, verbose, format }))
}

/// `USE catalog.schema`, `USE schema`.
fn use_target(target: &Use) -> Result<Immediate, SqlError> {
    let text = |ident: &Ident| if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
    let parts = |name: &ObjectName| -> Vec<String> { name.0.iter().filter_map(|part| part.as_ident()).map(text).collect() };
    let (catalog, schema) = match target {
        Use::Catalog(name) | Use::Database(name) => (parts(name).pop(), None),
        Use::Schema(name) | Use::Object(name) => {
            let mut parts = parts(name);
            let schema = parts.pop();
            (parts.pop(), schema)
        }
        _ => return Err(SqlError::new(format!("'{target}' is not supported; USE catalog.schema and USE schema are"))),
    };
    Ok(Immediate::Use { catalog, schema })
}
