//! Why a wire message is not what it should be, and the checks that say so.

use crate::failure::Failure;
use crate::ids::ExecutorId;

/// Why a wire message has no domain value. Names the message and the field as the .proto does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("{message}.{field} is missing")]
    Missing {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// None of a choice that this build knows: nothing was sent, or a newer build sent it.
    #[error("{message}.{field} is missing, or of a kind that this build does not know")]
    NoKind {
        /// The message.
        message: &'static str,
        /// The oneof.
        field: &'static str,
    },
    /// An enum value that this build does not know.
    #[error("{message}.{field} has the unknown value {value}")]
    UnknownValue {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// What was sent.
        value: i32,
    },
    /// Columns that belong together, or a value of fixed size, are of another length.
    #[error("{message}.{field} has {found} entries where {expected} are right")]
    Length {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The length that would be right.
        expected: usize,
    },
    /// An index that points nowhere.
    #[error("{message}.{field} points to entry {index} of {len}")]
    Index {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The index.
        index: u32,
        /// Entries that there are.
        len: usize,
    },
    /// A record of a format that this build does not read.
    #[error("{message} has format version {found}, but this build reads versions 1 to {newest}")]
    Version {
        /// The message.
        message: &'static str,
        /// Its version.
        found: u32,
        /// The newest that this build reads.
        newest: u32,
    },
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        Self::internal(format!("a message can't be understood: {error}"))
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The field's value, or that it is missing.
pub(super) fn required<T>(value: Option<T>, message: &'static str, field: &'static str) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { message, field })
}

/// The variant of a oneof, or that there is none that this build knows.
pub(super) fn kind<T>(value: Option<T>, message: &'static str, field: &'static str) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::NoKind { message, field })
}

/// An executor's name, which is never empty.
pub(super) fn executor(text: String, message: &'static str, field: &'static str) -> Result<ExecutorId, ConvertError> {
    if text.is_empty() { Err(ConvertError::Missing { message, field }) } else { Ok(ExecutorId::new(text)) }
}

/// That a column is as long as the one it belongs to.
pub(super) fn same_length(found: usize, expected: usize, message: &'static str, field: &'static str) -> Result<(), ConvertError> {
    if found == expected { Ok(()) } else { Err(ConvertError::Length { message, field, found, expected }) }
}

/// Each of the wire values as a domain value.
pub(super) fn each<W, D>(wire: Vec<W>) -> Result<Vec<D>, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    wire.into_iter().map(D::try_from).collect()
}

/// Each of the domain values as a wire value.
pub(super) fn all<D, W: From<D>>(domain: Vec<D>) -> Vec<W> {
    domain.into_iter().map(W::from).collect()
}
