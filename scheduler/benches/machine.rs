//! How fast the scheduling machine is and what it keeps in memory: 1,000 executors of 16 slots, jobs of up to 1,000,000 tasks.
//!
//! `cargo bench --workspace --bench machine`
//!
//! Prints events a second (each a sealed attempt's report with its partition sizes, which frees a slot and launches
//! the next task, with a heartbeat for every fourth), heap bytes for each task, and how long steps took. Wanted: at least 200,000 events a
//! second, 99 of 100 steps within 1 ms, at most 300 bytes, and for each task of a job of 1,000,000 at most 1.3 of the time of one of 1,000. The simulation prints its seeds a second:
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
const SLOTS: u32 = 16;
const PARTITIONS: u32 = 200;
/// How much longer the steps of a class are than those of the one before.
const CLASS: f64 = 1.125;

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
    let job = |tasks| vec![stage(0, tasks, PARTITIONS, 1), stage(1, tasks / 100, 1, 1), stage(2, 1, 1, 1)];
    // The first run touches memory for the first time.
    run("to warm up", &[job(100_000)]);
    // As many small ones, one after the other, as take a measurable time.
    let small = (0..200).map(|_| run_quietly(&[job(1_000)])).fold((0, Duration::ZERO), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    run("one job of 100,000 tasks", &[job(100_000)]);
    let large = run("one job of 1,000,000 tasks", &[job(1_000_000)]);
    let each = |(tasks, busy): (u32, Duration)| busy.as_secs_f64() * 1e6 / f64::from(tasks);
    println!(
        "time for each task: {:.2} us of 1,000, {:.2} us of 1,000,000, ratio {:.2}",
        each(small),
        each(large),
        each(large) / each(small)
    );
    run("1,000 jobs at a time", &vec![job(1_000); 1_000]);
    run("64 jobs at a time", &vec![vec![stage(0, 2_000, PARTITIONS, 1), stage(1, 100, 1, 1), stage(2, 1, 1, 1)]; 64]);
    run("64 jobs of wide tasks", &vec![vec![stage(0, 2_000, PARTITIONS, SLOTS), stage(1, 100, 1, 3), stage(2, 1, 1, 1)]; 64]);
}

/// Runs jobs to their end: tasks, and time in the machine.
fn run_quietly(jobs: &[Vec<StageShape>]) -> (u32, Duration) {
    let (bench, _) = run_to_end(jobs);
    (tasks_of(jobs), bench.busy)
}

/// Runs jobs to their end and prints what it took; tasks, and time in the machine.
fn run(name: &str, jobs: &[Vec<StageShape>]) -> (u32, Duration) {
    let (bench, peak) = run_to_end(jobs);
    let tasks = tasks_of(jobs);
    println!("{name}: {tasks} tasks");
    println!(
        "    {} events in {:.3} s, {:.0} a second",
        bench.events,
        bench.busy.as_secs_f64(),
        bench.events as f64 / bench.busy.as_secs_f64()
    );
    println!(
        "    {} bytes a task at most; steps: 99 of 100 within {:.3} ms, longest {:.3} ms",
        peak / tasks as isize,
        bench.within(0.99).as_secs_f64() * 1e3,
        bench.longest.as_secs_f64() * 1e3
    );
    (tasks, bench.busy)
}

fn tasks_of(jobs: &[Vec<StageShape>]) -> u32 {
    jobs.iter().flatten().map(|stage| stage.tasks).sum()
}

/// Runs jobs to their end; the most bytes that the machine kept for them.
fn run_to_end(jobs: &[Vec<StageShape>]) -> (Bench, isize) {
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
    (bench, peak)
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
    /// Steps by their time: the first is those below 1 us, each further one those below an eighth more.
    steps: [u64; 256],
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
        Self { machine, launched, outputs, now: 0, events: 0, busy: Duration::ZERO, longest: Duration::ZERO, steps: [0; 256] }
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
        let class = (took.as_secs_f64() * 1e6).max(1.0).ln() / CLASS.ln();
        self.steps[(class as usize).min(255)] += 1;
        self.launched.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Launch(launch) => Some(launch),
            _ => None,
        }));
    }

    /// A time within which this share of all steps was.
    fn within(&self, share: f64) -> Duration {
        let wanted = (share * self.events as f64) as u64;
        let mut seen = 0;
        let class = self
            .steps
            .iter()
            .take_while(|count| {
                seen += **count;
                seen < wanted
            })
            .count();
        Duration::from_secs_f64(CLASS.powi(class as i32 + 1) / 1e6)
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
