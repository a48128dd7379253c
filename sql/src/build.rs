//! Which build this is: plans and hash functions of different builds don't fit together, so a scheduler takes only executors of its own.

use datafusion::DATAFUSION_VERSION;

/// Volley's version, the engine's, and a fingerprint of the planner's sources and of all dependencies' versions.
pub fn build_id() -> String {
    format!("{}+datafusion-{DATAFUSION_VERSION}.{}", env!("CARGO_PKG_VERSION"), env!("VOLLEY_FINGERPRINT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_names_the_engine_and_what_encodes_plans() {
        let id = build_id();
        let (version, rest) = id.split_once("+datafusion-").unwrap();
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        let fingerprint = rest.strip_prefix(DATAFUSION_VERSION).and_then(|rest| rest.strip_prefix('.')).unwrap();
        assert!(fingerprint.len() == 12 && fingerprint.chars().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    }
}
