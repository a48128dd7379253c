//! Volley as a benchmark sees it: a cluster, embedded or elsewhere, with the tables of a suite.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use volley_client::{ClientError, EmbeddedCluster, EmbeddedOptions, FlightClient, JobSummary};

use crate::baseline::location;
use crate::data::Data;
use crate::error::Result;
use crate::usage::{Processes, Usage};
use crate::verify::Answer;

/// Executors send a heartbeat each second.
const HEARTBEAT: Duration = Duration::from_millis(1200);

/// Which cluster runs the queries.
#[derive(Debug, Clone)]
pub enum Place {
    /// One in this process.
    Embedded(EmbeddedOptions),
    /// One elsewhere.
    At(String),
}

/// A session on a cluster that has the suite's tables.
#[derive(Debug)]
pub struct Engine {
    client: FlightClient,
    embedded: Option<EmbeddedCluster>,
    description: String,
}

/// What a run of a query gave.
#[derive(Debug)]
pub struct Run {
    /// From the statement to the last row.
    pub elapsed: Duration,
    /// The rows.
    pub answer: Answer,
    /// What the scheduler says about the job.
    pub job: Option<JobSummary>,
}

impl Engine {
    /// Starts or connects to a cluster, applies settings and creates the tables, replacing those of the same names.
    pub async fn open(place: &Place, settings: &[(String, String)], data: &Data) -> Result<Self> {
        let engine = match place {
            Place::Embedded(options) => {
                let cluster = EmbeddedCluster::start(options).await?;
                let description = format!("embedded cluster: {cluster}");
                Self { client: FlightClient::connect(cluster.url()).await?, embedded: Some(cluster), description }
            }
            Place::At(url) => Self { client: FlightClient::connect(url).await?, embedded: None, description: format!("cluster at {url}") },
        };
        // Types are compared with DataFusion's own.
        engine.run_statement("SET volley.result_views = true").await?;
        for (name, value) in settings {
            engine.run_statement(&format!("SET {name} = '{}'", value.replace('\'', "''"))).await?;
        }
        for (name, path) in &data.tables {
            let location = location(path).replace('\'', "''");
            engine.run_statement(&format!("DROP TABLE IF EXISTS {name}")).await?;
            engine.run_statement(&format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{location}'")).await?;
        }
        Ok(engine)
    }

    /// What it is, in a line.
    pub fn description(&self) -> &str {
        &self.description
    }

    async fn run_statement(&self, sql: &str) -> Result<()> {
        let execution = self.client.execute(sql).await?;
        self.client.fetch(&execution).await?.try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Runs a query to its end.
    pub async fn run(&self, sql: &str) -> Result<Run, ClientError> {
        let started = Instant::now();
        let execution = self.client.execute(sql).await?;
        let batches: Vec<_> = self.client.fetch(&execution).await?.try_collect().await?;
        let elapsed = started.elapsed();
        // A statement that needed no job has no report.
        let job = match execution.job() {
            Some(job) => self.client.job(job).await.ok().map(JobSummary::from),
            None => None,
        };
        Ok(Run { elapsed, answer: Answer { schema: execution.schema, batches }, job })
    }

    /// What the processes that count have used by now. Executors elsewhere say so with their heartbeats: the next one is waited for.
    pub async fn usage(&self, processes: &Processes) -> Usage {
        if *processes != Processes::Executors {
            return processes.usage(&[]);
        }
        tokio::time::sleep(HEARTBEAT).await;
        // Without an answer nothing is known, which is what no executor means.
        processes.usage(&self.client.executors().await.unwrap_or_default())
    }

    /// Ends the session, and the cluster if it is embedded.
    pub async fn close(self) -> Result<()> {
        match self.embedded {
            Some(cluster) => {
                drop(self.client);
                Ok(cluster.shutdown().await?)
            }
            None => Ok(self.client.close().await?),
        }
    }
}
