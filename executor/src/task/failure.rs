//! From an engine error to a failure with its remedy.

use std::error::Error;
use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::object_store;
use datafusion::parquet::errors::ParquetError;
use volley_proto::{Failure, Remedy};

const FULL_DISK: &str = "the disk is full";

/// The failure that `error` is. A `Failure` anywhere among its causes is taken as it stands; otherwise the innermost cause
/// that is known decides: what would fail again the same way is the query's fault, what depends on the moment is retried.
pub fn failure_of(error: &DataFusionError) -> Failure {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => failure_of(inner),
        DataFusionError::Shared(inner) => failure_of(inner),
        DataFusionError::Collection(errors) => first_of(errors, error),
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow(inner),
        DataFusionError::ParquetError(inner) => parquet(inner),
        DataFusionError::ObjectStore(inner) => stored(inner),
        DataFusionError::IoError(inner) => io_error(inner),
        DataFusionError::ExecutionJoin(inner) => Failure::internal(inner.to_string()),
        DataFusionError::ResourcesExhausted(message) => Failure::resources(message.clone()),
        DataFusionError::Internal(_) | DataFusionError::Ffi(_) => Failure::internal(error.strip_backtrace()),
        // What the plan or the data is: the same on every executor.
        DataFusionError::Execution(message)
        | DataFusionError::Plan(message)
        | DataFusionError::Configuration(message)
        | DataFusionError::NotImplemented(message) => Failure::query(without_backtrace(message)),
        DataFusionError::SQL(..) | DataFusionError::SchemaError(..) | DataFusionError::Substrait(_) => {
            Failure::query(error.strip_backtrace())
        }
    }
}

/// A lost input explains the other errors, then the first one does.
fn first_of(errors: &[DataFusionError], whole: &DataFusionError) -> Failure {
    let mut failures: Vec<_> = errors.iter().map(failure_of).collect();
    if let Some(rerun) = failures.iter().position(|failure| matches!(failure.remedy, Remedy::Rerun { .. })) {
        return failures.swap_remove(rerun);
    }
    failures.into_iter().next().unwrap_or_else(|| Failure::internal(whole.strip_backtrace()))
}

fn external(error: &(dyn Error + Send + Sync + 'static)) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(failure) = known(current) {
            return failure;
        }
        cause = current.source();
    }
    // Neither the engine's nor ours, so perhaps a bug, perhaps a passing fault: it is tried once more.
    Failure::internal(error.to_string())
}

fn known(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return Some(failure_of(inner));
    }
    if let Some(inner) = error.downcast_ref::<ArrowError>() {
        return Some(arrow(inner));
    }
    if let Some(inner) = error.downcast_ref::<ParquetError>() {
        return Some(parquet(inner));
    }
    if let Some(inner) = error.downcast_ref::<object_store::Error>() {
        return Some(stored(inner));
    }
    error.downcast_ref::<io::Error>().map(io_error)
}

fn arrow(error: &ArrowError) -> Failure {
    match error {
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::IoError(_, inner) => io_error(inner),
        ArrowError::MemoryError(_) => Failure::resources(error.to_string()),
        ArrowError::IpcError(_) | ArrowError::CDataInterface(_) => Failure::internal(error.to_string()),
        _ => Failure::query(error.to_string()),
    }
}

fn parquet(error: &ParquetError) -> Failure {
    match error {
        ParquetError::External(inner) => external(inner.as_ref()),
        ParquetError::NeedMoreData(_) | ParquetError::NeedMoreDataRange(_) => Failure::internal(error.to_string()),
        _ => Failure::query(error.to_string()),
    }
}

fn stored(error: &object_store::Error) -> Failure {
    use object_store::Error;
    match error {
        Error::NotFound { path, .. } => Failure::query(format!("file '{path}' does not exist, or no longer")),
        Error::Precondition { path, .. } | Error::NotModified { path, .. } => {
            Failure::query(format!("file '{path}' was changed after the query was planned: run the query again"))
        }
        Error::PermissionDenied { path, .. } | Error::Unauthenticated { path, .. } => {
            Failure::query(format!("file '{path}' may not be read with the credentials at hand: {error}"))
        }
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::AlreadyExists { .. }
        | Error::UnknownConfigurationKey { .. } => Failure::query(error.to_string()),
        _ => match innermost_io(error) {
            Some(inner) => with_message(io_error(inner), error.to_string()),
            None => Failure::retry(error.to_string()),
        },
    }
}

fn innermost_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        cause = current.source();
    }
    None
}

fn io_error(error: &io::Error) -> Failure {
    if let Some(inner) = error.get_ref()
        && let Some(failure) = known(inner)
    {
        return failure;
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::resources(format!("{FULL_DISK}: {error}")),
        io::ErrorKind::OutOfMemory => Failure::resources(error.to_string()),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Failure::query(error.to_string())
        }
        _ => Failure::retry(error.to_string()),
    }
}

/// Whether a write failed because the disk, or the user's share of it, is used up.
pub(super) fn is_full_disk(error: &DataFusionError) -> bool {
    failure_of(error).message.starts_with(FULL_DISK)
}

fn with_message(failure: Failure, message: String) -> Failure {
    Failure { message, ..failure }
}

fn without_backtrace(message: &str) -> &str {
    message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(message)
}
