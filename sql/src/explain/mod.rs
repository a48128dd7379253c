//! A stage graph as text and JSON, with what was measured where it has run.

mod path;
mod why;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties};
use serde::Serialize;
use volley_proto::{Edge, InputRead, StageId};

use crate::graph::{Stage, StageGraph};
use crate::leaf::{LeafExec, file_scan};

/// What the tasks of one stage measured, summed over the attempts that counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageMeasures {
    /// Tasks that ended.
    pub tasks: u32,
    /// Attempts that were started.
    pub attempts: u32,
    /// Rows written to the exchange.
    pub rows: u64,
    /// Bytes written to the exchange, as Arrow counts them.
    pub bytes: u64,
    /// Nanoseconds on compute threads.
    pub cpu_ns: u64,
    /// Nanoseconds from launch to end, summed over tasks.
    pub elapsed_ns: u64,
    /// Nanoseconds from the job's submission until the last task ended.
    pub ended_ns: u64,
    /// Rows that a task wrote: least, median, most.
    pub task_rows: [u64; 3],
    /// Nanoseconds from a task's launch to its end: least, median, most.
    pub task_elapsed_ns: [u64; 3],
    /// Nanoseconds for which slots were held and computed nothing, summed over tasks.
    pub waiting_ns: u64,
    /// Bytes that operators spilled to disk.
    pub operators_spilled_bytes: u64,
    /// Bytes of the stage's output that were spilled to disk.
    pub exchange_spilled_bytes: u64,
    /// Bytes read from exchanges within the process.
    pub exchange_local_bytes: u64,
    /// Bytes read from exchanges over Flight.
    pub exchange_flight_bytes: u64,
    /// By operator, in a pre-order walk of the stage's plan, root first. JSON has them beside each operator.
    #[serde(skip)]
    pub operators: BTreeMap<u32, BTreeMap<String, u64>>,
}

/// What was measured of a job as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobMeasures {
    /// Its name.
    pub job: String,
    /// Nanoseconds from its submission until its rows were there.
    pub elapsed_ns: u64,
    /// Nanoseconds of these in planning.
    pub planning_ns: u64,
}

/// An explained job, as JSON has it.
#[derive(Debug, Serialize)]
struct JobJson<'a> {
    #[serde(flatten)]
    measured: Option<&'a JobMeasures>,
    stages: Vec<StageJson<'a>>,
}

/// One stage of an explained job, as JSON has it.
#[derive(Debug, Serialize)]
struct StageJson<'a> {
    stage: String,
    tasks: u32,
    partitions: usize,
    output: String,
    output_partitions: u32,
    /// Who reads its rows, and what for.
    readers: Vec<String>,
    deterministic: bool,
    /// What was changed about its tasks while the job ran, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapted: Option<&'a str>,
    inputs: Vec<InputJson>,
    operators: Vec<OperatorJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<&'a StageMeasures>,
}

#[derive(Debug, Serialize)]
struct InputJson {
    producer: String,
    edge: &'static str,
    read: &'static str,
}

#[derive(Debug, Serialize)]
struct OperatorJson<'a> {
    depth: usize,
    text: String,
    /// By DataFusion's names; nanoseconds where it is a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<&'a BTreeMap<String, u64>>,
}

/// The stages as text, the root first, each with its plan.
pub fn explain(graph: &StageGraph) -> String {
    text(graph, &BTreeMap::new())
}

/// As [`explain`], with what was measured.
pub fn explain_analyze(graph: &StageGraph, measured: &BTreeMap<StageId, StageMeasures>) -> String {
    text(graph, measured)
}

/// As [`explain_analyze`], as one JSON object with an array of stages, the root first.
pub fn explain_json(
    graph: &StageGraph,
    job: Option<&JobMeasures>,
    measured: &BTreeMap<StageId, StageMeasures>,
) -> serde_json::Result<String> {
    let stages = graph.stages.iter().rev().map(|stage| stage_json(graph, stage, measured.get(&stage.shape.id))).collect();
    serde_json::to_string_pretty(&JobJson { measured: job, stages })
}

fn stage_json<'a>(graph: &StageGraph, stage: &'a Stage, measured: Option<&'a StageMeasures>) -> StageJson<'a> {
    let mut operators = vec![];
    walk(&stage.plan, 0, &mut |node, depth| {
        let metrics = measured.and_then(|measured| measured.operators.get(&(operators.len() as u32)));
        operators.push(OperatorJson { depth, text: Line(node).to_string(), metrics });
    });
    let input = |input: &volley_proto::StageInput| InputJson {
        producer: input.producer.to_string(),
        edge: edge_text(input.edge),
        read: read_text(input.read),
    };
    StageJson {
        stage: stage.shape.id.to_string(),
        tasks: stage.shape.tasks,
        partitions: stage.plan.output_partitioning().partition_count(),
        output: stage.output.to_string(),
        output_partitions: stage.shape.output_partitions,
        readers: why::why(graph, stage),
        deterministic: stage.shape.deterministic,
        adapted: stage.adapted.as_deref(),
        inputs: stage.shape.inputs.iter().map(input).collect(),
        operators,
        measured,
    }
}

fn edge_text(edge: Edge) -> &'static str {
    match edge {
        Edge::Sealed => "sealed",
        Edge::Streaming => "streaming",
    }
}

