//! What a join has for keys on its build side, told to scans of other stages.
//!
//! Within a stage the engine's joins fill dynamic filters, and the scans below their probe side read them. Where an exchange lies between,
//! nobody would: the join runs when the scan is over. So the stage that makes the build side writes one row more for each of its tasks, behind the
//! partitions of its exchange: between which values its keys lie, and a Bloom filter of them ([`Summary`]). The stage with the scan reads these
//! rows first, as it reads any exchange, and fills the scan's dynamic filter with them ([`BuildKeysExec`]): files, row groups and
//! rows that can have no match are never read, or go no further.
//!
//! Since the rows are an input like others, nothing else has to know of them: a lost one is made again, and a stage with such a scan starts when
//! the build side is complete. The planner does this where the build side costs little beside the scan (`planner/build_keys.rs`).

mod bloom;
mod collect;
mod exec;
mod expr;
mod summary;

pub use collect::BuildKeys;
pub(crate) use collect::{Collecting, Collector};
pub(crate) use exec::{BuildKeysExec, Told};
pub(crate) use summary::can_tell;

use datafusion::common::hash_utils::RandomState;

/// Bits of a Bloom filter for each key, where there is room.
pub(crate) const BITS_PER_KEY: u64 = 16;

/// The hashes of keys in Bloom filters: both sides must agree, and they must be others than those by which rows are routed, which have
/// equal remainders within a partition.
fn random_state() -> RandomState {
    RandomState::with_seed(0x6b65_7973)
}
