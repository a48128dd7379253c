//! Statements of the extended protocol: parsed once, run with parameters.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use pgwire::messages::extendedquery::Bind;
use postgres_types::Type;

use super::error::{Refusal, Result, state};
use super::flight;
use super::parameters::decode;
use super::running::Running;
use super::session::{Answer, Own, Session, shown};
use super::settings::Wish;
use super::statement::{Statement, split};
use super::types::{Column, Format, arrow_type, by_name, columns, formats, pg_type, sql_name};
use crate::error::ClientError;

/// A parsed statement.
pub(super) struct Prepared {
    pub(super) statement: Statement,
    plan: Plan,
    /// The columns of its rows; `None` where it gives none.
    pub(super) columns: Option<Vec<Column>>,
    pub(super) parameters: Vec<Parameter>,
}

/// Where it is run.
enum Plan {
    /// Nowhere: there is no statement in the text.
    Empty,
    Own(Own),
    Catalog(Box<LogicalPlan>),
    Cluster {
        handle: Bytes,
    },
}

/// What a parameter is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameter {
    /// What the client says, or is told.
    pub(super) kind: Type,
    /// What the statement takes it for, where it does.
    wanted: Option<DataType>,
}

/// A statement with its parameters.
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) values: Vec<ScalarValue>,
    pub(super) formats: Vec<Format>,
    pub(super) progress: Progress,
}

/// How far a portal is.
pub(super) enum Progress {
    Bound,
    Running(Box<Running>),
    Ended,
}

/// Parses a text, in which clients declare the types of parameters; 0 for one that is not declared.
pub(super) async fn parse(session: &mut Session, text: &str, declared: &[u32]) -> Result<Prepared> {
    let mut statements = split(text);
    let Some(statement) = statements.pop() else { return Ok(Prepared::empty()) };
    if !statements.is_empty() {
        return Err(Refusal::new(state::SYNTAX, "cannot insert multiple commands into a prepared statement").into());
    }
    if let Some(own) = Session::own(&statement)? {
        let columns = match &own {
            Own::Setting(Wish::Show { name }) => Some(columns(&shown(name))),
            _ => None,
        };
        return Ok(Prepared { statement, plan: Plan::Own(own), columns, parameters: vec![] });
    }
    session.transaction.admit()?;
    let declared = declared_types(&statement, declared)?;
    if let Some(plan) = session.catalog_plan(&statement).await? {
        return of_catalog(statement, plan, &declared);
    }
    of_cluster(session, statement, &declared).await
}

/// The types that the client declares, or that parameters are cast to where they stand.
fn declared_types(statement: &Statement, declared: &[u32]) -> Result<Vec<Option<Type>>, Refusal> {
    let of = |index: usize| match declared_type(declared.get(index).copied().unwrap_or_default())? {
        None => Ok(statement.cast_of(index + 1).and_then(|name| by_name(&name))),
        declared => Ok(declared),
    };
    (0..statement.parameters().max(declared.len())).map(of).collect()
}

/// The type with this number; `None` for one that the statement is to tell.
fn declared_type(oid: u32) -> Result<Option<Type>, Refusal> {
    if oid == 0 || oid == Type::UNKNOWN.oid() {
        return Ok(None);
    }
    let known = Type::from_oid(oid).filter(|kind| arrow_type(kind).is_some());
    known.map(Some).ok_or_else(|| Refusal::new("42704", format!("parameters of the type with OID {oid} are not supported")))
}

fn of_catalog(statement: Statement, plan: LogicalPlan, declared: &[Option<Type>]) -> Result<Prepared> {
    let types = plan.get_parameter_types().map_err(Refusal::from)?;
    let parameter = |index: usize| {
        let wanted = types.get(&format!("${}", index + 1)).cloned().flatten();
        Parameter { kind: kind(declared, index, wanted.as_ref()), wanted }
    };
    let parameters = (0..statement.parameters().max(declared.len())).map(parameter).collect();
    let columns = Some(columns(plan.schema().as_arrow()));
    Ok(Prepared { statement, plan: Plan::Catalog(Box::new(plan)), columns, parameters })
}

