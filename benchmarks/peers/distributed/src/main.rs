//! datafusion-distributed on this machine: this process plans and takes the rows, its children are the workers.

mod coordinator;
mod worker;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    peer_protocol::exit(match peer_protocol::role().as_deref() {
        Some(worker::ROLE) => worker::run(),
        _ => coordinator::run(),
    })
}
