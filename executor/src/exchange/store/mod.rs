//! The partition store: outputs of this executor's attempts, in memory first, on disk when memory is short.
//!
//! ```text
//! PartitionStore ── AttemptId ──> Output ── partition ──> chunk, chunk, chunk, end
//!       |                            \── one SpillFile, made when the first chunk is written
//!     Ledger  counts what is in memory and knows which chunks are on disk as well (clean)
//! ```
//!
//! A chunk is *dirty* (in memory only), *clean* (in memory and on disk) or *spilled* (on disk only). Writing behind makes
//! dirty chunks clean; reclaiming makes clean chunks spilled. A chunk for which there is no memory when it is written is
//! spilled at once, by the thread that writes it.
//!
//! Locks, from the outside in: partition writer, then partition, then chunk; the map of outputs and the ledger's queue
//! are leaves of their own. None but the partition writer's is held while memory is asked for or a file is touched.

mod chunk;
mod cursor;
mod ledger;
mod output;
mod outputs;
mod partition;
mod registry;
mod write_behind;

pub use ledger::StoreUsage;

pub(super) use chunk::{Chunk, Content};
pub(super) use cursor::{ChunkChecksum, CursorStep, PartitionCursor, PartitionEnd};
pub(super) use output::{INLINE_BYTES, Output};
pub(super) use outputs::{PartitionStore, StoreConfig};
pub(super) use registry::find;