fn read_text(read: InputRead) -> &'static str {
    match read {
        InputRead::Slice => "slice",
        InputRead::All => "all",
    }
}

fn text(graph: &StageGraph, measured: &BTreeMap<StageId, StageMeasures>) -> String {
    let mut out = String::new();
    let slowest = path::slowest(graph, measured);
    // Writing to a String can't fail.
    if slowest.len() > 1 {
        let _ = writeln!(out, "{}", path::text(&slowest, measured));
    }
    for stage in graph.stages.iter().rev() {
        let measures = measured.get(&stage.shape.id);
        let mark = if slowest.len() > 1 && slowest.contains(&stage.shape.id) { " *" } else { "" };
        let _ = writeln!(out, "{}{mark}", Header(stage, stage.shape.id == graph.root()));
        for reason in why::why(graph, stage) {
            let _ = writeln!(out, "  {reason}");
        }
        if let Some(adapted) = &stage.adapted {
            let _ = writeln!(out, "  adapted: {adapted}");
        }
        if let Some(measures) = measures {
            let _ = writeln!(out, "  {}", Measured(measures));
        }
        let mut index = 0;
        walk(&stage.plan, 1, &mut |node, depth| {
            let values = measures.and_then(|measures| measures.operators.get(&index));
            index += 1;
            let _ = writeln!(out, "{:indent$}{}{}", "", Line(node), Values(values), indent = depth * 2);
        });
    }
    out
}

fn walk(node: &Arc<dyn ExecutionPlan>, depth: usize, visit: &mut dyn FnMut(&Arc<dyn ExecutionPlan>, usize)) {
    visit(node, depth);
    for child in node.children() {
        walk(child, depth + 1, visit);
    }
}

struct Header<'a>(&'a Stage, bool);

impl fmt::Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(stage, root) = self;
        let partitions = stage.plan.output_partitioning().partition_count();
        write!(f, "{}{}: tasks={}, partitions={partitions}", stage.shape.id, if *root { " (root)" } else { "" }, stage.shape.tasks)?;
        if !stage.shape.deterministic {
            write!(f, ", indeterminate")?;
        }
        for input in &stage.shape.inputs {
            write!(f, ", {} {} {}", edge_text(input.edge), read_text(input.read), input.producer)?;
        }
        Ok(())
    }
}

struct Measured<'a>(&'a StageMeasures);

impl fmt::Display for Measured<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        let seconds = |ns: u64| ns as f64 / 1e9;
        write!(
            f,
            "[rows={}, bytes={}, cpu={:.3}s, waiting={:.3}s, spilled by operators={}, by exchange={}, read in process={}, \
             over Flight={}, tasks={}, attempts={}]",
            m.rows,
            m.bytes,
            seconds(m.cpu_ns),
            seconds(m.waiting_ns),
            m.operators_spilled_bytes,
            m.exchange_spilled_bytes,
            m.exchange_local_bytes,
            m.exchange_flight_bytes,
            m.tasks,
            m.attempts
        )?;
        if m.tasks > 1 {
            let ([least, median, most], [quickest, usual, slowest]) = (m.task_rows, m.task_elapsed_ns.map(seconds));
            write!(f, "\n  [a task: rows={least}/{median}/{most}, time={quickest:.3}/{usual:.3}/{slowest:.3}s (min/median/max)]")?;
        }
        Ok(())
    }
}

struct Values<'a>(Option<&'a BTreeMap<String, u64>>);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(values) = self.0 else { return Ok(()) };
        write!(f, "  [")?;
        for (place, (name, value)) in values.iter().filter(|(_, value)| **value > 0).enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            // DataFusion's names for times hold nanoseconds.
            if name.contains("time") || name.contains("elapsed") {
                write!(f, "{separator}{name}={:.3}ms", *value as f64 / 1e6)?;
            } else {
                write!(f, "{separator}{name}={value}")?;
            }
        }
        write!(f, "]")
    }
}

/// One operator. Scans name what they read rather than every file range.
struct Line<'a>(&'a Arc<dyn ExecutionPlan>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.0.downcast_ref::<LeafExec>().map_or(self.0, LeafExec::leaf);
        let Some(scan) = file_scan(node) else {
            return fmt_node(node, f);
        };
        let files: std::collections::BTreeSet<_> = scan
            .file_groups
            .iter()
            .flat_map(|group| group.files())
            .map(|file| file.object_meta.location.filename().unwrap_or(""))
            .collect();
        let schema = node.schema();
        let columns: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "Scan {}: files=[", scan.file_source().file_type())?;
        let shown: Vec<_> = files.iter().take(3).copied().collect();
        write!(
            f,
            "{}{}]",
            shown.join(", "),
            if files.len() > shown.len() { format!(", ... {} in all", files.len()) } else { String::new() }
        )?;
        write!(f, ", partitions={}, columns=[{}]", scan.file_groups.len(), columns.join(", "))?;
        match scan.file_source().filter() {
            Some(filter) => write!(f, ", predicate={filter}"),
            None => Ok(()),
        }
    }
}

fn fmt_node(node: &Arc<dyn ExecutionPlan>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    struct Adapter<'a>(&'a Arc<dyn ExecutionPlan>);
    impl fmt::Display for Adapter<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            DisplayAs::fmt_as(self.0.as_ref(), DisplayFormatType::Default, f)
        }
    }
    write!(f, "{}", Adapter(node))
}
