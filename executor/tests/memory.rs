//! The memory budget: greedy, reclaiming before it refuses, and clear about who has it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use volley_executor::memory::{AttemptPool, MemoryBudget, Reclaim, RuntimeOptions, runtime_env};
use volley_proto::{AttemptId, JobId, StageId, TaskId};

const MIB: usize = 1 << 20;

/// Holds bytes of a budget and gives them back when asked.
#[derive(Debug)]
struct Store {
    budget: Arc<MemoryBudget>,
    on_disk: AtomicUsize,
    asked: AtomicUsize,
}

impl Reclaim for Store {
    fn reclaim(&self, bytes: usize) -> usize {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let given =
            self.on_disk.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| Some(held.saturating_sub(bytes))).unwrap().min(bytes);
        self.budget.give_back(given);
        given
    }
}

fn store(budget: &Arc<MemoryBudget>, bytes: usize) -> Arc<Store> {
    budget.take(bytes);
    let store = Arc::new(Store { budget: Arc::clone(budget), on_disk: AtomicUsize::new(bytes), asked: AtomicUsize::new(0) });
    let reclaim: Arc<dyn Reclaim> = Arc::clone(&store) as _;
    budget.set_reclaim(Arc::downgrade(&reclaim));
    store
}

fn attempt(job: u64, index: u32) -> AttemptId {
    TaskId::new(JobId(job), StageId(1), index).attempt(0)
}

fn reserve(pool: &Arc<AttemptPool>, name: &str) -> MemoryReservation {
    let pool: Arc<dyn MemoryPool> = Arc::clone(pool) as _;
    MemoryConsumer::new(name).register(&pool)
}

fn refusal(result: Result<(), DataFusionError>) -> String {
    match result.unwrap_err() {
        DataFusionError::ResourcesExhausted(message) => message,
        other => panic!("expected a refusal, got {other}"),
    }
}

#[test]
fn one_operator_may_have_all_of_it_and_gives_it_all_back() {
    let budget = MemoryBudget::new(100 * MIB);
    let pool = budget.attempt_pool(attempt(1, 0), None);
    assert!(matches!(pool.memory_limit(), MemoryLimit::Finite(limit) if limit == 100 * MIB));
    let reservation = reserve(&pool, "HashJoinInput");
    reservation.try_grow(100 * MIB).unwrap();
    assert_eq!((budget.used(), pool.reserved()), (100 * MIB, 100 * MIB));
    drop(reservation);
    assert_eq!((budget.used(), pool.reserved(), budget.peak(), pool.peak()), (0, 0, 100 * MIB, 100 * MIB));
}

#[test]
fn the_store_gives_back_before_an_operator_is_refused() {
    let budget = MemoryBudget::new(100 * MIB);
    let store = store(&budget, 60 * MIB);
    let pool = budget.attempt_pool(attempt(1, 0), None);
    let reservation = reserve(&pool, "ExternalSorter");
    reservation.try_grow(40 * MIB).unwrap();
    assert_eq!(store.asked.load(Ordering::SeqCst), 0, "nothing is reclaimed while there is room");

    reservation.try_grow(30 * MIB).unwrap();
    assert_eq!(store.on_disk.load(Ordering::SeqCst), 30 * MIB, "just what was missing is reclaimed");
    assert_eq!(budget.used(), 100 * MIB);

    refusal(reservation.try_grow(31 * MIB));
    assert_eq!(reservation.size(), 70 * MIB, "a refused operator keeps what it has");
}

#[test]
fn a_store_that_is_gone_is_not_asked() {
    let budget = MemoryBudget::new(MIB);
    let gone: Weak<dyn Reclaim> = Arc::downgrade(&(store(&budget, 0) as Arc<dyn Reclaim>));
    budget.set_reclaim(gone);
    let pool = budget.attempt_pool(attempt(1, 0), None);
    refusal(reserve(&pool, "x").try_grow(2 * MIB));
}

