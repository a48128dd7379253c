//! A seeded simulation of a cluster in virtual time.
//!
//! The machine sits in a world of executors, links, planner and clients in which messages are late, lost or doubled,
//! links are half open, executors die and return in another life, stand still, drain, lose parts of their disks. After
//! each step every invariant is checked; each job must end, and with exactly the right rows.
//!
//! `VOLLEY_SIM_SEEDS=100000` lives through so many worlds (default: 4,000), `VOLLEY_SIM_SEED=17` through that one, and
//! prints all that happens in it.

mod client;
mod executors;
mod graphs;
mod rng;
mod rows;
mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use sim::Sim;

const DEFAULT_SEEDS: u64 = 4_000;

#[test]
fn every_job_ends_with_the_right_rows_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("VOLLEY_SIM_SEED") {
        Sim::new(seed, true).run();
        return;
    }
    let seeds = number("VOLLEY_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS);
    let next = AtomicU64::new(0);
    let events = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let start = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| Sim::new(seed, false).run())) {
                        Ok(count) => events.fetch_add(count, Ordering::Relaxed),
                        Err(_) => failed.fetch_min(seed, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    let failed = failed.load(Ordering::Relaxed);
    assert!(
        failed == u64::MAX,
        "seed {failed} failed; replay it: VOLLEY_SIM_SEED={failed} cargo test -p volley-scheduler --test main simulation -- --nocapture"
    );
    let seconds = start.elapsed().as_secs_f64();
    let events = events.load(Ordering::Relaxed);
    println!("{seeds} seeds, {events} events, {:.0} seeds/s", seeds as f64 / seconds);
}
