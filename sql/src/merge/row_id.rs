//! The function that tells rows of one read apart.

use std::sync::Arc;

use datafusion::arrow::array::FixedSizeBinaryArray;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Its name in plans.
const NAME: &str = "merge_row_id";

/// Bytes of a batch's part of an id, which is random.
pub(super) const BATCH_BYTES: usize = 12;

/// Bytes of an id: its batch's, then the row's place in the batch as a big-endian `u32`.
const ID_BYTES: usize = BATCH_BYTES + size_of::<u32>();

/// The type of an id.
pub(super) const ID_TYPE: DataType = DataType::FixedSizeBinary(ID_BYTES as i32);

/// `merge_row_id()`: 16 bytes that no other row has, in this read or in another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowId {
    signature: Signature,
}

impl RowId {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for RowId {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(ID_TYPE)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = u32::try_from(arguments.number_rows).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let batch = uuid::Uuid::new_v4().into_bytes();
        let mut ids = Vec::with_capacity(arguments.number_rows * ID_BYTES);
        for row in 0..rows {
            ids.extend_from_slice(&batch[..BATCH_BYTES]);
            ids.extend_from_slice(&row.to_be_bytes());
        }
        let ids = FixedSizeBinaryArray::try_new(ID_BYTES as i32, Buffer::from_vec(ids), None)?;
        Ok(ColumnarValue::Array(Arc::new(ids)))
    }
}
