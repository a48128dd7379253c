//! Which remedy an engine error gets.

use std::io;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::object_store;
use datafusion::parquet::errors::ParquetError;
use volley_executor::task::failure_of;
use volley_proto::{AttemptId, ExecutorId, Failure, JobId, Remedy, StageId, TaskId};

fn producer() -> AttemptId {
    TaskId::new(JobId(7), StageId(2), 13).attempt(1)
}

fn lost() -> Failure {
    Failure::rerun(producer(), ExecutorId::new("e1"), "output of j7/s2/t13/a1 is gone from e1")
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn store_error(path: &str, make: fn(String, Box<dyn std::error::Error + Send + Sync>) -> object_store::Error) -> DataFusionError {
    make(path.to_owned(), "refused".into()).into()
}

fn io(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "the system said so")
}

#[test]
fn every_kind_of_error_has_its_remedy() {
    use io::ErrorKind;
    let generic = |source: io::Error| object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(source) };
    let table: Vec<(&str, DataFusionError, Remedy)> = vec![
        ("a cast", ArrowError::CastError("'x' is no number".into()).into(), Remedy::Query),
        ("a division by zero", ArrowError::DivideByZero.into(), Remedy::Query),
        ("an overflow", ArrowError::ArithmeticOverflow("i64".into()).into(), Remedy::Query),
        ("a bad line", ArrowError::CsvError("line 7".into()).into(), Remedy::Query),
        ("an execution error", DataFusionError::Execution("bad regex".into()), Remedy::Query),
        ("something not implemented", DataFusionError::NotImplemented("this".into()), Remedy::Query),
        ("a corrupt file", DataFusionError::ParquetError(Box::new(ParquetError::General("corrupt".into()))), Remedy::Query),
        ("memory", DataFusionError::ResourcesExhausted("no memory".into()), Remedy::Resources),
        ("an allocation", ArrowError::MemoryError("no".into()).into(), Remedy::Resources),
        ("a full disk", DataFusionError::IoError(io(ErrorKind::StorageFull)), Remedy::Resources),
        ("a full disk below arrow", ArrowError::IoError("write".into(), io(ErrorKind::StorageFull)).into(), Remedy::Resources),
        ("a full disk below a store", generic(io(ErrorKind::StorageFull)).into(), Remedy::Resources),
        ("a timeout", DataFusionError::IoError(io(ErrorKind::TimedOut)), Remedy::Retry),
        ("a reset below a store", generic(io(ErrorKind::ConnectionReset)).into(), Remedy::Retry),
        ("a store's own fault", object_store::Error::Generic { store: "S3", source: "503 slow down".into() }.into(), Remedy::Retry),
        ("a missing file", store_error("a.parquet", |path, source| object_store::Error::NotFound { path, source }), Remedy::Query),
        ("a changed file", store_error("a.parquet", |path, source| object_store::Error::Precondition { path, source }), Remedy::Query),
        ("a closed file", store_error("a.parquet", |path, source| object_store::Error::PermissionDenied { path, source }), Remedy::Query),
        ("a bug", DataFusionError::Internal("unreachable".into()), Remedy::Internal),
        ("a stranger", external(std::fmt::Error), Remedy::Internal),
        ("a lost input", external(lost()), lost().remedy),
        ("a lost input in context", external(lost()).context("reading input 0"), lost().remedy),
        ("a lost input below arrow", ArrowError::ExternalError(Box::new(external(lost()))).into(), lost().remedy),
        ("a lost input that is shared", DataFusionError::Shared(Arc::new(external(lost()))), lost().remedy),
        ("a lost input below io", DataFusionError::IoError(io::Error::other(lost())), lost().remedy),
        (
            "a lost input among others",
            DataFusionError::Collection(vec![DataFusionError::Execution("aborted".into()), external(lost())]),
            lost().remedy,
        ),
        ("a cancel", external(Failure::cancelled("enough")), Remedy::Cancelled),
    ];
    for (what, error, remedy) in table {
        let failure = failure_of(&error);
        assert_eq!(failure.remedy, remedy, "{what}: {failure}");
        assert!(!failure.message.is_empty(), "{what}");
    }
}

#[test]
fn a_file_is_named() {
    for make in [
        (|path, source| object_store::Error::NotFound { path, source }) as fn(_, _) -> _,
        |path, source| object_store::Error::Precondition { path, source },
        |path, source| object_store::Error::PermissionDenied { path, source },
    ] {
        let failure = failure_of(&store_error("data/a.parquet", make));
        assert!(failure.message.contains("'data/a.parquet'"), "{failure}");
    }
}

#[test]
fn a_failure_keeps_its_own_words() {
    assert_eq!(failure_of(&external(lost()).context("outer").context("outermost")), lost());
    assert_eq!(failure_of(&DataFusionError::Execution("bad regex".into())).message, "bad regex");
}
