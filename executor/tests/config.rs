//! Settings: what is accepted, and what each wrong one is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use volley_executor::{Args, Config, ConfigError};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn validate(work_dir: &Path, flags: &[&str]) -> Result<Config, ConfigError> {
    let work_dir = work_dir.to_str().unwrap();
    let defaults = ["executor", "--work-dir", work_dir];
    Cli::try_parse_from(defaults.iter().chain(flags)).unwrap().args.validate()
}

#[test]
fn the_flags_of_the_contract_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--scheduler", "http://127.0.0.1:50050", "--listen", "127.0.0.1:50061", "--slots", "3", "--memory", "4GiB"];
    let config = validate(dir.path(), &flags).unwrap();
    assert_eq!(config.schedulers, ["http://127.0.0.1:50050"]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:50061");
    assert_eq!((config.slots.get(), config.memory_bytes, config.id, config.advertise), (3, 4 << 30, None, None));
}

#[test]
fn several_schedulers_and_names_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--scheduler", "a:1,http://b:2/", "--scheduler", "c:3", "--listen", "localhost:0", "--advertise", "host-7:50061"];
    let config = validate(&dir.path().join("made"), &flags).unwrap();
    assert_eq!(config.schedulers, ["http://a:1", "http://b:2", "http://c:3"]);
    assert_eq!((config.listen.port(), config.advertise.as_deref()), (0, Some("host-7:50061")));
    assert!(config.memory_bytes > 0 && config.slots.get() > 0);
}

#[test]
fn each_wrong_setting_is_named_with_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let table: &[(&[&str], &str, &str)] = &[
        (&["--slots", "0"], "--slots '0'", "from 1 to 4096"),
        (&["--slots", "two"], "--slots 'two'", "from 1 to 4096"),
        (&["--slots", "-1"], "--slots '-1'", "from 1 to 4096"),
        (&["--memory", "plenty"], "--memory 'plenty'", "4GiB"),
        (&["--memory", "1KiB"], "--memory '1KiB'", "at least 16MiB"),
        (&["--listen", "nowhere"], "--listen 'nowhere'", "HOST:PORT"),
        (&["--listen", "127.0.0.1:99999"], "--listen '127.0.0.1:99999'", "HOST:PORT"),
        (&["--listen", "0.0.0.0:50061"], "--listen '0.0.0.0:50061'", "--advertise"),
        (&["--advertise", "host"], "--advertise 'host'", "HOST:PORT"),
        (&["--advertise", "host:0"], "--advertise 'host:0'", "HOST:PORT"),
        (&["--scheduler", "ftp://host:1"], "--scheduler 'ftp://host:1'", "http://127.0.0.1:50050"),
        (&["--scheduler", "http://host"], "--scheduler 'http://host'", "no port"),
        (&["--id", "a b"], "--id 'a b'", "letters"),
    ];
    for (flags, named, right) in table {
        let error = validate(dir.path(), &[&flags.join("=")]).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains(right), "{error}");
    }
}

#[test]
fn a_work_directory_that_can_not_be_used_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = validate(&file.join("below"), &[]).unwrap_err().to_string();
    assert!(error.contains("--work-dir") && error.contains("file/below"), "{error}");

    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere: then there is nothing to refuse.
    if fs::write(closed.join("probe"), b"").is_err() {
        let error = validate(&closed, &[]).unwrap_err().to_string();
        assert!(error.contains("closed") && error.contains("can't be written to"), "{error}");
    }
}
