//! How much memory this process may use.

use std::fs;
use std::path::Path;

/// Bytes that the control group or else the host allows; `None` where neither can be read.
pub fn memory_limit() -> Option<u64> {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| host_total(&text));
    let group = cgroup_limit(Path::new("/sys/fs/cgroup"));
    match (host, group) {
        (Some(host), Some(group)) => Some(host.min(group)),
        (one, other) => one.or(other),
    }
}

fn cgroup_limit(root: &Path) -> Option<u64> {
    // Version 2 first, then 1. "max", and the huge number of version 1, mean that there is no limit.
    ["memory.max", "memory/memory.limit_in_bytes"].iter().find_map(|file| fs::read_to_string(root.join(file)).ok()?.trim().parse().ok())
}

fn host_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_the_host_is_read_in_bytes() {
        assert_eq!(host_total("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 * 1024));
        assert_eq!(host_total("nothing of the kind"), None);
    }

    #[test]
    fn an_unlimited_group_sets_no_limit() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroup_limit(root.path()), None);
        fs::write(root.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(cgroup_limit(root.path()), None);
        fs::write(root.path().join("memory.max"), "4294967296\n").unwrap();
        assert_eq!(cgroup_limit(root.path()), Some(4 << 30));
    }
}
