//! What no compiler checks: the scheduling machine stays pure.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// All source files of the machine.
fn sources() -> io::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state");
    let mut paths = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    assert!(paths.len() > 10, "the machine is in {}", folder.display());
    Ok(paths)
}

/// Lines of code with their places; comments are left out.
fn code(path: &Path) -> io::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    Ok(lines.map(|(number, line)| (format!("{}:{}", path.display(), number + 1), line.to_owned())).collect())
}

#[test]
fn the_machine_uses_std_and_proto_alone() {
    for path in sources().unwrap() {
        for (place, line) in code(&path).unwrap() {
            let line = line.trim_start();
            let import = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("use ");
            let allowed = ["std::", "super::", "volley_proto::"];
            let modules = ["effect::", "event::", "settings::", "status::", "cluster::", "task::"];
            let is_module =
                path.ends_with("mod.rs") && import.is_some_and(|import| modules.iter().any(|module| import.starts_with(module)));
            let fine = import.is_none_or(|import| allowed.iter().any(|root| import.starts_with(root)) || is_module);
            assert!(fine, "{place}: the machine uses std and volley_proto alone: {line}");
            assert!(!line.contains("crate::"), "{place}: the machine does not look outside its folder: {line}");
        }
    }
}

#[test]
fn the_machine_has_no_clock_no_threads_no_files_and_no_chance() {
    let forbidden = [
        "Instant",
        "SystemTime",
        "std::thread",
        "std::sync::Mutex",
        "std::sync::mpsc",
        "std::fs",
        "std::net",
        "std::io",
        "std::env",
        "async ",
        ".await",
        "rand",
        "println!",
        "tracing",
    ];
    for path in sources().unwrap() {
        for (place, line) in code(&path).unwrap() {
            let found = forbidden.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{place}: the machine is pure, but uses {found:?}: {line}");
        }
    }
}

#[test]
fn files_stay_short() {
    for path in sources().unwrap() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 450, "{} has {lines} lines: 400 are enough", path.display());
    }
}
