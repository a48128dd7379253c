//! One client's conversation: a message at a time, each answered before the next is read.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended, TARGET_TYPE_BYTE_PORTAL,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage as Send, PgWireFrontendMessage as Sent};
use tokio_util::sync::CancellationToken;

use super::cancel::Named;
use super::error::{Refusal, Result, Stop, state};
use super::prepared::{Portal, Prepared, Progress, parse};
use super::running::Running;
use super::session::{Answer, Own, Session};
use super::socket::Socket;
use super::startup::malformed;
use super::statement::{Statement, split};
use super::types::{Format, description};

/// Most statements and portals that a client may keep at once.
const MOST_KEPT: usize = 10_000;

/// A client that is known.
pub(super) struct Connection {
    socket: Socket,
    session: Session,
    named: Named,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    /// After an error in the extended protocol, until Sync.
    is_skipping: bool,
}

impl Connection {
    pub(super) fn new(socket: Socket, session: Session, named: Named) -> Self {
        Self { socket, session, named, statements: HashMap::new(), portals: HashMap::new(), is_skipping: false }
    }

    /// Answers until the client leaves, or `stopping` says that the gateway does.
    pub(super) async fn serve(mut self, gone: CancellationToken, stopping: CancellationToken) {
        let client = self.session.client.clone();
        // Whoever is gone hears of no error.
        let _ = self.converse(&gone, &stopping).await;
        drop(self);
        let _ = client.close().await;
    }

    async fn converse(&mut self, gone: &CancellationToken, stopping: &CancellationToken) -> Result<()> {
        self.ready().await?;
        loop {
            let message = tokio::select! {
                biased;
                () = stopping.cancelled() => return self.leave(Refusal::new(state::STOPPING, "the scheduler is shutting down")).await,
                message = self.socket.next() => message,
            };
            let message = match message.transpose().map_err(malformed) {
                Ok(Some(Sent::Terminate(_)) | None) => return Ok(()),
                Ok(Some(message)) => message,
                Err(Stop::Refused(refusal)) => return self.leave(*refusal).await,
                Err(Stop::Gone) => return Ok(()),
            };
            let is_query = matches!(message, Sent::Query(_));
            let interrupted = self.named.interrupt.begin();
            let answered = tokio::select! {
                biased;
                () = gone.cancelled() => return Err(Stop::Gone),
                () = stopping.cancelled() => Err(Refusal::new(state::STOPPING, "the scheduler is shutting down").into()),
                Ok(()) = interrupted => Err(Refusal::cancelled().into()),
                answered = self.answer(message) => answered,
            };
            match answered {
                Ok(()) => {}
                Err(Stop::Gone) => return Err(Stop::Gone),
                Err(Stop::Refused(refusal)) => self.refuse(*refusal, is_query).await?,
            }
        }
    }

    async fn answer(&mut self, message: Sent) -> Result<()> {
        if self.is_skipping && !matches!(message, Sent::Sync(_)) {
            return Ok(());
        }
        match message {
            Sent::Query(query) => self.query(&query.query).await,
            Sent::Parse(message) => self.parse(message).await,
            Sent::Bind(message) => self.bind(&message).await,
            Sent::Describe(message) => self.describe(&message).await,
            Sent::Execute(message) => self.execute(&message).await,
            Sent::Close(message) => self.close(&message).await,
            Sent::Flush(_) => Ok(self.socket.flush().await?),
            Sent::Sync(_) => {
                self.is_skipping = false;
                if self.session.transaction.status() == pgwire::messages::response::TransactionStatus::Idle {
                    self.portals.clear();
                }
                self.ready().await
            }
            // What a client sends of a copy that it was told is not supported.
            Sent::CopyData(_) | Sent::CopyDone(_) | Sent::CopyFail(_) => Ok(()),
            _ => Err(Refusal::new(state::PROTOCOL, "unexpected message").into()),
        }
    }

