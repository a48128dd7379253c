//! Bad input to the program: one message that names it, the right exit code, and nothing left.

use std::fs;
use std::net::TcpListener;

use super::program::{command, volley};

#[test]
fn a_port_in_use_is_named_with_its_flag_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (state, work) = (folder.path().join("state"), folder.path().join("a/b/work"));
    let (state, work) = (state.to_str().unwrap(), work.to_str().unwrap());
    for (arguments, flag) in [
        (["scheduler", "--listen", &address, "--http", "127.0.0.1:0", "--state-dir", state], "--listen"),
        (["scheduler", "--http", &address, "--listen", "127.0.0.1:0", "--state-dir", state], "--http"),
        (["executor", "--listen", &address, "--work-dir", work, "--memory", "64MiB"], "--listen"),
    ] {
        let ended = volley(&arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(&address) && ended.err.contains(flag), "{}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn a_statement_of_ten_megabytes_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.sql");
    fs::write(&file, format!("SELECT 1 AS one;\n\nSELECT '{}'", "x".repeat(10 << 20))).unwrap();
    let ended = volley(&["sql", "-f", file.to_str().unwrap(), "-c", "SELECT 2", "--format", "csv"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "one\n1\n"));
    let expected = "error: the statement has 10485769 bytes, but the scheduler takes at most 4194304: load such data from files instead";
    assert!(ended.err.contains(expected), "{}", ended.err);
    assert!(ended.err.contains(&format!("(the statement at line 3 of {})", file.display())), "{}", ended.err);
}

#[test]
fn a_place_is_that_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.sql");
    fs::write(&file, "SELECT 1 AS one;\n-- a comment\nSELECT 2 AS two; SELECT nme FROM tpch.sf0_01.nation;\n").unwrap();
    let ended = volley(&["sql", "-f", file.to_str().unwrap(), "--format", "csv"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "one\n1\ntwo\n2\n"));
    let place = format!("(line 3, column 25 of {})\n  |\n3 | SELECT nme FROM tpch.sf0_01.nation\n  |        ^^^", file.display());
    assert!(ended.err.contains(&place), "{}", ended.err);
    let ended = volley(&["sql", "-c", "SELECT 1; SELECT 1 +", "--format", "csv"]);
    assert!(ended.err.contains("syntax error: expected an expression, found EOF (line 1, column 21)"), "{}", ended.err);
}

#[test]
fn too_little_memory_is_wrong_usage() {
    for arguments in [["sql", "--memory", "1", "-c", "SELECT 1"], ["executor", "--memory", "1", "--slots", "1"]] {
        let ended = volley(&arguments);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains("--memory") && ended.err.contains("at least 16MiB"), "{}", ended.err);
    }
}

#[test]
fn a_work_directory_that_can_not_be_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let place = file.path().join("work");
    let ended: super::program::Ended = command(&["executor", "--work-dir", place.to_str().unwrap()]).output().unwrap().into();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("--work-dir") && ended.err.contains(place.to_str().unwrap()), "{}", ended.err);
}
