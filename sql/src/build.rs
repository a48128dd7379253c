//! Which build this is: plans and hash functions of different builds don't fit together, so a scheduler takes only executors of its own.

use datafusion::DATAFUSION_VERSION;

/// Volley's version, the engine's, and a fingerprint of the planner's sources and of all dependencies' versions.
pub fn build_id() -> String {
    format!("{}+datafusion-{DATAFUSION_VERSION}.{}", env!("CARGO_PKG_VERSION"), env!("VOLLEY_FINGERPRINT"))
}
