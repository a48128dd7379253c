//! The planner and the plan codec, proved without a cluster: stage graphs are run in memory, each task decoded into an
//! instance of its own, and must answer what plain DataFusion answers.

mod data;
mod execution;
mod trees;
