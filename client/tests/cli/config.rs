//! Settings: the file, variables and flags, in this order of weakness.

use std::fs;
use std::path::Path;

use super::program::{Ended, command, volley};

/// The program with a home of its own.
fn at_home(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    command(arguments).env("HOME", home).envs(variables.iter().copied()).output().unwrap().into()
}

fn home_with(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join(".config/volley")).unwrap();
    fs::write(home.path().join(".config/volley/config.toml"), config).unwrap();
    home
}

#[test]
fn flags_go_before_variables_and_these_before_the_file() {
    let home = home_with("format = 'tsv'\n[settings]\nvolley.fit = 'never'\n");
    let sql = ["sql", "-c", "SELECT 1 AS a, 2 AS b"];
    assert_eq!(at_home(home.path(), &[], &sql).out, "a\tb\n1\t2\n");
    assert_eq!(at_home(home.path(), &[("VOLLEY_FORMAT", "csv")], &sql).out, "a,b\n1,2\n");
    let flag = [&sql[..], &["--format", "ndjson"]].concat();
    assert_eq!(at_home(home.path(), &[("VOLLEY_FORMAT", "csv")], &flag).out, "{\"a\":1,\"b\":2}\n");
    let show = ["sql", "-c", "SHOW volley.fit", "--format", "ndjson"];
    assert!(at_home(home.path(), &[], &show).out.contains("never"));
    let set = [&show[..], &["--set", "volley.fit=auto"]].concat();
    assert!(at_home(home.path(), &[], &set).out.contains("auto"));
}

#[test]
fn the_origin_of_each_setting_is_told() {
    let home = home_with("rows = 7\npager_command = 'most'\n[settings]\nvolley.fit = 'never'\n");
    let arguments = ["config", "--format", "csv", "--timing", "--set", "volley.queue=a"];
    let told = at_home(home.path(), &[("VOLLEY_COLOR", "never"), ("VOLLEY_HISTORY", "/tmp/h")], &arguments);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    let file = format!("\"{}/.config/volley/config.toml, line", home.path().display());
    for line in [
        "cluster,(embedded),built in".to_owned(),
        "format,csv,--format".into(),
        "timing,true,--timing".into(),
        format!("rows,7,{file} 1\""),
        format!("pager_command,most,{file} 2\""),
        "color,never,VOLLEY_COLOR".into(),
        "history_file,/tmp/h,VOLLEY_HISTORY".into(),
        format!("settings.volley.fit,never,{file} 3\""),
        "settings.volley.queue,a,--set".into(),
    ] {
        assert!(told.out.lines().any(|told| told == line), "{line}: {}", told.out);
    }
}

#[test]
fn what_is_wrong_in_the_file_is_told_with_its_line() {
    let home = home_with("format = 'csv'\ntimeing = true\n");
    for arguments in [&["sql", "-c", "SELECT 1"][..], &["jobs"], &["config"]] {
        let ended = at_home(home.path(), &[], arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
        let place = home.path().join(".config/volley/config.toml");
        let expected = format!("error: {}, line 2: unknown key 'timeing'; did you mean 'timing'?\n", place.display());
        assert_eq!(ended.err, expected);
    }
    let ended = at_home(home.path(), &[("VOLLEY_CONFIG", "/no/such/file.toml")], &["config"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("/no/such/file.toml: there is no such file, but VOLLEY_CONFIG names it"), "{}", ended.err);
    let ended = at_home(home.path(), &[("VOLLEY_FORMAT", "cvs")], &["config"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("invalid value 'cvs'") && ended.err.contains(" csv,"), "{}", ended.err);
}

#[test]
fn the_cluster_of_the_file_is_that_of_every_command() {
    let home = home_with("cluster = 'http://127.0.0.1:1'\n");
    for arguments in [&["sql", "-c", "SELECT 1"][..], &["jobs"], &["job", "j1"], &["cancel", "j1"], &["executors"]] {
        let ended = at_home(home.path(), &[], arguments);
        assert_eq!(ended.code, Some(3), "{arguments:?}");
        assert!(ended.err.contains("can't reach the scheduler at http://127.0.0.1:1"), "{}", ended.err);
    }
    let embedded = at_home(home.path(), &[], &["sql", "--embedded", "--format", "csv", "-c", "SELECT 1 AS one"]);
    assert_eq!((embedded.code, embedded.out.as_str()), (Some(0), "one\n1\n"));
}

#[test]
fn an_option_of_the_session_that_is_not_there_ends_the_run() {
    let ended = volley(&["sql", "--set", "volley.fitt=never", "-c", "SELECT 1"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(ended.err.contains("error: unknown setting 'volley.fitt'; "), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 2, "the cluster ends in order: {}", ended.err);
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = volley(&["completions", shell]);
        assert_eq!((script.code, script.err.as_str()), (Some(0), ""), "{shell}");
        for word in ["executors", "completions", "keep-going", "markdown"] {
            assert!(script.out.contains(word), "{shell} {word}");
        }
    }
}
