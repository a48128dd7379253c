//! Computing on rayon, I/O on tokio.
//!
//! DataFusion's streams run as waker-driven tasks (`async-task`) on a rayon pool of one thread a slot, so that a task which
//! waits for data holds no thread. Only this folder names rayon. How it goes together:
//!
//! ```text
//!  spawn ──> Runnable ──> ReadyQueue <── wake (from a pool thread, from tokio, from itself)
//!                            │ one rayon ticket for each entry; whichever thread takes it runs the *best* entry:
//!                            │ least served job first, then the stage nearest the root, then oldest
//!                            v
//!                     Polled::poll: time slice, coop budget, CPU time, the scope that spawned futures inherit
//! ```
//!
//! * Every future that DataFusion spawns goes through the process-wide [`tracer`](install_tracer), which moves it to the pool
//!   of the spawning thread; what other threads spawn (a plain DataFusion in the same process) is left to tokio.
//! * Inside a pool thread tokio's handle is entered, so that reactors, timers and blocking calls work. A poll runs inside a
//!   `block_on` that never waits, which is what gives it tokio's cooperative budget.
//! * A panic ends its task, never the pool or the process.
//! * Dropping a [`CpuTask`] cancels: the future is dropped on the pool at its next step. Memory and slots are free when the
//!   [`TaskScope`] is idle, not before.
//!
//! Invariants: all partitions of a plan instance are admitted together (a gate below that number deadlocks at barriers
//! between partitions); nothing blocks a pool thread, and no rayon join or parallel iterator runs inside a poll: the thread
//! could take up another task on the same stack; the I/O runtime outlives the pool.

mod io;
mod pool;
mod queue;
mod scope;
mod slice;
mod tracer;

pub use io::IoRuntime;
pub(crate) use pool::panic_message;
pub use pool::{CpuPool, CpuTask};
pub use scope::TaskScope;
pub use tracer::{TracerState, install_tracer, install_tracer_around};
