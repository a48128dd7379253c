//! The shuffle of an executor: where outputs of tasks are kept, and how the inputs of tasks are read.
//!
//! ```text
//!  task --AttemptSink--> PartitionStore --cursor--> AttemptSource --> task of this process   (chunks by Arc)
//!                         |   |   \---cursor--> Flight DoExchange --> AttemptSource of another executor (frames, by credit)
//!            write behind v   |    \--cursor--> Flight DoGet ------> scheduler or a foreign reader (result, in order)
//!                   spill file <-- reads back what memory no longer holds
//! ```
//!
//! Invariants:
//! * An output belongs to one attempt, named by its key and by the path of its spill file; once sealed it never changes.
//! * A producer never waits for a consumer. Above the budget it pays for the disk itself, chunk by chunk.
//! * A chunk leaves memory only when it is on disk, so giving memory back needs no I/O.
//! * A reader sees the chunks of one producer and one partition in the order in which they were written, then an end
//!   that says how many rows there were. A stream that stops short of that number is an error, never a result.
//! * What can't be read is a `Failure` whose remedy names the producer; nothing waits without a limit.
//! * After `forget` or drop nothing is left on disk.

mod encoding;
mod entry;
mod flight;
mod hooks;
mod sink;
mod source;
pub mod spill;
mod store;

pub use encoding::{IpcMessage, WireSchema, hydrate_batch, hydrate_schema};
pub use entry::{Exchange, ExchangeConfig};
pub use flight::ExchangeFlightService;
pub use hooks::{ComputeSpawner, ExchangeHooks, ResultReaders, StoreMemory, TokioSpawner, UncountedMemory};
pub use sink::AttemptSink;
pub use source::{AttemptSource, ReadCounters};
pub use store::StoreUsage;
