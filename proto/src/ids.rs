//! Typed ids. One `Display` for each, composed as `j7/s2/t13/a0` in logs, paths, tickets and tests alike.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct ParseIdError {
    /// What was read.
    pub text: String,
    /// What would have been right, with an example.
    pub expected: &'static str,
}

macro_rules! numbered_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $letter:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($letter)
                    .ok_or(())
                    .and_then(|number| number.parse().map_err(|_: ParseIntError| ()))
                    .map($name)
                    .map_err(|()| ParseIdError { text: text.to_owned(), expected: $expected })
            }
        }
    };
}

numbered_id!(
    /// One submitted query. Never reused, also not after a scheduler restart.
    JobId, u64, "j", "a job id such as j7");
numbered_id!(
    /// A plan fragment of a job, between exchanges. Its output exchange carries the same id.
    StageId, u32, "s", "a stage id such as s2");
numbered_id!(
    /// One index of a stage's parallelism, or of an exchange's output.
    PartitionId, u32, "p", "a partition id such as p3");
numbered_id!(
    /// Which life of an executor: drawn anew at each start, so that a returned executor is not taken for the lost one.
    Incarnation, u64, "i", "an incarnation such as i42");
numbered_id!(
    /// Which scheduler leads: grows at each start or fail-over; commands of an older term are refused.
    Term, u64, "term", "a term such as term3");

/// Some partitions of one stage, run together on one executor: `j7/s2/t13`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The job that the task belongs to.
    pub job: JobId,
    /// The stage that the task is a share of.
    pub stage: StageId,
    /// The task's place in its stage, from 0.
    pub index: u32,
}

/// The n-th try at a task: `j7/s2/t13/a0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The task that is tried.
    pub task: TaskId,
    /// Which try, from 0.
    pub number: u32,
}

impl TaskId {
    /// The task `index` of a stage.
    pub fn new(job: JobId, stage: StageId, index: u32) -> Self {
        Self { job, stage, index }
    }

    /// The attempt `number` at this task.
    pub fn attempt(self, number: u32) -> AttemptId {
        AttemptId { task: self, number }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/t{}", self.job, self.stage, self.index)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/a{}", self.task, self.number)
    }
}

fn parse_part(text: &str, letter: char) -> Option<u32> {
    text.strip_prefix(letter)?.parse().ok()
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { text: text.to_owned(), expected: "a task id such as j7/s2/t13" };
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or_else(error);
        let job = next()?.parse().map_err(|_| error())?;
        let stage = next()?.parse().map_err(|_| error())?;
        let index = parse_part(next()?, 't').ok_or_else(error)?;
        if parts.next().is_some() { Err(error()) } else { Ok(Self { job, stage, index }) }
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { text: text.to_owned(), expected: "an attempt id such as j7/s2/t13/a0" };
        let (task, number) = text.rsplit_once('/').ok_or_else(error)?;
        let number = parse_part(number, 'a').ok_or_else(error)?;
        Ok(Self { task: task.parse().map_err(|_| error())?, number })
    }
}

macro_rules! named_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id with this text.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

named_id!(
    /// One executor process, by the name it gives itself (by default its advertised address).
    ExecutorId);
named_id!(
    /// The options and temporary tables of one connection.
    SessionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_written_and_read_the_same_way() {
        let attempt = TaskId::new(JobId(7), StageId(2), 13).attempt(0);
        assert_eq!(attempt.to_string(), "j7/s2/t13/a0");
        assert_eq!("j7/s2/t13/a0".parse(), Ok(attempt));
        assert_eq!("j7/s2/t13".parse(), Ok(attempt.task));
    }

    #[test]
    fn a_text_that_is_no_id_is_refused_with_an_example() {
        for wrong in ["", "j7", "j7/s2/t13/a0/x", "7/2/13/0", "j7/s2/t13/a-1", "j7/s2/p13/a0"] {
            let error = wrong.parse::<AttemptId>().unwrap_err();
            assert_eq!(error.to_string(), format!("'{wrong}' is not an attempt id such as j7/s2/t13/a0"));
        }
    }
}
