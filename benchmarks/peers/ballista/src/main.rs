//! Apache DataFusion Ballista on this machine: this process is the client, its children are the scheduler and the executors.

mod client;
mod cluster;
mod executor;
mod scheduler;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The largest gRPC message on every way. Ballista's own limit of 16 MiB fails queries with larger batches, which would leave gaps
/// where its speed is asked for.
const MESSAGE_BYTES: u32 = 256 * 1024 * 1024;

fn main() -> ExitCode {
    peer_protocol::exit(match peer_protocol::role().as_deref() {
        Some(scheduler::ROLE) => scheduler::run(),
        Some(executor::ROLE) => executor::run(),
        _ => client::run(),
    })
}
