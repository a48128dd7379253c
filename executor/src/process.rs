//! What this process has used since its start, as Linux tells it.

use std::fs;

/// Linux counts CPU time in this unit on every architecture that we know.
const NANOS_A_TICK: u64 = 10_000_000;

/// Nanoseconds of CPU, user and system, to a hundredth of a second; `None` on other systems.
pub(crate) fn cpu_ns() -> Option<u64> {
    cpu_of(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// The most bytes of resident memory that there were; `None` on other systems.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    peak_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn cpu_of(stat: &str) -> Option<u64> {
    // The name in parentheses may contain blanks; what follows it does not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * NANOS_A_TICK)
}

fn peak_of(status: &str) -> Option<u64> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_what_the_system_prints() {
        assert_eq!(cpu_of("12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0"), Some(2_000_000_000));
        assert_eq!(cpu_of("12"), None);
        assert_eq!(peak_of("Name:\tvolley\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(peak_of("Name:\tvolley\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_used_something() {
        assert!(peak_resident_bytes().unwrap() > 1 << 20);
        assert!(cpu_ns().is_some());
    }
}
