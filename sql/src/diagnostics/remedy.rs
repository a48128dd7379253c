//! What is to be done about an error of the engine.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use volley_proto::{Failure, Remedy};

/// An error of the engine as a failure: the [`Failure`] inside it where one was wrapped, else by its kind.
pub fn failure_of(error: &DataFusionError) -> Failure {
    if let Some(failure) = wrapped(error) {
        return failure;
    }
    let root = error.find_root();
    Failure { remedy: remedy(root), message: message(root) }
}

/// The failure that somebody wrapped, however deep.
fn wrapped(error: &DataFusionError) -> Option<Failure> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(failure) = current.downcast_ref::<Failure>() {
            return Some(failure.clone());
        }
        cause = match current.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            _ => match current.downcast_ref::<ArrowError>() {
                Some(ArrowError::ExternalError(inner)) => Some(inner.as_ref()),
                _ => current.source(),
            },
        };
    }
    None
}

fn remedy(root: &DataFusionError) -> Remedy {
    match root {
        DataFusionError::ResourcesExhausted(_) => Remedy::Resources,
        DataFusionError::ObjectStore(error) => of_object_store(error),
        DataFusionError::IoError(error) => of_io(error),
        DataFusionError::ArrowError(error, _) => of_arrow(error),
        DataFusionError::ParquetError(error) => of_parquet(error),
        DataFusionError::Internal(_) | DataFusionError::Substrait(_) | DataFusionError::ExecutionJoin(_) => Remedy::Internal,
        // Errors of others' code: user-defined functions and table providers.
        DataFusionError::External(_) => Remedy::Query,
        _ => Remedy::Query,
    }
}

fn of_object_store(error: &object_store::Error) -> Remedy {
    match error {
        object_store::Error::Generic { .. } | object_store::Error::JoinError { .. } => Remedy::Retry,
        _ => Remedy::Query,
    }
}

fn of_io(error: &std::io::Error) -> Remedy {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::OutOfMemory => Remedy::Resources,
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::InvalidData => Remedy::Query,
        _ => Remedy::Retry,
    }
}

fn of_arrow(error: &ArrowError) -> Remedy {
    match error {
        ArrowError::IoError(_, error) => of_io(error),
        ArrowError::MemoryError(_) => Remedy::Resources,
        _ => Remedy::Query,
    }
}

fn of_parquet(error: &ParquetError) -> Remedy {
    match error {
        ParquetError::External(inner) => match inner.downcast_ref::<object_store::Error>() {
            Some(error) => of_object_store(error),
            None => inner.downcast_ref::<std::io::Error>().map_or(Remedy::Query, of_io),
        },
        _ => Remedy::Query,
    }
}

/// The error's text without DataFusion's prefixes and back traces.
fn message(root: &DataFusionError) -> String {
    match root {
        DataFusionError::ObjectStore(error) => match error.as_ref() {
            object_store::Error::NotFound { path, .. } => format!("file '{path}' does not exist"),
            object_store::Error::Precondition { path, .. } => format!("file '{path}' changed while it was read"),
            object_store::Error::PermissionDenied { path, .. } => format!("no permission to read '{path}'"),
            other => other.to_string(),
        },
        root => {
            let text = root.strip_backtrace();
            let stripped = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
            stripped.map_or_else(|| text.clone(), str::to_owned)
        }
    }
}

/// How DataFusion's error kinds begin.
const PREFIXES: &[&str] = &[
    "Error during planning: ",
    "Execution error: ",
    "Invalid or Unsupported Configuration: ",
    "This feature is not implemented: ",
    "Resources exhausted: ",
    "External error: ",
    "Arrow error: ",
    "Parquet error: ",
    "IO error: ",
    "Schema error: ",
];
