//! The spill file as bytes: readable without the process that wrote it, and checked.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use volley_executor::exchange::spill::{SpillError, SpillFile, SpillReader};
use volley_proto::Remedy;

use super::support::{Node, numbers, producer, values};

async fn spilled() -> Node {
    let node = Node::start_with(0, |_| {}).await;
    let batches: Vec<_> = (0..6).map(|i| ((i % 2) as u32, numbers(i * 9000, 9000))).collect();
    node.produce(producer(13), 2, numbers(0, 0).schema(), &batches);
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_says_what_it_is_and_what_is_in_it() {
    let node = spilled().await;
    let path = SpillFile::path_of(node.dir.path(), producer(13));
    assert_eq!(path, node.dir.path().join("j7/s2/t13-a0.spill"));
    assert_eq!(node.files(), std::slice::from_ref(&path));
    let reader = SpillReader::open(&path).unwrap();
    assert_eq!(reader.attempt(), producer(13));
    assert_eq!(reader.schema(), &numbers(0, 0).schema());
    let ids: Vec<_> = reader.places().iter().map(|place| place.id.to_string()).collect();
    assert_eq!(ids, ["p0#0", "p1#0", "p0#1", "p1#1", "p0#2", "p1#2"]);
    let batches: Vec<_> = reader.places().iter().map(|place| reader.read(*place).unwrap()).collect();
    assert_eq!(values(&batches), (0..54_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_is_an_error_that_names_file_chunk_and_checksum() {
    let node = spilled().await;
    let path = node.files().remove(0);
    let reader = SpillReader::open(&path).unwrap();
    let place = reader.places()[3];
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place.offset + place.length / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], place.offset + place.length / 2).unwrap();

    let error = reader.read(place).unwrap_err();
    let SpillError::CorruptChunk { path: named, chunk, expected, found } = &error else { panic!("{error}") };
    assert_eq!((named, chunk.to_string().as_str()), (&path, "p1#1"));
    assert_ne!(expected, found);
    let text = format!("chunk p1#1 of spill file '{}' is corrupt: its checksum is {found:08x} instead of {expected:08x}", path.display());
    assert_eq!(error.to_string(), text);

    let failure = node.read(vec![node.location(producer(13))], &[1], numbers(0, 0).schema()).await.unwrap_err();
    assert_eq!(failure.remedy, Remedy::Rerun { producer: producer(13), executor: node.executor.clone() });
    assert_eq!(failure.message, text);
    assert!(node.read(vec![node.location(producer(13))], &[0], numbers(0, 0).schema()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_spill_file_is_refused() {
    let node = spilled().await;
    let path = node.files().remove(0);
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        let file = node.dir.path().join("copy");
        fs::write(&file, bytes).unwrap();
        let error = SpillReader::open(&file).unwrap_err();
        assert!(matches!(error, SpillError::Malformed { .. }), "{error}");
        error.to_string()
    };
    assert!(refused(b"").contains("it has 0 bytes"));
    assert!(refused(&whole[..whole.len() - 1]).contains("it has no index at its end"));
    assert!(refused(&[b"PAR1".as_slice(), &whole[4..]].concat()).contains("it starts with foreign bytes"));
    let mut damaged = whole.clone();
    damaged[40] ^= 1;
    assert!(refused(&damaged).contains("a checksum is"));
    let last = whole.len() - 20;
    damaged = whole.clone();
    damaged[last] ^= 1;
    assert!(refused(&damaged).contains("a checksum is"));
}

/// Sixteen bytes a line.
fn hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(16).map(line).collect()
}

/// Compares bytes with those that are kept; `UPDATE_GOLDEN=1` writes them anew.
fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, hex(bytes)).unwrap();
    }
    assert_eq!(
        hex(bytes),
        fs::read_to_string(&path).unwrap_or_default(),
        "{name} differs from tests/golden (UPDATE_GOLDEN=1 writes it anew)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_its_bytes() {
    let node = Node::start_with(0, |_| {}).await;
    node.produce(producer(13), 2, numbers(0, 0).schema(), &[(0, numbers(0, 3)), (1, numbers(3, 2))]);
    golden("spill_file", &fs::read(node.files().remove(0)).unwrap());
}
