//! DataFusion as an engine of the peers' protocol.
//!
//! The distributed engines are reached through a `SessionContext`, too, so they share what is here.

use datafusion::common::Result as DataFusionResult;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use peer_protocol::{Engine, PeerError, Result, Table};

/// A session with the tables of a suite.
pub struct Session {
    context: SessionContext,
}

impl Session {
    /// Makes the tables known to a session.
    pub async fn open(context: SessionContext, tables: &[Table]) -> Result<Self> {
        for table in tables {
            let registered = context.register_parquet(table.name.as_str(), table.location(), ParquetReadOptions::default()).await;
            registered.map_err(PeerError::at(table.location()))?;
        }
        Ok(Self { context })
    }

    async fn rows(&self, sql: &str) -> DataFusionResult<usize> {
        let batches = self.context.sql(sql).await?.collect().await?;
        Ok(batches.iter().map(|batch| batch.num_rows()).sum())
    }
}

impl Engine for Session {
    async fn run(&self, sql: &str) -> Result<usize, String> {
        self.rows(sql).await.map_err(|error| error.strip_backtrace())
    }
}
