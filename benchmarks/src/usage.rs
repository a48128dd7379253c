//! CPU time and memory of processes, measured around a query.

use std::fs;
use std::mem::MaybeUninit;

use crate::machine::{field, kibibytes};

/// The processes that are measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processes {
    /// This one: the cluster is embedded.
    This,
    /// Others on this machine, by process id.
    Others(Vec<u32>),
    /// None: the cluster is elsewhere.
    None,
}

/// CPU time so far, to be subtracted from that of a later moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTime(Option<f64>);

impl Processes {
    /// CPU time that they have used so far.
    pub fn cpu_time(&self) -> CpuTime {
        CpuTime(match self {
            Self::This => own_cpu_seconds(),
            Self::Others(ids) => ids.iter().map(|id| cpu_seconds(*id)).sum(),
            Self::None => None,
        })
    }

    /// Lowers the peak of memory to what is in use now; where the system refuses, peaks are those since the start.
    pub fn reset_peak(&self) {
        let reset = |process: &str| {
            if let Err(error) = fs::write(format!("/proc/{process}/clear_refs"), "5") {
                tracing::debug!(process, %error, "peak memory can't be reset");
            }
        };
        match self {
            Self::This => reset("self"),
            Self::Others(ids) => ids.iter().for_each(|id| reset(&id.to_string())),
            Self::None => {}
        }
    }

    /// Bytes of resident memory that they had at most, added up.
    pub fn peak_bytes(&self) -> Option<u64> {
        let peak = |process: &str| field(&format!("/proc/{process}/status"), "VmHWM").and_then(|text| kibibytes(&text));
        match self {
            Self::This => peak("self"),
            Self::Others(ids) => ids.iter().map(|id| peak(&id.to_string())).sum(),
            Self::None => None,
        }
    }
}

impl CpuTime {
    /// Seconds from `earlier` to this moment, where both are known.
    pub fn since(self, earlier: Self) -> Option<f64> {
        Some(self.0? - earlier.0?)
    }
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
        let before = Processes::This.cpu_time();
        assert_ne!(burn(), 1);
        assert!(Processes::This.cpu_time().since(before).unwrap() > 0.0);
        assert!(Processes::This.peak_bytes().unwrap() > 0);
    }

    #[test]
    fn another_process_is_read_by_its_id() {
        let processes = Processes::Others(vec![std::process::id()]);
        assert!(processes.cpu_time().since(processes.cpu_time()).is_some());
        assert!(processes.peak_bytes().is_some());
    }

    #[test]
    fn what_is_elsewhere_is_unknown() {
        assert_eq!(Processes::None.cpu_time().since(Processes::None.cpu_time()), None);
        assert_eq!(Processes::None.peak_bytes(), None);
        assert_eq!(Processes::Others(vec![u32::MAX]).peak_bytes(), None);
    }
}
