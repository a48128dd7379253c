//! SQL text to what the scheduler is to do.
//!
//! ```text
//! text --parse--> [ParsedStatement] --plan--> Statement::Query      a plan for the cluster
//!                                             Statement::Explain    of one of the others
//!                                             Statement::Write      a plan for the cluster, and where its rows go
//!                                             Statement::Immediate  done in the session: SET, DDL, SHOW, DESCRIBE
//! ```
//!
//! Planning has no side effects, so a statement may be prepared and never run; [`Immediate::run`] has them. Both recurse as deeply as the
//! statement is nested: call them on a thread with a stack of 64 MiB or more.

mod change;
mod classify;
mod conditions;
mod create;
mod ddl;
mod immediate;
mod limits;
mod merge;
mod parameters;
mod parse;
mod plan;
mod sample;
mod show;
mod write;

pub use classify::classify;
pub use immediate::{Immediate, ImmediateResult, restore_options};
pub use parse::{MAX_STATEMENT_BYTES, ParsedStatement, parse, parse_one};
pub use plan::{plan, plan_with_state};
pub use write::{WriteStatement, WriteTarget, write_result_schema};

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;

pub use crate::diagnostics::SqlError;

/// What a statement asks for.
#[derive(Debug, Clone)]
pub enum Statement {
    /// Rows of a plan that is not optimized yet.
    Query(LogicalPlan),
    /// How another statement would be run, or was.
    Explain(ExplainStatement),
    /// Rows of a plan into files.
    Write(WriteStatement),
    /// What the session does itself.
    Immediate(Immediate),
}

/// `EXPLAIN [ANALYZE] [VERBOSE] [FORMAT TEXT | JSON] statement`.
#[derive(Debug, Clone)]
pub struct ExplainStatement {
    /// What is explained: a query or a write.
    pub statement: Box<Statement>,
    /// Whether it is run and measured.
    pub analyze: bool,
    /// Whether to show more than most want to see.
    pub verbose: bool,
    /// How it is shown.
    pub format: ExplainFormat,
}

/// How a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExplainFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Statement {
    /// The columns of its result; none where it has no rows.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Query(plan) => Arc::clone(plan.schema().inner()),
            Self::Explain(_) => explain_schema(),
            Self::Write(_) => write_result_schema(),
            Self::Immediate(immediate) => immediate.schema(),
        }
    }

    /// Whether it changes something rather than asks for rows.
    pub fn is_update(&self) -> bool {
        match self {
            Self::Query(_) | Self::Explain(_) => false,
            Self::Write(_) => true,
            Self::Immediate(immediate) => immediate.is_update(),
        }
    }

    /// Its parameters `$1`, `$2`, ... in order, with the type that its text gives them; [`DataType::Null`] where it gives none.
    pub fn parameters(&self) -> Result<Schema, SqlError> {
        let plan = match self {
            Self::Query(plan) => plan,
            Self::Write(write) => &write.input,
            Self::Explain(explain) => return explain.statement.parameters(),
            Self::Immediate(_) => return Ok(Schema::empty()),
        };
        parameters::schema_of(plan)
    }
}

/// The columns of an explanation: what is shown, and the text.
pub fn explain_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("plan_type", DataType::Utf8, false), Field::new("plan", DataType::Utf8, false)]))
}

/// A parameter without a type.
fn untyped(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Null, true))
}
