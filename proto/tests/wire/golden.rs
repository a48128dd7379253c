//! The bytes of every message are kept in `tests/golden`, so that a change of the wire is seen where it is made.
//! `UPDATE_GOLDEN=1` writes them anew: right for a message never released, else add a field instead.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use volley_proto::wire::flight::SetSessionOptionsRequest;

use crate::sample::{self, Sample};
use crate::wire_values::session_options;

fn crate_path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn golden_path(name: &str) -> PathBuf {
    crate_path("tests/golden").join(format!("{name}.hex"))
}

/// Sixteen bytes a line.
fn to_hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(|bytes| line(bytes) + "\n").collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

/// The golden files, written anew first where that is asked for: tests run side by side.
fn golden_bytes(name: &str) -> Option<String> {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            sample::all().iter().for_each(write_golden);
        }
    });
    fs::read_to_string(golden_path(name)).ok()
}

fn write_golden(sample: &Sample) {
    let path = golden_path(&sample.name);
    fs::create_dir_all(path.parent().expect("a golden file is in a folder")).expect("the folder can be made");
    fs::write(&path, to_hex(&sample.bytes)).expect("the golden file can be written");
}

#[test]
fn every_message_has_its_golden_bytes() {
    let differs = |sample: &Sample| golden_bytes(&sample.name) != Some(to_hex(&sample.bytes));
    let wrong: Vec<String> = sample::all().into_iter().filter(differs).map(|sample| sample.name).collect();
    assert!(wrong.is_empty(), "bytes differ from tests/golden (UPDATE_GOLDEN=1 writes them anew) for {wrong:?}");
}

#[test]
fn every_golden_file_is_read_as_the_value_that_was_written() {
    for sample in sample::all() {
        let golden = from_hex(&golden_bytes(&sample.name).expect("the golden file exists"));
        assert_eq!((sample.read)(&golden), (sample.read)(&sample.bytes), "{}", sample.name);
    }
}

fn golden_files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(crate_path("tests/golden")).expect("the golden files exist") {
        let folder = folder.expect("the folder can be listed").path();
        for file in fs::read_dir(&folder).expect("a folder of golden files") {
            let file = file.expect("the folder can be listed").path();
            let name = file.strip_prefix(crate_path("tests/golden")).expect("inside").with_extension("");
            found.insert(name.to_str().expect("text").replace('\\', "/"));
        }
    }
    found
}

#[test]
fn no_golden_file_is_left_over() {
    let written: BTreeSet<String> = sample::all().into_iter().map(|sample| sample.name).collect();
    assert_eq!(golden_files().difference(&written).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// A message counts as covered when it has a sample of its own, or is part of one that has.
#[test]
fn every_message_that_starts_a_conversation_has_a_golden_file() {
    let names: BTreeSet<String> = golden_files().into_iter().map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect();
    for file in ["types", "control", "shuffle", "client", "journal", "flight", "flight_sql"] {
        let text = fs::read_to_string(crate_path(&format!("proto/{file}.proto"))).expect("the file exists");
        let messages = text.lines().filter_map(|line| line.strip_prefix("message ")?.split_whitespace().next());
        for message in messages {
            let alone = names.contains(&format!("{file}/{message}"));
            let within = text.lines().filter(|line| line.starts_with("  ") && mentions(line, message)).count() > 0
                || used_in_other_files(file, message);
            assert!(alone || within, "{file}.proto: message {message} has no golden file and is part of no message");
        }
    }
}

fn mentions(line: &str, message: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == message)
}

fn used_in_other_files(file: &str, message: &str) -> bool {
    let full = format!("volley.{file}.v1.{message} ");
    ["control", "shuffle", "client", "journal"]
        .iter()
        .any(|other| fs::read_to_string(crate_path(&format!("proto/{other}.proto"))).is_ok_and(|text| text.contains(&full)))
}

/// Written by hand from the protocol's field numbers and types, not from our .proto.
#[test]
fn session_options_have_arrow_flights_layout() {
    use prost::Message;
    let entry = |name: &str, value: &[u8]| {
        let mut entry = vec![0x0a, name.len() as u8];
        entry.extend(name.as_bytes());
        entry.extend([0x12, value.len() as u8]);
        entry.extend(value);
        [vec![0x0a, entry.len() as u8], entry].concat()
    };
    let expected = [
        entry("bool", &[0x10, 1]),
        entry("catalog", b"\x0a\x04tpch"),
        entry("double", &[&[0x21][..], &0.5f64.to_le_bytes()].concat()),
        entry("int", &[&[0x19][..], &(-2i64).to_le_bytes()].concat()),
        entry("list", b"\x2a\x06\x0a\x01a\x0a\x01b"),
        // An unset value is an empty message, which prost leaves out of the entry.
        [&[0x0a, 7, 0x0a, 5][..], b"unset"].concat(),
    ]
    .concat();
    assert_eq!(SetSessionOptionsRequest { session_options: session_options() }.encode_to_vec(), expected);
}
