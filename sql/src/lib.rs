//! Session, catalog, planner, stage graph and plan codec: everything that understands a plan, and nothing that opens a socket.
//!
//! ```text
//! SQL text --statement--> LogicalPlan --planner--> StageGraph --codec--> StagePlan bytes + TaskBindings bytes
//!                                                                             | (another process)
//!                     ExchangeWriteExec <--codec::bind-- plan instance <------+
//!                       reads and writes through exchange::TaskIo
//! ```

mod build;
mod build_keys;
mod byte_size;
pub mod catalog;
pub mod codec;
pub mod deadline;
pub mod delta;
pub mod diagnostics;
mod duration;
pub mod exchange;
pub mod explain;
pub mod extension;
mod fail_point;
mod functions;
pub mod graph;
pub mod leaf;
mod merge;
mod neighbours;
pub mod options;
pub mod planner;
mod query_planner;
mod runtime_filter;
pub mod session;
mod single_value;
pub mod statement;
pub mod stores;
mod visit;
pub mod write;

pub use build::build_id;
pub use byte_size::{ParseBytesError, parse_bytes};
pub use duration::parse_duration;
pub use fail_point::fail_point;
