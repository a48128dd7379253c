//! What the program says about itself. `INSTA_UPDATE=always` writes the snapshots anew.

use super::program::volley;

#[test]
fn every_command_teaches_by_example() {
    for command in ["help", "sql", "scheduler", "executor", "jobs", "job", "cancel", "executors", "health", "config", "completions"] {
        let help = if command == "help" { volley(&["--help"]) } else { volley(&[command, "--help"]) };
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{command}");
        insta::assert_snapshot!(command, help.out);
    }
}

#[test]
fn wrong_usage_is_told_from_failure() {
    for (arguments, message) in [
        (vec!["sql", "--format", "xml"], "invalid value 'xml' for '--format <FORMAT>'"),
        (vec!["sql", "--executors", "0"], "0 is not in 1..=64"),
        (vec!["sql", "--slots", "many"], "invalid value 'many'"),
        (vec!["sql", "--cluster", "http://h:1", "--executors", "2"], "cannot be used with"),
        (vec!["job", "7"], "'7' is not a job id such as j7"),
        (vec!["queries"], "unrecognized subcommand 'queries'"),
        (vec!["sql", "-f", "/no/such/file.sql"], "can't read /no/such/file.sql"),
        (vec!["sql", "--memory", "lots", "-c", "SELECT 1"], "expected a size such as 4GiB"),
        (vec!["scheduler", "--listen", "nowhere"], "invalid value 'nowhere' for '--listen <HOST:PORT>'"),
        (vec!["executor", "--slots", "none"], "expected a whole number from 1 to 4096"),
    ] {
        let ended = volley(&arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(message), "{arguments:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{arguments:?}");
    }
}

#[test]
fn a_wrong_log_setting_is_named() {
    let ended: super::program::Ended = super::program::command(&["jobs"]).env("VOLLEY_LOG", "a=b=c").output().unwrap().into();
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.starts_with("error: VOLLEY_LOG is 'a=b=c': "), "{}", ended.err);
}

#[test]
fn no_connection_has_a_code_of_its_own() {
    for arguments in [
        vec!["sql", "--cluster", "http://127.0.0.1:1", "-c", "SELECT 1"],
        vec!["jobs", "--cluster", "127.0.0.1:1"],
        vec!["cancel", "j7", "--cluster", "127.0.0.1:1"],
    ] {
        let ended = volley(&arguments);
        assert_eq!(ended.code, Some(3), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains("can't reach the scheduler at "), "{}", ended.err);
    }
}
