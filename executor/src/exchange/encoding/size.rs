//! How large a batch is.

use datafusion::arrow::array::{Array, ArrayData, RecordBatch};
use datafusion::arrow::datatypes::DataType;

/// Bytes that the rows of `batch` occupy, without what their buffers hold besides.
pub(in crate::exchange) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| data_bytes(&column.to_data())).sum()
}

fn data_bytes(data: &ArrayData) -> usize {
    // `get_slice_memory_size` leaves out what string views point to.
    data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size()) + view_buffer_bytes(data)
}

fn view_buffer_bytes(data: &ArrayData) -> usize {
    let own = match data.data_type() {
        DataType::Utf8View | DataType::BinaryView => data.buffers().iter().skip(1).map(|buffer| buffer.len()).sum(),
        _ => 0,
    };
    own + data.child_data().iter().map(view_buffer_bytes).sum::<usize>()
}
