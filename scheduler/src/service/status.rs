//! Failures as gRPC statuses: the code says what is to be done, the text what went wrong.

use tonic::{Code, Status};
use volley_proto::{Failure, JobId, Remedy};

/// A status travels in HTTP/2 headers, and clients refuse more than 8 KiB of those; escaping may treble a text.
const LONGEST_MESSAGE: usize = 2000;

/// The status that a failure becomes; `job` where it happened in one.
pub(crate) fn of_failure(failure: &Failure, job: Option<JobId>) -> Status {
    let (code, names_job) = match &failure.remedy {
        Remedy::Query => (Code::InvalidArgument, false),
        Remedy::Resources => (Code::ResourceExhausted, true),
        Remedy::Cancelled => (Code::Cancelled, true),
        Remedy::Retry | Remedy::Rerun { .. } => (Code::Unavailable, true),
        Remedy::Internal => (Code::Internal, true),
    };
    match job {
        Some(job) if names_job => new(code, format!("job {job}: {failure}")),
        _ => new(code, failure.to_string()),
    }
}

/// A bug on our side; its text names what was being done.
pub(crate) fn internal(what: &str, error: impl std::fmt::Display) -> Status {
    new(Code::Internal, format!("{what}: {error}"))
}

/// A status with a text that is short enough to travel.
pub(crate) fn new(code: Code, message: String) -> Status {
    if message.len() <= LONGEST_MESSAGE {
        return Status::new(code, message);
    }
    let end = (0..=LONGEST_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    Status::new(code, format!("{}... ({} bytes more)", &message[..end], message.len() - end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_what_is_to_be_done() {
        let job = Some(JobId(7));
        let status = of_failure(&Failure::query("no table 't'"), job);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "no table 't'"));
        let status = of_failure(&Failure::internal("a task panicked"), job);
        assert_eq!((status.code(), status.message()), (Code::Internal, "job j7: a task panicked"));
        assert_eq!(of_failure(&Failure::resources("no memory"), job).code(), Code::ResourceExhausted);
        assert_eq!(of_failure(&Failure::cancelled("by request"), job).code(), Code::Cancelled);
        assert_eq!(of_failure(&Failure::retry("a peer was lost"), None).code(), Code::Unavailable);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let status = of_failure(&Failure::query("ä".repeat(5000)), None);
        assert!(status.message().starts_with("ää"));
        assert!(status.message().ends_with("... (8000 bytes more)"), "{}", &status.message()[1990..]);
    }
}
