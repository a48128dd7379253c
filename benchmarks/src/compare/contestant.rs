//! One of two engines that are compared.

use std::time::Instant;

use volley_client::EmbeddedOptions;

use super::EnginesRequest;
use super::choice::{EngineChoice, Shape};
use super::peer::{Peer, Reply};
use super::processes::VolleyProcesses;
use crate::baseline::Baseline;
use crate::data::Data;
use crate::engine::{Engine, Place};
use crate::error::Result;
use crate::usage::Processes;

/// An engine that is ready for queries.
pub(crate) enum Contestant {
    /// Plain DataFusion, and its number of threads.
    DataFusion(Baseline, usize),
    /// An embedded cluster.
    Embedded(Box<Engine>),
    /// A cluster of processes.
    Processes(Box<Engine>, VolleyProcesses),
    /// Another engine.
    Peer(Peer),
}

/// One run of a query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    /// Seconds from the statement to the last row.
    pub(crate) wall: f64,
    /// Seconds of CPU, where they are known.
    pub(crate) cpu: Option<f64>,
    /// How many rows came, or why they did not.
    pub(crate) rows: Result<usize, String>,
}

impl Contestant {
    pub(crate) async fn open(choice: &EngineChoice, request: &EnginesRequest, data: &Data) -> Result<Self> {
        let always_cut = || {
            let mut settings = vec![("volley.fit".to_owned(), "never".to_owned())];
            settings.extend(request.settings.iter().cloned());
            settings
        };
        let memory_bytes = request.memory_bytes;
        Ok(match choice {
            EngineChoice::DataFusion => Self::DataFusion(Baseline::open(data, request.threads.get()).await?, request.threads.get()),
            EngineChoice::Volley => {
                let options = EmbeddedOptions { executors: None, slots: Some(request.threads), memory_bytes, ..Default::default() };
                Self::Embedded(Box::new(Engine::open(&Place::Embedded(options), &request.settings, data).await?))
            }
            EngineChoice::Cluster(Shape { executors, slots }) => {
                let options = EmbeddedOptions { executors: Some(*executors), slots: Some(*slots), memory_bytes, ..Default::default() };
                Self::Embedded(Box::new(Engine::open(&Place::Embedded(options), &always_cut(), data).await?))
            }
            EngineChoice::Processes(shape) => {
                let processes = VolleyProcesses::start(*shape, memory_bytes).await?;
                let engine = Engine::open(&Place::At(processes.url()), &always_cut(), data).await?;
                Self::Processes(Box::new(engine), processes)
            }
            EngineChoice::Peer(program) => Self::Peer(tokio::task::block_in_place(|| Peer::start(program, data, request.threads.get()))?),
        })
    }

    /// What it is, in a line.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::DataFusion(_, threads) => format!("{threads} threads"),
            Self::Embedded(engine) | Self::Processes(engine, _) => engine.description().to_owned(),
            Self::Peer(peer) => peer.engine().to_owned(),
        }
    }

    /// Runs a query to its end. An error is one that ends the comparison.
    pub(crate) async fn measure(&mut self, sql: &str) -> Result<Measured> {
        let processes = match self {
            Self::Peer(peer) => {
                let (wall, cpu, reply) = tokio::task::block_in_place(|| peer.measure(sql))?;
                let rows = match reply {
                    Reply::Rows(rows) => Ok(rows),
                    Reply::Error(why) => Err(why),
                };
                return Ok(Measured { wall, cpu, rows });
            }
            Self::DataFusion(..) | Self::Embedded(_) => Processes::This,
            Self::Processes(_, processes) => Processes::Others(processes.ids()),
        };
        let before = processes.usage(&[]);
        let started = Instant::now();
        let answer = match self {
            Self::DataFusion(baseline, _) => baseline.answer(sql).await.map(|answer| (answer, started.elapsed())),
            Self::Embedded(engine) | Self::Processes(engine, _) => {
                engine.run(sql).await.map(|run| (run.answer, run.elapsed)).map_err(Into::into)
            }
            Self::Peer(_) => return Ok(Measured { wall: 0.0, cpu: None, rows: Err("a peer was measured already".into()) }),
        };
        let cpu = processes.usage(&[]).cpu_since(&before);
        Ok(match answer {
            Ok((answer, elapsed)) => Measured { wall: elapsed.as_secs_f64(), cpu, rows: Ok(answer.rows()) },
            Err(error) => Measured { wall: started.elapsed().as_secs_f64(), cpu, rows: Err(error.to_string()) },
        })
    }

    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::DataFusion(..) => Ok(()),
            Self::Embedded(engine) => engine.close().await,
            Self::Processes(engine, processes) => {
                engine.close().await?;
                drop(processes);
                Ok(())
            }
            Self::Peer(peer) => {
                tokio::task::block_in_place(|| drop(peer));
                Ok(())
            }
        }
    }
}
