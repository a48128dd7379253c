//! The pool: barriers, panics, cancellation, fairness, and where spawned futures run.

use std::future::poll_fn;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use datafusion::common::runtime::{JoinSet, SpawnedTask};
use futures::FutureExt;
use tokio::sync::{Barrier, mpsc, oneshot};
use tokio::task::coop;
use volley_executor::compute::{CpuPool, IoRuntime, TaskScope, TracerState, install_tracer};
use volley_proto::JobId;

struct Fixture {
    pool: CpuPool,
    /// After the pool: it must outlive it.
    io: IoRuntime,
}

impl Fixture {
    fn new(slots: usize) -> Self {
        assert_eq!(install_tracer(), TracerState::Installed);
        let slots = NonZeroUsize::new(slots).unwrap();
        let io = IoRuntime::new(slots).unwrap();
        Self { pool: CpuPool::new(slots, io.handle()).unwrap(), io }
    }

    fn scope(&self, job: u64, depth: u32) -> Arc<TaskScope> {
        self.pool.scope(JobId(job), NonZeroU32::MIN, depth)
    }

    fn wait<F: Future>(&self, future: F) -> F::Output {
        let io = self.io.handle();
        io.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("a test waits for a minute") })
    }
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

fn spin(duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

#[test]
fn more_partitions_than_threads_meet_at_a_barrier() {
    let fixture = Fixture::new(2);
    let scope = fixture.scope(1, 0);
    let barrier = Arc::new(Barrier::new(64));
    let tasks: Vec<_> = (0..64)
        .map(|index| {
            let barrier = Arc::clone(&barrier);
            fixture.pool.spawn(&scope, async move {
                barrier.wait().await;
                index
            })
        })
        .collect();
    let sum: usize = fixture.wait(futures::future::join_all(tasks)).into_iter().sum();
    assert_eq!(sum, 64 * 63 / 2);
    fixture.wait(scope.idle());
    assert_eq!(scope.live(), 0);
}

#[test]
fn a_step_that_takes_several_units_goes_on_after_long_ones() {
    let fixture = Fixture::new(1);
    let scope = fixture.scope(1, 0);
    let task = fixture.pool.spawn(&scope, async {
        for _ in 0..3 {
            spin(Duration::from_millis(200));
            tokio::task::yield_now().await;
        }
        // As streams inside a stream do: all units, or all given back.
        poll_fn(|context| {
            let mut taken = Vec::new();
            for _ in 0..3 {
                taken.push(std::task::ready!(coop::poll_proceed(context)));
            }
            taken.into_iter().for_each(|unit| unit.made_progress());
            Poll::Ready(())
        })
        .await;
    });
    fixture.wait(task);
}

#[test]
fn what_a_pool_thread_spawns_runs_on_its_pool_and_nothing_else_does() {
    let fixture = Fixture::new(1);
    let scope = fixture.scope(1, 0);
    let inside = fixture.pool.spawn(&scope, async {
        let mut set = JoinSet::new();
        set.spawn(async { SpawnedTask::spawn(async { thread_name() }).await.unwrap() });
        (thread_name(), set.join_next().await.unwrap().unwrap())
    });
    let (outer, inner) = fixture.wait(inside);
    assert!(outer.starts_with("volley-cpu-"), "{outer}");
    assert!(inner.starts_with("volley-cpu-"), "{inner}");
    let elsewhere = fixture.wait(async { SpawnedTask::spawn(async { thread_name() }).await.unwrap() });
    assert!(elsewhere.starts_with("volley-io"), "{elsewhere}");
    fixture.wait(scope.idle());
    assert!(scope.cpu_time() > Duration::ZERO);
}

#[test]
fn a_panic_ends_its_task_with_its_words_and_leaves_the_pool_alive() {
    let fixture = Fixture::new(2);
    let scope = fixture.scope(1, 0);
    let root = fixture.pool.spawn(&scope, async { panic!("row {} is bad", std::hint::black_box(7)) });
    let ended: Result<(), _> = fixture.wait(std::panic::AssertUnwindSafe(root).catch_unwind());
    let panic = ended.unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "row 7 is bad");

    let nested = fixture
        .pool
        .spawn(&scope, async { SpawnedTask::spawn(async { panic!("deeper") }).join().await.map(|(): ()| ()).unwrap_err().to_string() });
    let message = fixture.wait(nested);
    assert!(message.contains("deeper"), "{message}");

    fixture.wait(scope.idle());
    let alive: Vec<_> = (0..8).map(|index| fixture.pool.spawn(&scope, async move { index })).collect();
    assert_eq!(fixture.wait(futures::future::join_all(alive)), (0..8).collect::<Vec<_>>());
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn dropping_the_task_cancels_it_and_what_it_spawned() {
    let fixture = Fixture::new(2);
    let scope = fixture.scope(1, 0);
    let (started, running) = oneshot::channel();
    let freed = Arc::new(AtomicBool::new(false));
    let held = SetOnDrop(Arc::clone(&freed));
    let task = fixture.pool.spawn(&scope, async move {
        let child = SpawnedTask::spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let busy = SpawnedTask::spawn(async {
            loop {
                spin(Duration::from_micros(100));
                tokio::task::yield_now().await;
            }
        });
        started.send(()).unwrap();
        let (): () = busy.join().await.unwrap();
        child.join().await.unwrap();
    });
    fixture.wait(running).unwrap();
    assert!(scope.live() > 1);
    drop(task);
    fixture.wait(scope.idle());
    assert_eq!(scope.live(), 0);
    assert!(freed.load(Ordering::SeqCst), "what the spawned future held is freed once the scope is idle");
}

#[test]
fn a_stream_that_is_always_ready_gives_way() {
    let fixture = Fixture::new(1);
    let scope = fixture.scope(1, 0);
    let polls = Arc::new(AtomicUsize::new(0));
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for index in 0..1000 {
        sender.send(index).unwrap();
    }
    drop(sender);
    let counted = Arc::clone(&polls);
    let mut receive = Box::pin(async move {
        let mut rows = 0;
        while receiver.recv().await.is_some() {
            rows += 1;
        }
        rows
    });
    let task = fixture.pool.spawn(
        &scope,
        poll_fn(move |context| {
            counted.fetch_add(1, Ordering::SeqCst);
            receive.as_mut().poll(context)
        }),
    );
    assert_eq!(fixture.wait(task), 1000);
    assert!(polls.load(Ordering::SeqCst) >= 1000 / 128, "{polls:?} polls");
}

/// Futures that compute until they are dropped, in steps of a millisecond.
fn busy(fixture: &Fixture, scope: &Arc<TaskScope>, count: usize) -> Vec<volley_executor::compute::CpuTask<()>> {
    let step = || async {
        loop {
            spin(Duration::from_millis(1));
            tokio::task::consume_budget().await;
        }
    };
    (0..count).map(|_| fixture.pool.spawn(scope, step())).collect()
}

#[test]
fn a_small_job_beside_a_busy_one_stays_quick() {
    let fixture = Fixture::new(1);
    let busy_scope = fixture.scope(1, 0);
    let tasks = busy(&fixture, &busy_scope, 8);
    let small = fixture.scope(2, 3);
    let before = busy_scope.cpu_time();
    // Ten steps one after another, each a new task: each may have to wait for one slice of the busy job.
    for _ in 0..10 {
        fixture.wait(fixture.pool.spawn(&small, async { spin(Duration::from_micros(100)) }));
    }
    let waited = busy_scope.cpu_time().saturating_sub(before);
    // With eight busy tasks in turn, a fair queue without shares would have let 80 slices pass.
    assert!(waited < Duration::from_millis(400), "the small job waited for {waited:?} of the busy one");
    drop(tasks);
    fixture.wait(busy_scope.idle());
}

#[test]
fn jobs_share_by_weight_and_not_by_number_of_tasks() {
    let fixture = Fixture::new(1);
    let many = fixture.pool.scope(JobId(1), NonZeroU32::new(1).unwrap(), 0);
    let few = fixture.pool.scope(JobId(2), NonZeroU32::new(3).unwrap(), 0);
    let mut tasks = busy(&fixture, &many, 8);
    tasks.extend(busy(&fixture, &few, 1));
    let total = || many.cpu_time() + few.cpu_time();
    while total() < Duration::from_secs(1) {
        thread::yield_now();
    }
    let ratio = few.cpu_time().as_secs_f64() / many.cpu_time().as_secs_f64();
    assert!((2.0..4.5).contains(&ratio), "weight 3 against 1 got {ratio} times the time");
    drop(tasks);
    fixture.wait(many.idle());
    fixture.wait(few.idle());
}

#[test]
fn two_pools_keep_their_own_tasks() {
    let (first, second) = (Fixture::new(1), Fixture::new(1));
    let (a, b) = (first.scope(1, 0), second.scope(1, 0));
    let child = || async { SpawnedTask::spawn(async { thread::current().id() }).join().await.unwrap() };
    let on_first = first.pool.spawn(&a, async move { (thread::current().id(), child().await) });
    let on_second = second.pool.spawn(&b, async move { (thread::current().id(), child().await) });
    let ((outer, inner), (other, other_inner)) = (first.wait(on_first), second.wait(on_second));
    assert_eq!(outer, inner);
    assert_eq!(other, other_inner);
    assert_ne!(outer, other);
}

#[test]
fn a_pool_ends_with_its_last_handle() {
    let fixture = Fixture::new(1);
    let scope = fixture.scope(1, 0);
    let thread = Arc::new(());
    let held = Arc::downgrade(&thread);
    // A value of the thread's own lives as long as the thread.
    thread_local!(static KEPT: std::cell::RefCell<Option<Arc<()>>> = const { std::cell::RefCell::new(None) });
    fixture.wait(fixture.pool.spawn(&scope, async move { KEPT.set(Some(thread)) }));
    fixture.wait(scope.idle());
    let Fixture { pool, io } = fixture;
    drop(pool);
    let end = Instant::now() + Duration::from_secs(60);
    while held.upgrade().is_some() {
        assert!(Instant::now() < end, "the compute thread outlives its pool");
        thread::yield_now();
    }
    drop(io);
}

#[test]
fn a_waiting_task_does_not_poll() {
    let fixture = Fixture::new(1);
    let scope = fixture.scope(1, 0);
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let (wake, mut woken) = oneshot::channel::<()>();
    let task = fixture.pool.spawn(
        &scope,
        poll_fn(move |context| {
            counted.fetch_add(1, Ordering::SeqCst);
            match woken.poll_unpin(context) {
                Poll::Ready(result) => {
                    assert_eq!(result, Ok(()));
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            }
        }),
    );
    fixture.wait(fixture.pool.spawn(&scope, async {}));
    wake.send(()).unwrap();
    fixture.wait(task);
    assert!(polls.load(Ordering::SeqCst) <= 2);
}
