//! The engines that answer.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use sqllogictest::AsyncDB;
use volley_client::{EmbeddedCluster, EmbeddedOptions, FlightClient};

use super::Answer;
use super::format::{self, Type};
use crate::processes::Processes;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// DataFusion itself.
    Plain,
    /// A cluster in this process, as it starts by default.
    Embedded,
    /// A cluster in this process, whose plans are cut into many small partitions.
    Cut,
    /// Such a cluster of processes.
    Processes,
}

/// An engine that runs.
pub(super) enum Engine {
    Plain(SessionContext),
    Embedded { cluster: Box<EmbeddedCluster>, cut: bool },
    Processes { processes: Arc<Processes>, schema: String },
}

impl Engine {
    /// Starts an engine for one file. Processes are shared, and the file gets a schema of its own.
    pub(super) async fn start(kind: Kind, file: &str) -> Self {
        match kind {
            Kind::Plain => {
                let config = SessionConfig::new().with_target_partitions(2).with_information_schema(true);
                Self::Plain(SessionContext::new_with_config(config))
            }
            Kind::Embedded => {
                Self::Embedded { cluster: Box::new(EmbeddedCluster::start(&EmbeddedOptions::default()).await.unwrap()), cut: false }
            }
            Kind::Cut => {
                let (executors, slots) = (NonZeroUsize::new(2), NonZeroUsize::new(2));
                let options = EmbeddedOptions { executors, slots, memory_bytes: Some(256 << 20), ..Default::default() };
                Self::Embedded { cluster: Box::new(EmbeddedCluster::start(&options).await.unwrap()), cut: true }
            }
            Kind::Processes => Self::Processes { processes: Processes::shared().await, schema: format!("slt_{file}") },
        }
    }

    /// Its label in the files.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Plain(_) => "plain",
            _ => "volley",
        }
    }

    /// A session.
    pub(super) async fn connect(&self) -> Result<Session, Error> {
        match self {
            Self::Plain(context) => Ok(Session::Plain(context.clone())),
            Self::Embedded { cluster, cut } => {
                let session = Session::Cluster(FlightClient::connect(cluster.url()).await.map_err(Error::of)?);
                if *cut {
                    session.cut(1).await?;
                }
                Ok(session)
            }
            Self::Processes { processes, schema } => {
                let session = Session::Cluster(FlightClient::connect(processes.url()).await.map_err(Error::of)?);
                session.cut(200).await?;
                session.rows(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
                session.rows(&format!("USE {schema}")).await?;
                Ok(session)
            }
        }
    }

    /// Ends what was started for the file.
    pub(super) async fn shutdown(self) {
        if let Self::Embedded { cluster, .. } = self {
            cluster.shutdown().await.unwrap();
        }
    }
}

/// One connection.
pub(super) enum Session {
    Plain(SessionContext),
    Cluster(FlightClient),
}

impl Session {
    /// Plans are always cut, into partitions of no more than so many bytes where that can be; smaller ones are read together.
    async fn cut(&self, partition_bytes: u64) -> Result<(), Error> {
        for statement in
            ["SET volley.adapt = true", "SET volley.fit = 'never'", &format!("SET volley.min_bytes_per_partition = {partition_bytes}")]
        {
            self.rows(statement).await?;
        }
        Ok(())
    }

    async fn rows(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
        match self {
            Self::Plain(context) => {
                let frame = context.sql(sql).await.map_err(Error::of)?;
                let planned = Arc::clone(frame.schema().inner());
                let rows = frame.collect().await.map_err(Error::of)?;
                // Before it is analyzed, a plan does not always know its types.
                Ok((rows.first().map_or(planned, RecordBatch::schema), rows))
            }
            Self::Cluster(client) => {
                let execution = client.execute(sql).await.map_err(Error::of)?;
                let schema = Arc::clone(&execution.schema);
                let rows = client.fetch(&execution).await.map_err(Error::of)?;
                Ok((schema, rows.try_collect().await.map_err(Error::of)?))
            }
        }
    }
}

/// An engine's error, as its text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(String);

impl Error {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

#[async_trait]
impl AsyncDB for Session {
    type Error = Error;
    type ColumnType = Type;

    async fn run(&mut self, sql: &str) -> Result<Answer, Error> {
        let (schema, batches) = self.rows(sql).await?;
        // How many rows a write gives is its own affair.
        if schema.fields().is_empty() {
            return Ok(Answer::StatementComplete(0));
        }
        format::answer(&schema, &batches).map_err(Error::of)
    }

    async fn shutdown(&mut self) {}

    async fn sleep(time: std::time::Duration) {
        tokio::time::sleep(time).await;
    }
}