#[test]
fn a_refusal_names_who_asks_and_who_has_it() {
    let budget = MemoryBudget::new(100 * MIB);
    budget.take(10 * MIB);
    let (first, second) = (budget.attempt_pool(attempt(1, 0), None), budget.attempt_pool(attempt(2, 3), None));
    let (join, sort) = (reserve(&first, "HashJoinInput"), reserve(&second, "ExternalSorter[0]"));
    join.try_grow(64 * MIB).unwrap();
    sort.try_grow(16 * MIB).unwrap();
    let message = refusal(sort.try_grow(32 * MIB));
    assert_eq!(
        message,
        "ExternalSorter[0] of j2/s1/t3/a0 asks for 32.0 MiB on top of 16.0 MiB, which is over the executor's memory of 100.0 MiB; \
         in use: HashJoinInput of j1/s1/t0/a0 64.0 MiB, ExternalSorter[0] of j2/s1/t3/a0 16.0 MiB, exchange outputs 10.0 MiB"
    );
}

#[test]
fn a_job_with_a_cap_is_held_to_it_over_all_its_attempts() {
    let budget = MemoryBudget::new(100 * MIB);
    let (first, second) = (budget.attempt_pool(attempt(1, 0), Some(50 * MIB)), budget.attempt_pool(attempt(1, 1), Some(50 * MIB)));
    let other = budget.attempt_pool(attempt(2, 0), None);
    let (a, b) = (reserve(&first, "a"), reserve(&second, "b"));
    a.try_grow(30 * MIB).unwrap();
    let message = refusal(b.try_grow(30 * MIB));
    assert!(message.contains("job's cap of 50.0 MiB"), "{message}");
    reserve(&other, "c").try_grow(70 * MIB).unwrap();
    drop(a);
    b.try_grow(50 * MIB).unwrap();
}

#[test]
fn concurrent_growth_never_exceeds_the_budget() {
    let budget = MemoryBudget::new(64 * MIB);
    let store = store(&budget, 32 * MIB);
    std::thread::scope(|scope| {
        for index in 0..8 {
            let pool = budget.attempt_pool(attempt(1, index), None);
            let budget = &budget;
            scope.spawn(move || {
                let reservation = reserve(&pool, "x");
                for step in 0..2000 {
                    if reservation.try_grow(MIB).is_err() || step % 7 == 6 {
                        reservation.free();
                    }
                    assert!(budget.used() <= 64 * MIB);
                }
            });
        }
    });
    assert_eq!(budget.used(), store.on_disk.load(Ordering::SeqCst));
}

#[test]
fn who_holds_nothing_yet_finds_something_to_begin_with() {
    let budget = MemoryBudget::new(96 * MIB);
    let pool = budget.attempt_pool(attempt(1, 0), None);
    let spiller = |name: &str| {
        let pool: Arc<dyn MemoryPool> = Arc::clone(&pool) as _;
        MemoryConsumer::new(name).with_can_spill(true).register(&pool)
    };
    let (first, second, third) = (spiller("ExternalSorter[0]"), spiller("ExternalSorter[1]"), spiller("ExternalSorter[2]"));
    while first.try_grow(MIB).is_ok() && second.try_grow(MIB).is_ok() {}
    assert_eq!(budget.used(), 84 * MIB, "two that hold much leave an eighth");
    third.try_grow(10 * MIB).expect("the third has something that it can spill later");
    refusal(third.try_grow(3 * MIB));

    // What can't spill may use all of it.
    let build = reserve(&pool, "HashJoinInput");
    build.try_grow(2 * MIB).unwrap();
    drop((first, second, third));
    let alone = spiller("ExternalSorter[3]");
    alone.try_grow(40 * MIB).unwrap();
    assert_eq!(budget.used(), 42 * MIB);
}

#[test]
fn attempts_share_the_executors_caches_and_nothing_of_its_pool() {
    let budget = MemoryBudget::new(100 * MIB);
    let dir = tempfile::tempdir().unwrap();
    let options = RuntimeOptions { spill_dir: dir.path().to_owned(), spill_limit: 1 << 30, memory: 100 * MIB };
    let shared = runtime_env(&options).unwrap();
    let [first, second] = [0, 1].map(|index| budget.attempt_pool(attempt(1, index), None).environment(&shared));
    for environment in [&first, &second] {
        assert!(Arc::ptr_eq(&environment.cache_manager, &shared.cache_manager), "each footer is read once");
        assert!(Arc::ptr_eq(&environment.object_store_registry, &shared.object_store_registry));
        assert!(Arc::ptr_eq(&environment.disk_manager, &shared.disk_manager));
    }
    assert!(!Arc::ptr_eq(&first.memory_pool, &second.memory_pool), "memory is counted for each attempt");
}
