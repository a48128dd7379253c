//! The state store: both implementations obey one suite, and the one on disk survives crashes and reports damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use volley_proto::{JobId, Term};
use volley_scheduler::store::{FileStore, JobIds, MemoryStore, StateStore, StoreError, Sync, conformance};

#[test]
fn the_store_in_memory_conforms() {
    conformance::all(MemoryStore::new);
}

#[test]
fn the_store_on_disk_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    conformance::all(|| {
        count += 1;
        FileStore::open(&folder.path().join(count.to_string())).unwrap()
    });
}

#[test]
fn a_restart_finds_everything_and_grows_the_term() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.term(), Term(1));
    let version = store.compare_and_swap("tables/t", None, Some(b"ddl")).unwrap();
    store.append(b"one", Sync::Now).unwrap();
    drop(store);

    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.term(), Term(2));
    assert_eq!(store.get("tables/t").unwrap().unwrap().version, version);
    assert_eq!(store.append(b"two", Sync::Now).unwrap(), 1);
    assert_eq!(store.load(0).unwrap(), [(0, "one".into()), (1, "two".into())]);
    assert!(store.compare_and_swap("tables/t", Some(version), Some(b"new")).unwrap() > version);
}

#[test]
fn two_schedulers_never_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let first = FileStore::open(folder.path()).unwrap();
    let error = FileStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(first);
    FileStore::open(folder.path()).unwrap();
}

/// A directory whose journal has three records, and the path of its one segment.
fn journal_of_three(folder: &Path) -> PathBuf {
    let store = FileStore::open(folder).unwrap();
    for record in ["first", "second", "third"] {
        store.append(record.as_bytes(), Sync::Now).unwrap();
    }
    folder.join("journal").join(format!("{:020}.log", 0))
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let segment = journal_of_three(folder.path());
    let whole = fs::read(&segment).unwrap();
    let end_of_second = whole.len() - (12 + "third".len());
    for length in end_of_second..whole.len() {
        for zeros in [0, 7, 4096] {
            let mut torn = whole[..length].to_vec();
            torn.extend(std::iter::repeat_n(0, zeros));
            fs::write(&segment, &torn).unwrap();
            let store = FileStore::open(folder.path()).unwrap();
            assert_eq!(store.append(b"after", Sync::Now).unwrap(), 2, "torn at {length}, {zeros} zeros behind it");
            assert_eq!(store.load(0).unwrap(), [(0, "first".into()), (1, "second".into()), (2, "after".into())]);
        }
    }
}

#[test]
fn damage_in_the_middle_of_the_journal_is_reported_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let segment = journal_of_three(folder.path());
    let whole = fs::read(&segment).unwrap();
    let second = 5 + 12 + "first".len();
    for at in second..second + 12 + "second".len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&segment, &damaged).unwrap();
        match FileStore::open(folder.path()).unwrap_err() {
            StoreError::Corrupt { path, offset, .. } => assert_eq!((path, offset), (segment.clone(), second as u64), "damaged at {at}"),
            other => panic!("damaged at {at}: {other}"),
        }
    }
}

#[test]
fn a_damaged_key_and_a_foreign_format_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.compare_and_swap("t", None, Some(b"value")).unwrap();
    let path = folder.path().join("keys").join("t.key");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(store.get("t").unwrap_err(), StoreError::Corrupt { .. }));
    let mut newer = whole;
    newer[4] = 9;
    fs::write(&path, &newer).unwrap();
    assert!(matches!(store.get("t").unwrap_err(), StoreError::Format { found: 9, expected: 1, .. }));
}

#[test]
fn a_half_written_key_is_not_seen_and_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    drop(FileStore::open(folder.path()).unwrap());
    let staged = folder.path().join("keys").join("t.staged");
    fs::write(&staged, b"VKEY").unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.list("").unwrap(), []);
    assert!(!staged.exists());
}

#[test]
fn a_long_journal_spans_segments_and_is_trimmed_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    let record = vec![7; 1 << 20];
    for _ in 0..40 {
        store.append(&record, Sync::Later).unwrap();
    }
    store.flush().unwrap();
    let segments = || fs::read_dir(folder.path().join("journal")).unwrap().count();
    assert_eq!(segments(), 3);
    store.trim(35).unwrap();
    assert_eq!(segments(), 1);
    drop(store);
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.load(0).unwrap().last().unwrap().0, 39);
    assert_eq!(store.append(b"next", Sync::Now).unwrap(), 40);
}

#[test]
fn a_job_id_is_never_used_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = JobId(0);
    for _ in 0..3 {
        let ids = JobIds::open(Arc::new(FileStore::open(folder.path()).unwrap())).unwrap();
        for _ in 0..1500 {
            let id = ids.next().unwrap();
            assert!(id > last);
            last = id;
        }
    }
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

#[test]
fn the_files_of_the_state_have_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.compare_and_swap("tables/a b", None, Some(b"CREATE EXTERNAL TABLE")).unwrap();
    store.append(b"one", Sync::Later).unwrap();
    store.append(b"", Sync::Now).unwrap();
    drop(store);
    let mut files: Vec<PathBuf> = ["keys", "journal"]
        .iter()
        .flat_map(|part| fs::read_dir(folder.path().join(part)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["00000000000000000000.log", "tables%2fa%20b.key", "volley-term.key"]);
    for (path, name) in files.iter().zip(["journal_segment", "key_table", "key_term"]) {
        golden(name, &fs::read(path).unwrap());
    }
}
