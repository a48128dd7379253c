//! The topology of a job as the scheduling machine sees it: shapes, never plans.

use crate::ids::StageId;

/// When a consumer may read a producer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edge {
    /// After all of the producer's tasks have sealed their outputs.
    Sealed,
    /// While the producer runs: a consumer attempt is bound to the producer attempts it started with.
    Streaming,
}

/// Which partitions of an input a consumer task reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputRead {
    /// Those of its own slice; all slices together read each partition once.
    Slice,
    /// All of them (a broadcast).
    All,
}

/// One input of a stage: an exchange and how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StageInput {
    /// The stage whose output is read.
    pub producer: StageId,
    /// When it may be read.
    pub edge: Edge,
    /// How much of it each task reads.
    pub read: InputRead,
}

/// What the scheduling machine knows of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageShape {
    /// The stage; ids are dense from 0 and producers come before their consumers. The last stage is the root.
    pub id: StageId,
    /// Its inputs, in the order in which the plan's exchange readers number them.
    pub inputs: Vec<StageInput>,
    /// How many tasks it has.
    pub tasks: u32,
    /// Slots that one task can use: its number of partitions, at least 1. It gets at most what an executor has.
    pub slots_per_task: u32,
    /// Partitions that its output exchange has.
    pub output_partitions: u32,
    /// Whether a second attempt of a task writes the same rows to the same output partitions as the first.
    pub deterministic: bool,
}
