//! Generates the messages from the compiled form of their definitions.

use std::error::Error;
use std::fs;

use prost::Message;
use prost_types::FileDescriptorSet;

const DEFINITIONS: &str = "substrait.binpb";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={DEFINITIONS}");
    let definitions = FileDescriptorSet::decode(fs::read(DEFINITIONS)?.as_slice())?;
    prost_build::Config::new().compile_well_known_types().extern_path(".google.protobuf", "::pbjson_types").compile_fds(definitions)?;
    Ok(())
}
