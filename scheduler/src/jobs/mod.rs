//! What the shell knows of jobs beside the machine: their statement, their encoded plans, where their result lies, what was
//! measured. The machine decides; this is where services look things up and wait for news.

mod adapt;
mod archive;
mod book;
mod inline;
mod job;
mod measure;
mod plan;
mod roots;
mod spread;
mod stored;
mod wait;

pub(crate) use archive::Archive;
pub(crate) use book::JobBook;
pub(crate) use inline::InlineRows;
pub(crate) use job::{Job, NewJob, Phase, failure};
pub(crate) use measure::StageMeasure;
pub(crate) use plan::{PlannedJob, PlannedStage};
pub(crate) use roots::RootOutput;
