//! The `volley-bench` program. See [`volley_benchmarks::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    volley_benchmarks::cli::main()
}
