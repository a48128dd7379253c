//! How fast the scheduling machine is and what it keeps in memory: 1,000 executors, a job of 100,000 tasks.
//!
//! `cargo bench --profile ci --workspace --bench machine`
//!
//! Prints events a second (each a sealed attempt's report with its partition sizes, which frees a slot and launches
//! the next task, with a heartbeat for every fourth) and heap bytes for each task. Wanted: at least 200,000 events a
//! second and at most 300 bytes. The simulation prints its seeds a second:
//! `cargo test --profile ci --workspace --test scheduler simulation -- --nocapture`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use volley_proto::{
    Edge, ExecutorId, Incarnation, InputRead, JobId, JobOwner, PartitionStats, SessionId, StageId, StageInput, StageShape, TaskMetrics,
    TaskOutcome, TaskReport,
};
use volley_scheduler::state::{Cluster, Effect, Event, ExecutorHello, ExecutorLife, Launch, Replanning, Settings, Timestamp};

const EXECUTORS: usize = 1_000;
const SLOTS: u32 = 8;
const TASKS: u32 = 100_000;
const CONSUMERS: u32 = 1_000;
const PARTITIONS: u32 = 200;

/// Counts bytes that are allocated and not freed.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

#[expect(unsafe_code, reason = "a global allocator can't be written without; it passes everything on to the system's")]
// SAFETY: every call is passed on unchanged to `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    println!("{EXECUTORS} executors of {SLOTS} slots, {PARTITIONS} partitions");
    run("one job", &[vec![stage(0, TASKS, PARTITIONS, 1), stage(1, CONSUMERS, 1, 1), stage(2, 1, 1, 1)]]);
    run("64 jobs at a time", &vec![vec![stage(0, 2_000, PARTITIONS, 1), stage(1, 100, 1, 1), stage(2, 1, 1, 1)]; 64]);
    run("64 jobs of wide tasks", &vec![vec![stage(0, 2_000, PARTITIONS, SLOTS), stage(1, 100, 1, 3), stage(2, 1, 1, 1)]; 64]);
}

/// Runs jobs to their end and prints what it took.
fn run(name: &str, jobs: &[Vec<StageShape>]) {
    let mut bench = Bench::new();
    let before = ALLOCATED.load(Ordering::Relaxed);
    for (stages, id) in jobs.iter().zip(1..) {
        bench.submit(JobId(id), stages.clone());
    }
    let mut peak = 0;
    for sealed in 0.. {
        let Some(launch) = bench.launched.pop_front() else { break };
        bench.seal(&launch);
        if sealed % 100 == 0 {
            peak = peak.max(ALLOCATED.load(Ordering::Relaxed) - before - bench.own_bytes());
        }
    }
    let tasks: u32 = jobs.iter().flatten().map(|stage| stage.tasks).sum();
    println!("{name}: {tasks} tasks");
    println!(
        "    {} events in {:.3} s, {:.0} a second",
        bench.events,
        bench.busy.as_secs_f64(),
        bench.events as f64 / bench.busy.as_secs_f64()
    );
    println!("    {} bytes a task at most, longest step {:.3} ms", peak / tasks as isize, bench.longest.as_secs_f64() * 1e3);
}

/// The machine and what it has launched.
struct Bench {
    machine: Cluster,
    launched: VecDeque<Launch>,
    outputs: Vec<PartitionStats>,
    now: u64,
    events: u64,
    busy: Duration,
    longest: Duration,
}

impl Bench {
    fn new() -> Self {
        let mut machine = Cluster::new(Settings::default());
        for index in 0..EXECUTORS {
            let life = life(index);
            let hello = ExecutorHello {
                life,
                stream: index as u64,
                slots: SLOTS,
                memory_bytes: 1 << 34,
                address: Arc::from(format!("10.0.{}.{}:50061", index / 256, index % 256)),
                build: Arc::from("bench"),
                running: Vec::new(),
                held: Vec::new(),
            };
            drop(machine.step(Timestamp(0), Event::ExecutorJoined(hello)));
        }
        let outputs = vec![PartitionStats { rows: 1_000, bytes: 64_000 }; PARTITIONS as usize];
        let launched = VecDeque::with_capacity(2 * EXECUTORS * SLOTS as usize);
        Self { machine, launched, outputs, now: 0, events: 0, busy: Duration::ZERO, longest: Duration::ZERO }
    }

    fn submit(&mut self, job: JobId, stages: Vec<StageShape>) {
        self.step(Event::JobSubmitted { job, owner: JobOwner::anonymous(SessionId::new("bench")) });
        self.step(Event::JobPlanned { job, stages, replanning: Replanning::Off });
    }

    fn seal(&mut self, launch: &Launch) {
        let executor = launch.executor.id.clone();
        let outputs = self.outputs.clone();
        let outcome = TaskOutcome::Sealed { outputs, metrics: Box::new(TaskMetrics::default()), inline: None };
        let report = TaskReport { attempt: launch.attempt, executor, incarnation: launch.executor.incarnation, outcome };
        self.step(Event::TaskReported(report));
        if self.events.is_multiple_of(5) {
            self.step(Event::Heartbeat { executor: launch.executor.clone() });
        }
    }

    fn step(&mut self, event: Event) {
        self.now += 5;
        self.events += 1;
        let start = Instant::now();
        let effects = self.machine.step(Timestamp(self.now), event);
        let took = start.elapsed();
        self.busy += took;
        self.longest = self.longest.max(took);
        self.launched.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Launch(launch) => Some(launch),
            _ => None,
        }));
    }

    /// Bytes that the bench itself holds for launches; the lists of inputs that they share belong to the machine.
    fn own_bytes(&self) -> isize {
        self.launched.iter().map(|launch| launch.inputs.capacity() * size_of::<volley_proto::InputLocations>()).sum::<usize>() as isize
    }
}

fn life(index: usize) -> ExecutorLife {
    ExecutorLife::new(ExecutorId::new(format!("executor-{index}")), Incarnation(1))
}

fn stage(id: u32, tasks: u32, output_partitions: u32, slots_per_task: u32) -> StageShape {
    let input = |producer| StageInput { producer: StageId(producer), edge: Edge::Sealed, read: InputRead::Slice };
    let inputs = id.checked_sub(1).map(input).into_iter().collect();
    StageShape { id: StageId(id), inputs, tasks, slots_per_task, output_partitions, deterministic: true }
}
