//! The messages of Substrait 0.85, under the names that the crate `substrait` 0.63 gives them.
//!
//! DataFusion reads Substrait plans with that crate. Its build calls protoc, which this project does without, and makes types of YAML files
//! that no plan needs. So the workspace puts this package in its place (`[patch.crates-io]`), with what DataFusion uses of it and no more.
//!
//! `substrait.binpb` is the protocol's definitions as protoc compiles them. For another version, in the folder that has them:
//!
//! ```text
//! protoc --include_imports -I proto -o substrait.binpb proto/substrait/*.proto proto/substrait/extensions/*.proto
//! ```

/// The messages of the protobuf package `substrait`.
#[allow(clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
pub mod proto {
    /// The messages of the protobuf package `substrait.extensions`.
    pub mod extensions {
        include!(concat!(env!("OUT_DIR"), "/substrait.extensions.rs"));
    }

    include!(concat!(env!("OUT_DIR"), "/substrait.rs"));
}

/// The version of the protocol.
pub mod version {
    use crate::proto::Version;

    /// The version, as a plan of `producer` states it.
    pub fn version_with_producer(producer: impl Into<String>) -> Version {
        Version { major_number: 0, minor_number: 85, patch_number: 0, producer: producer.into(), ..Default::default() }
    }
}
