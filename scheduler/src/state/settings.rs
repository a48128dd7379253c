//! What can be set about the machine: plain data, defaults in one place.

/// When outputs between stages are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputRetention {
    /// When all tasks of all consuming stages are sealed. Frees memory early; an executor lost later costs more work.
    UntilConsumed,
    /// With the job. An executor lost late costs only what it held.
    UntilJobEnds,
}

/// Limits and intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Failed attempts (charged to the task) at which its job fails. Default 4.
    pub max_attempts: u32,
    /// Attempts of one task that ended without its fault (a producer was lost, another executor had to be found), at
    /// which its job fails all the same: nothing goes on for ever. Default 100.
    pub max_restarts: u32,
    /// Executors lost while they ran a task, at which the task counts as the culprit and its job fails. Default 3.
    pub max_executors_lost: u32,
    /// Executors lost while they ran a task, from which on the task runs alone on an executor, so that the innocent
    /// beside it are not taken for culprits. Default 2.
    pub isolate_after_lost: u32,
    /// Milliseconds after which an executor is lost that does not come back after its stream broke. Default 2,000.
    pub lost_after_broken_ms: u64,
    /// Milliseconds without a heartbeat after which an executor is suspect. Default 4,000.
    pub suspect_after_silent_ms: u64,
    /// Milliseconds without a heartbeat after which an executor is lost. Default 10,000.
    pub lost_after_silent_ms: u64,
    /// Milliseconds that executors get to come back after a scheduler restart. Default 60,000.
    pub lost_after_restart_ms: u64,
    /// A tick that comes so many milliseconds late shows that the scheduler itself stood still; the delay is then not held
    /// against executors. Default 1,000.
    pub deaf_after_ms: u64,
    /// Outputs on one executor that consumers of a job can't read, after which all of that job's outputs there are taken
    /// for lost, rather than one in each round. Default 3.
    pub max_unreadable_outputs: u32,
    /// Jobs at work at a time; more wait in order of arrival. Default 64.
    pub max_running_jobs: usize,
    /// Jobs that may wait; more are refused. Default 10,000.
    pub max_queued_jobs: usize,
    /// Milliseconds that jobs wait for an executor while there is none. Default 60,000.
    pub no_executor_wait_ms: u64,
    /// Finished jobs that status queries remember. Default 200.
    pub finished_jobs_kept: usize,
    /// Milliseconds that an attempt runs at least before a second one may run beside it. Default 2,000.
    pub straggler_after_ms: u64,
    /// How many times as long as the stage's sealed tasks in the middle an attempt runs before a second one may run beside
    /// it; 0 for never. Default 2.
    pub straggler_factor: u32,
    /// Tasks that fail on an executor within `deny_window_ms`, for reasons that another one may not have, from which on it gets
    /// nothing new for a while; 0 for never. Default 5.
    pub deny_after_failures: u32,
    /// Milliseconds within which these failures count. Default 60,000.
    pub deny_window_ms: u64,
    /// Milliseconds for which it gets nothing new the first time; twice as long each time after. Then it gets one task at a time until
    /// one succeeds. Default 30,000.
    pub deny_ms: u64,
    /// When outputs between stages are freed. Default `UntilConsumed`.
    pub retention: OutputRetention,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            max_restarts: 100,
            max_executors_lost: 3,
            isolate_after_lost: 2,
            lost_after_broken_ms: 2_000,
            suspect_after_silent_ms: 4_000,
            lost_after_silent_ms: 10_000,
            lost_after_restart_ms: 60_000,
            deaf_after_ms: 1_000,
            max_unreadable_outputs: 3,
            max_running_jobs: 64,
            max_queued_jobs: 10_000,
            no_executor_wait_ms: 60_000,
            finished_jobs_kept: 200,
            straggler_after_ms: 2_000,
            straggler_factor: 2,
            deny_after_failures: 5,
            deny_window_ms: 60_000,
            deny_ms: 30_000,
            retention: OutputRetention::UntilConsumed,
        }
    }
}