async fn of_cluster(session: &mut Session, statement: Statement, declared: &[Option<Type>]) -> Result<Prepared> {
    let count = statement.parameters();
    let failed = |error: ClientError| Refusal::from(error).within(&statement.text, statement.before);
    let mut prepared = flight::prepare(&session.client, &statement.text).await;
    let casts: Vec<Option<String>> = (0..count).map(|index| cast_of(prepared.as_ref().ok(), declared, index)).collect();
    if casts.iter().any(Option::is_some) {
        let text = statement.with_casts(|number| casts.get(number.checked_sub(1)?)?.clone());
        let again = flight::prepare(&session.client, &text).await;
        // The place of an error is that in the text that the client sent.
        prepared = if again.is_err() && prepared.is_err() { prepared } else { again };
    }
    let prepared = prepared.map_err(failed)?;
    let parameter = |index: usize| {
        let wanted = wanted(&prepared.parameters, index).cloned();
        Parameter { kind: kind(declared, index, wanted.as_ref()), wanted }
    };
    let parameters = (0..count.max(declared.len())).map(parameter).collect();
    let columns = prepared.schema.as_ref().map(|schema| columns(schema));
    Ok(Prepared { statement, plan: Plan::Cluster { handle: prepared.handle }, columns, parameters })
}

/// The type that a statement gives a parameter.
fn wanted(parameters: &Schema, index: usize) -> Option<&DataType> {
    let field = parameters.field_with_name(&format!("${}", index + 1)).ok()?;
    Some(field.data_type()).filter(|kind| **kind != DataType::Null)
}

/// What a client is told, or has said, of a parameter.
fn kind(declared: &[Option<Type>], index: usize, wanted: Option<&DataType>) -> Type {
    let told = || wanted.map(pg_type).filter(|kind| arrow_type(kind).is_some()).unwrap_or(Type::TEXT);
    declared.get(index).cloned().flatten().unwrap_or_else(told)
}

/// What a parameter has to be cast to in the statement's text: to what the client declares, unless the statement takes it for something
/// that holds all such values; to text where nobody says anything.
fn cast_of(prepared: Option<&flight::Prepared>, declared: &[Option<Type>], index: usize) -> Option<String> {
    let wanted = prepared.and_then(|prepared| wanted(&prepared.parameters, index));
    match (declared.get(index).and_then(Option::as_ref), wanted) {
        (None, None) if prepared.is_some() => sql_name(&Type::TEXT),
        (None, _) => None,
        (Some(declared), None) => sql_name(declared),
        (Some(declared), Some(wanted)) => (!holds(wanted, declared)).then(|| sql_name(declared)).flatten(),
    }
}

/// Whether values of a type can be sent as `wanted` with nothing lost; a value that is too large is refused when it comes.
fn holds(wanted: &DataType, declared: &Type) -> bool {
    let Some(own) = arrow_type(declared) else { return false };
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (&own, wanted) {
        (own, wanted) if own == wanted || pg_type(own) == pg_type(wanted) => true,
        // Texts are parsed as what they are wanted for.
        (own, _) if is_text(own) => true,
        (own, wanted) if own.is_integer() => wanted.is_integer() || wanted.is_decimal() || *wanted == DataType::Float64,
        (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(..), wanted) => wanted.is_decimal(),
        _ => false,
    }
}

impl Prepared {
    fn empty() -> Self {
        let statement = Statement { text: String::new(), before: 0, lexemes: vec![] };
        Self { statement, plan: Plan::Empty, columns: None, parameters: vec![] }
    }

