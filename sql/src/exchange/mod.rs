//! The exchange operators, and the two traits through which they reach the world.
//!
//! [`ExchangeReadExec`] is a leaf of a stage's plan, [`ExchangeWriteExec`] its root. Neither knows where rows come from
//! or go to: at `execute` they find a [`TaskIo`] among the extensions of the task's session config. The executor
//! implements it over its partition store and Flight, tests in memory.

mod io;
mod memory;
mod ranges;
mod read;
mod routing;
mod scatter;
mod wave;
mod write;

pub use crate::build_keys::BuildKeys;
pub use io::{ExchangeSink, ExchangeSource, Share, TaskIo};
pub use memory::{run_and_count, run_in_memory};
pub use read::{ExchangeReadExec, Part};
pub use routing::Exchange;
pub use wave::Wave;
pub use write::ExchangeWriteExec;
