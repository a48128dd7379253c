//! Generates the wire messages from `proto/*.proto`, with a compiler written in Rust: no protoc is needed.

use std::error::Error;
use std::path::Path;

const FILES: [&str; 8] =
    ["types.proto", "control.proto", "shuffle.proto", "client.proto", "journal.proto", "flight.proto", "flight_sql.proto", "etcd.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, [Path::new("proto")])?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        // Channels come from the one factory that knows TLS and identity.
        .build_transport(false)
        // Its Debug is written by hand, because it carries the cluster's ticket key.
        .skip_debug(["volley.control.v1.Welcome", "etcdserverpb.AuthenticateRequest"])
        .compile_fds(descriptors)?;
    Ok(())
}
