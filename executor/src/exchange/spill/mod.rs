//! The spill file of one attempt: append-only, indexed, checked chunk by chunk.
//!
//! ```text
//! file   := MAGIC  preamble  record*  (footer record*)*  [footer]
//! preamble := length:u32 crc:u32 { attempt_length:u32 attempt  schema_message }
//! record := "CHNK" length:u64 crc:u32 { partition:u32 sequence:u32 rows:u64 messages:u32
//!                                        { header_length:u32 body_length:u64 }*  { header body }* }
//! footer := "INDX" length:u64 crc:u32 { { partition:u32 sequence:u32 rows:u64 offset:u64 length:u64 }* }
//!           footer_offset:u64 END
//! ```
//!
//! Numbers are little-endian; a crc covers what stands in the braces after it; an offset is that of a record's tag.
//! Messages are Arrow IPC, bodies compressed with LZ4. The index is kept in memory while the store lives; a footer is
//! written when the output is sealed and again after later chunks, and the last one holds, so that a file read
//! with nothing else at hand says what it is and what is in it.
//!
//! Invariants: a record is never changed once appended; what a failed append leaves behind is overwritten by the next one;
//! the file goes when its output goes.

mod error;
mod file;
mod format;

pub use error::SpillError;
pub use file::{SpillFile, SpillReader};
pub use format::{ChunkId, ChunkPlace};