    /// Whether there is no statement in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.plan, Plan::Empty)
    }

    /// What it asks of the gateway, if it does.
    pub(super) fn own(&self) -> Option<&Own> {
        match &self.plan {
            Plan::Own(own) => Some(own),
            _ => None,
        }
    }

    /// Binds parameters and says how the values of rows are to be written.
    pub(super) fn bind(self: &Arc<Self>, message: &Bind) -> Result<Portal, Refusal> {
        let (given, taken) = (message.parameters.len(), self.parameters.len());
        if given != taken {
            let text = format!("bind message supplies {given} parameters, but prepared statement requires {taken}");
            return Err(Refusal::new(state::PROTOCOL, text));
        }
        let wrong =
            |what: &str| Refusal::new(state::PROTOCOL, format!("bind message has another number of {what} formats than of {what}s"));
        let sent = formats(&message.parameter_format_codes, taken).ok_or_else(|| wrong("parameter"))?;
        let count = self.columns.as_ref().map_or(0, Vec::len);
        let formats = match formats(&message.result_column_format_codes, count) {
            Some(formats) => formats,
            // Without rows it does not matter.
            None if count == 0 => vec![],
            None => return Err(wrong("column")),
        };
        let values = self.parameters.iter().zip(&message.parameters).zip(sent);
        let value = |((parameter, value), format): ((&Parameter, &Option<Bytes>), Format)| {
            decode(&parameter.kind, format, value.as_ref(), parameter.wanted.as_ref())
        };
        Ok(Portal { prepared: Arc::clone(self), values: values.map(value).collect::<Result<_, _>>()?, formats, progress: Progress::Bound })
    }

    /// Runs the statement as far as its rows can be read.
    pub(super) async fn run(&self, values: Vec<ScalarValue>, session: &mut Session) -> Result<Answer> {
        let statement = &self.statement;
        if let Plan::Own(own) = &self.plan {
            return session.run_own(statement, own).await;
        }
        session.transaction.admit()?;
        let answer = match &self.plan {
            Plan::Catalog(plan) => session.run_catalog(LogicalPlan::clone(plan), values).await?,
            Plan::Cluster { handle } => {
                let (client, handle, row) = (session.client.clone(), handle.clone(), row(&values)?);
                let run = async move { flight::run_prepared(&client, &handle, row).await };
                session.run_started(statement, run).await?
            }
            Plan::Own(_) | Plan::Empty => return Ok(Answer::Done(String::new())),
        };
        self.check(&answer)?;
        Ok(answer)
    }

    /// The client was told what comes: that the tables have changed since must not make it read something else.
    fn check(&self, answer: &Answer) -> Result<(), Refusal> {
        let Answer::Rows(running) = answer else { return Ok(()) };
        let kinds = |columns: &[Column]| columns.iter().map(|column| column.kind.clone()).collect::<Vec<_>>();
        let told = self.columns.as_deref().unwrap_or_default();
        if kinds(told) == kinds(&running.columns) {
            return Ok(());
        }
        Err(Refusal::new(state::UNSUPPORTED, "cached plan must not change result type"))
    }
}

/// Parameters as a row.
fn row(values: &[ScalarValue]) -> Result<Option<RecordBatch>, Refusal> {
    if values.is_empty() {
        return Ok(None);
    }
    let field = |(index, value): (usize, &ScalarValue)| Field::new(format!("${}", index + 1), value.data_type(), true);
    let fields: Vec<Field> = values.iter().enumerate().map(field).collect();
    let arrays = values.iter().map(|value| value.to_array()).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_type_is_kept_where_the_statements_would_lose_something() {
        for (wanted, declared, is_held) in [
            (DataType::Int64, Type::INT2, true),
            (DataType::Decimal128(15, 2), Type::INT8, true),
            (DataType::Utf8View, Type::TEXT, true),
            (DataType::Int64, Type::TEXT, true),
            (DataType::Decimal128(15, 2), Type::NUMERIC, true),
            (DataType::Int64, Type::NUMERIC, false),
            (DataType::Int32, Type::FLOAT8, false),
            (DataType::Date32, Type::TIMESTAMP, false),
            (DataType::Float32, Type::INT4, false),
        ] {
            assert_eq!(holds(&wanted, &declared), is_held, "{wanted} {declared}");
        }
    }
}