    /// The simple protocol: each statement of a text is run when those before it are answered.
    async fn query(&mut self, text: &str) -> Result<()> {
        self.statements.remove("");
        self.portals.remove("");
        let statements = split(text);
        if statements.is_empty() {
            self.socket.feed(Send::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        }
        for statement in &statements {
            match self.run(statement).await? {
                Answer::Done(tag) => self.complete(tag).await?,
                Answer::Rows(mut running) => {
                    let formats = vec![Format::Text; running.columns.len()];
                    self.socket.feed(Send::RowDescription(description(&running.columns, &formats))).await?;
                    let (rows, _) = self.rows(&mut running, &formats, 0).await?;
                    self.complete(statement.tag(Some(rows))).await?;
                }
            }
        }
        self.ready().await
    }

    async fn run(&mut self, statement: &Statement) -> Result<Answer> {
        if let Some(own) = Session::own(statement)? {
            self.forget(&own);
            return self.session.run_own(statement, &own).await;
        }
        self.session.transaction.admit()?;
        match self.session.catalog_plan(statement).await? {
            Some(plan) => self.session.run_catalog(plan, vec![]).await,
            None => self.session.run_cluster(statement).await,
        }
    }

    /// Forgets the prepared statements that a statement names.
    fn forget(&mut self, own: &Own) {
        match own {
            Own::Deallocate(Some(name)) => drop(self.statements.remove(name)),
            Own::Deallocate(None) => self.statements.clear(),
            Own::DiscardAll => {
                self.statements.clear();
                self.portals.clear();
            }
            _ => {}
        }
    }

    /// Sends rows, at most `limit` of them if that is not 0; gives their number and whether these were all.
    async fn rows(&mut self, running: &mut Running, formats: &[Format], limit: u64) -> Result<(u64, bool)> {
        let mut rows = 0;
        while limit == 0 || rows < limit {
            match running.next(formats).await? {
                Some(row) => self.socket.feed(Send::DataRow(row)).await?,
                None => return Ok((rows, true)),
            }
            rows += 1;
        }
        Ok((rows, false))
    }

    async fn parse(&mut self, message: Parse) -> Result<()> {
        let name = message.name.unwrap_or_default();
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Refusal::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        self.statements.remove("");
        let prepared = parse(&mut self.session, &message.query, &message.type_oids).await?;
        if self.statements.len() >= MOST_KEPT {
            return Err(Refusal::new("54000", format!("a connection keeps at most {MOST_KEPT} prepared statements")).into());
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(self.socket.feed(Send::ParseComplete(ParseComplete::new())).await?)
    }

    async fn bind(&mut self, message: &Bind) -> Result<()> {
        let prepared = self.statement(message.statement_name.as_deref())?;
        let name = message.portal_name.clone().unwrap_or_default();
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(Refusal::new("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        if self.portals.len() >= MOST_KEPT {
            return Err(Refusal::new("54000", format!("a connection keeps at most {MOST_KEPT} portals")).into());
        }
        self.portals.remove(&name);
        let portal = prepared.bind(message)?;
        self.portals.insert(name, portal);
        Ok(self.socket.feed(Send::BindComplete(BindComplete::new())).await?)
    }

    fn statement(&self, name: Option<&str>) -> Result<Arc<Prepared>, Refusal> {
        let name = name.unwrap_or_default();
        let missing = || Refusal::new(state::NO_STATEMENT, format!("prepared statement \"{name}\" does not exist"));
        self.statements.get(name).cloned().ok_or_else(missing)
    }

    async fn describe(&mut self, message: &Describe) -> Result<()> {
        let name = message.name.as_deref();
        let (prepared, formats) = match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let prepared = self.statement(name)?;
                let types = prepared.parameters.iter().map(|parameter| parameter.kind.oid()).collect();
                self.socket.feed(Send::ParameterDescription(ParameterDescription::new(types))).await?;
                (prepared, vec![])
            }
            TARGET_TYPE_BYTE_PORTAL => {
                let portal = self.portals.get(name.unwrap_or_default()).ok_or_else(|| missing_portal(name))?;
                (Arc::clone(&portal.prepared), portal.formats.clone())
            }
            _ => return Err(Refusal::new(state::PROTOCOL, "expected a statement or a portal to describe").into()),
        };
        let told = match &prepared.columns {
            Some(columns) => Send::RowDescription(description(columns, &formats)),
            None => Send::NoData(NoData::new()),
        };
        Ok(self.socket.feed(told).await?)
    }

    async fn execute(&mut self, message: &Execute) -> Result<()> {
        let name = message.name.clone().unwrap_or_default();
        let missing = || missing_portal(message.name.as_deref());
        // Out of the others, so that it ends with its job if this is interrupted.
        let mut portal = self.portals.remove(&name).ok_or_else(missing)?;
        if portal.prepared.is_empty() {
            self.portals.insert(name, portal);
            return Ok(self.socket.feed(Send::EmptyQueryResponse(EmptyQueryResponse::new())).await?);
        }
        if matches!(portal.progress, Progress::Bound) {
            if let Some(own) = portal.prepared.own() {
                let own = own.clone();
                self.forget(&own);
            }
            let (prepared, values) = (Arc::clone(&portal.prepared), std::mem::take(&mut portal.values));
            match prepared.run(values, &mut self.session).await? {
                Answer::Rows(running) => portal.progress = Progress::Running(running),
                Answer::Done(tag) => {
                    portal.progress = Progress::Ended;
                    self.portals.insert(name, portal);
                    return self.complete(tag).await;
                }
            }
        }
        let limit = u64::try_from(message.max_rows).unwrap_or(0);
        let (rows, is_end) = match &mut portal.progress {
            Progress::Running(running) => self.rows(running, &portal.formats, limit).await?,
            Progress::Bound | Progress::Ended => (0, true),
        };
        if is_end {
            portal.progress = Progress::Ended;
            self.complete(portal.prepared.statement.tag(Some(rows))).await?;
        } else {
            self.socket.feed(Send::PortalSuspended(PortalSuspended::new())).await?;
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    async fn close(&mut self, message: &Close) -> Result<()> {
        let name = message.name.as_deref().unwrap_or_default();
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => drop(self.statements.remove(name)),
            _ => drop(self.portals.remove(name)),
        }
        Ok(self.socket.feed(Send::CloseComplete(CloseComplete::new())).await?)
    }

    /// A statement is completed: warnings and changed settings first.
    async fn complete(&mut self, tag: String) -> Result<()> {
        for warning in std::mem::take(&mut self.session.warnings) {
            self.socket.feed(Send::NoticeResponse(warning.into_info("WARNING").into())).await?;
        }
        for (name, value) in std::mem::take(&mut self.session.changed) {
            self.socket.feed(Send::ParameterStatus(ParameterStatus::new(name.to_owned(), value))).await?;
        }
        Ok(self.socket.feed(Send::CommandComplete(CommandComplete::new(tag))).await?)
    }

    async fn ready(&mut self) -> Result<()> {
        let status = self.session.transaction.status();
        Ok(self.socket.send(Send::ReadyForQuery(ReadyForQuery::new(status))).await?)
    }

    /// Tells the client what went wrong with a message.
    async fn refuse(&mut self, refusal: Refusal, is_query: bool) -> Result<()> {
        if refusal.state == state::STOPPING {
            return self.leave(refusal).await;
        }
        self.session.transaction.fail();
        self.session.warnings.clear();
        self.socket.feed(Send::ErrorResponse(refusal.into_info("ERROR").into())).await?;
        if is_query {
            return self.ready().await;
        }
        self.is_skipping = true;
        Ok(self.socket.flush().await?)
    }

    /// Says why, and that this is the end.
    async fn leave(&mut self, refusal: Refusal) -> Result<()> {
        self.socket.send(Send::ErrorResponse(refusal.into_info("FATAL").into())).await?;
        Err(Stop::Gone)
    }
}

fn missing_portal(name: Option<&str>) -> Refusal {
    Refusal::new(state::NO_PORTAL, format!("portal \"{}\" does not exist", name.unwrap_or_default()))
}
