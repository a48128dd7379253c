//! Statement tickets, prepared handles and plans.

use super::error::{ConvertError, kind, required};
use super::types::{settings_from_wire, settings_to_wire};
use crate::client::{PreparedHandle, ResultPart, ResultTicket, Statement, StatementPlan};
use crate::ids::{JobId, SessionId, Term};
use crate::wire::client::v1 as wire;

impl From<ResultTicket> for wire::ResultTicket {
    fn from(ticket: ResultTicket) -> Self {
        let part = ticket.part.map(Into::into);
        Self { term: ticket.term.0, job: ticket.job.0, session: ticket.session.as_str().to_owned(), part }
    }
}

impl TryFrom<wire::ResultTicket> for ResultTicket {
    type Error = ConvertError;

    fn try_from(ticket: wire::ResultTicket) -> Result<Self, ConvertError> {
        let part = ticket.part.map(TryInto::try_into).transpose()?;
        Ok(Self { term: Term(ticket.term), job: JobId(ticket.job), session: SessionId::new(ticket.session), part })
    }
}

impl From<ResultPart> for wire::ResultPart {
    fn from(part: ResultPart) -> Self {
        Self { task: part.task, exchange: part.exchange.map(Into::into) }
    }
}

impl TryFrom<wire::ResultPart> for ResultPart {
    type Error = ConvertError;

    fn try_from(part: wire::ResultPart) -> Result<Self, ConvertError> {
        Ok(Self { task: part.task, exchange: part.exchange.map(TryInto::try_into).transpose()? })
    }
}

impl From<StatementPlan> for wire::StatementPlan {
    fn from(plan: StatementPlan) -> Self {
        Self { plan: plan.plan, settings: settings_to_wire(plan.settings) }
    }
}

impl From<wire::StatementPlan> for StatementPlan {
    fn from(plan: wire::StatementPlan) -> Self {
        Self { plan: plan.plan, settings: settings_from_wire(plan.settings) }
    }
}

impl From<Statement> for wire::Statement {
    fn from(statement: Statement) -> Self {
        use wire::statement::Text;
        let text = match statement {
            Statement::Sql(sql) => Text::Sql(sql),
            Statement::Plan(plan) => Text::Plan(plan.into()),
            Statement::Substrait(plan) => Text::Substrait(plan),
        };
        Self { text: Some(text) }
    }
}

impl TryFrom<wire::Statement> for Statement {
    type Error = ConvertError;

    fn try_from(statement: wire::Statement) -> Result<Self, ConvertError> {
        use wire::statement::Text;
        Ok(match kind(statement.text, "Statement", "text")? {
            Text::Sql(sql) => Self::Sql(sql),
            Text::Plan(plan) => Self::Plan(plan.into()),
            Text::Substrait(plan) => Self::Substrait(plan),
        })
    }
}

impl From<PreparedHandle> for wire::PreparedHandle {
    fn from(handle: PreparedHandle) -> Self {
        Self {
            term: handle.term.0,
            session: handle.session.as_str().to_owned(),
            statement: Some(handle.statement.into()),
            parameters: handle.parameters,
        }
    }
}

impl TryFrom<wire::PreparedHandle> for PreparedHandle {
    type Error = ConvertError;

    fn try_from(handle: wire::PreparedHandle) -> Result<Self, ConvertError> {
        Ok(Self {
            term: Term(handle.term),
            session: SessionId::new(handle.session),
            statement: required(handle.statement, "PreparedHandle", "statement")?.try_into()?,
            parameters: handle.parameters,
        })
    }
}
