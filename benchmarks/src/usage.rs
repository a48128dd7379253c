//! CPU time and memory of processes, measured around a query.
//!
//! Processes of this machine are read from the system. Executors elsewhere say what they use with each heartbeat.

use std::fs;
use std::mem::MaybeUninit;

use serde::{Deserialize, Serialize};
use volley_proto::wire::client::v1::ExecutorReport;

use crate::machine::{field, kibibytes};

/// The processes that are measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processes {
    /// This one: the cluster is embedded.
    This,
    /// Others on this machine, by process id.
    Others(Vec<u32>),
    /// The executors of the cluster, by their own word.
    Executors,
}

/// What the processes have used by a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// CPU time so far, where it is known of all.
    cpu_seconds: Option<f64>,
    /// Peaks of resident memory, by process.
    pub peaks: Vec<ProcessPeak>,
}

/// The most resident memory that one process had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPeak {
    /// The process: its id on this machine, or the executor's name.
    pub process: String,
    /// Bytes.
    pub peak_bytes: u64,
    /// What its tasks and outputs may take, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

impl Processes {
    /// What they have used by now; `executors` is the word of those that can't be read from here.
    pub fn usage(&self, executors: &[ExecutorReport]) -> Usage {
        match self {
            Self::This => Usage { cpu_seconds: own_cpu_seconds(), peaks: peak("self").into_iter().collect() },
            Self::Others(ids) => Usage {
                cpu_seconds: ids.iter().map(|id| cpu_seconds(*id)).sum(),
                peaks: ids.iter().filter_map(|id| peak(&id.to_string())).collect(),
            },
            Self::Executors => of_executors(executors),
        }
    }

    /// Lowers the peak of memory to what is in use now; where the system refuses, and of executors elsewhere, peaks are those since
    /// the start.
    pub fn reset_peak(&self) {
        let reset = |process: &str| {
            if let Err(error) = fs::write(format!("/proc/{process}/clear_refs"), "5") {
                tracing::debug!(process, %error, "peak memory can't be reset");
            }
        };
        match self {
            Self::This => reset("self"),
            Self::Others(ids) => ids.iter().for_each(|id| reset(&id.to_string())),
            Self::Executors => {}
        }
    }
}

impl Usage {
    /// Seconds of CPU from `earlier` to this moment, where both are known.
    pub fn cpu_since(&self, earlier: &Self) -> Option<f64> {
        Some(self.cpu_seconds? - earlier.cpu_seconds?)
    }
}

/// A process's peak as the system counts it.
fn peak(process: &str) -> Option<ProcessPeak> {
    let peak_bytes = field(&format!("/proc/{process}/status"), "VmHWM").and_then(|text| kibibytes(&text))?;
    Some(ProcessPeak { process: process.to_owned(), peak_bytes, limit_bytes: None })
}

/// Executors whose system tells nothing say 0.
fn of_executors(executors: &[ExecutorReport]) -> Usage {
    let cpu = |executor: &ExecutorReport| (executor.cpu_ns > 0).then(|| executor.cpu_ns as f64 / 1e9);
    let known = executors.iter().filter(|executor| executor.peak_resident_bytes > 0);
    let peaks = known.map(|executor| ProcessPeak {
        process: executor.executor.clone(),
        peak_bytes: executor.peak_resident_bytes,
        limit_bytes: Some(executor.memory_bytes),
    });
    let cpu_seconds = if executors.is_empty() { None } else { executors.iter().map(cpu).sum() };
    Usage { cpu_seconds, peaks: peaks.collect() }
}

/// User and system time of this process, to the microsecond.
#[expect(unsafe_code, reason = "the standard library has no getrusage, and /proc counts in hundredths of a second")]
fn own_cpu_seconds() -> Option<f64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for writes of one `rusage`, and all-zero bytes are one.
    let (code, usage) = unsafe { (libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), usage.assume_init()) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (code == 0).then(|| seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// User and system time of another process, to a hundredth of a second.
fn cpu_seconds(process: u32) -> Option<f64> {
    /// Linux counts in this unit on every architecture that we know.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may contain blanks; what follows it does not.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn() -> u64 {
        (0..20_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number.wrapping_mul(31)))
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let before = Processes::This.usage(&[]);
        assert_ne!(burn(), 1);
        let after = Processes::This.usage(&[]);
        assert!(after.cpu_since(&before).unwrap() > 0.0);
        assert!(after.peaks[0].peak_bytes > 0);
    }

    #[test]
    fn other_processes_are_read_by_their_ids_one_by_one() {
        let id = std::process::id();
        let usage = Processes::Others(vec![id, id]).usage(&[]);
        assert!(usage.cpu_since(&usage).is_some());
        assert_eq!(usage.peaks.iter().map(|peak| peak.process.clone()).collect::<Vec<_>>(), [id.to_string(), id.to_string()]);
        assert_eq!(Processes::Others(vec![u32::MAX]).usage(&[]), Usage::default(), "a process that is not there is unknown");
    }

    #[test]
    fn executors_say_what_they_use() {
        let executor = |name: &str, cpu_ns, peak| ExecutorReport {
            executor: name.into(),
            memory_bytes: 8,
            cpu_ns,
            peak_resident_bytes: peak,
            ..Default::default()
        };
        let before = Processes::Executors.usage(&[executor("a", 1_000_000_000, 5), executor("b", 2_000_000_000, 6)]);
        let after = Processes::Executors.usage(&[executor("a", 1_500_000_000, 5), executor("b", 4_000_000_000, 9)]);
        assert_eq!(after.cpu_since(&before), Some(2.5));
        let peak = |process: &str, peak_bytes| ProcessPeak { process: process.into(), peak_bytes, limit_bytes: Some(8) };
        assert_eq!(after.peaks, [peak("a", 5), peak("b", 9)]);
        let silent = Processes::Executors.usage(&[executor("a", 0, 0)]);
        assert_eq!((silent.cpu_since(&before), silent.peaks.len()), (None, 0));
        assert_eq!(Processes::Executors.usage(&[]).cpu_since(&before), None);
    }
}
