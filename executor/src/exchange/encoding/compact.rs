//! Cuts a batch free of buffers that it does not need.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, GenericListArray, MutableArrayData, OffsetSizeTrait, RecordBatch, RecordBatchOptions,
    StringViewArray, StructArray, make_array,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;

use super::size::batch_bytes;

/// A little waste is cheaper than a copy.
const TOLERATED_WASTE: usize = 16 * 1024;

/// The same rows in buffers of their own, if `batch` is a small part of larger buffers; else `batch` itself.
pub(in crate::exchange) fn compact(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let batch = compact_views(batch)?;
    if batch.get_array_memory_size() <= 2 * batch_bytes(&batch) + TOLERATED_WASTE * batch.num_columns().max(1) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(copy_rows).collect::<Result<_, _>>()?;
    with_columns(&batch, columns)
}

/// The same rows with string views that point into buffers of their own, if they pointed into much larger ones.
///
/// The IPC writer writes all buffers of a view array, whether its rows refer to them or not.
pub(in crate::exchange) fn compact_views(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !batch.schema_ref().fields().iter().any(|field| has_views(field.data_type())) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(compact_column).collect::<Result<_, _>>()?;
    with_columns(&batch, columns)
}

fn with_columns(batch: &RecordBatch, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn copy_rows(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let data = column.to_data();
    let mut rows = MutableArrayData::new(vec![&data], false, data.len());
    rows.try_extend(0, 0, data.len())?;
    Ok(make_array(rows.freeze()))
}

fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_views(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) => has_views(field.data_type()),
        // Views inside other types are rare: they are written with all their buffers, which is larger but right.
        _ => false,
    }
}

fn compact_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Utf8View => compact_strings(column, column.as_string_view()),
        DataType::BinaryView => compact_binaries(column, column.as_binary_view()),
        DataType::Struct(fields) if has_views(column.data_type()) && !fields.is_empty() => {
            let rows = column.as_struct();
            let columns = rows.columns().iter().map(compact_column).collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, rows.nulls().cloned())?)
        }
        DataType::List(_) if has_views(column.data_type()) => compact_list(column.as_list::<i32>())?,
        DataType::LargeList(_) if has_views(column.data_type()) => compact_list(column.as_list::<i64>())?,
        _ => Arc::clone(column),
    })
}

fn compact_strings(column: &ArrayRef, views: &StringViewArray) -> ArrayRef {
    if is_wasteful(views.data_buffers().iter().map(|buffer| buffer.len()).sum(), || views.total_buffer_bytes_used()) {
        Arc::new(views.gc())
    } else {
        Arc::clone(column)
    }
}

fn compact_binaries(column: &ArrayRef, views: &BinaryViewArray) -> ArrayRef {
    if is_wasteful(views.data_buffers().iter().map(|buffer| buffer.len()).sum(), || views.total_buffer_bytes_used()) {
        Arc::new(views.gc())
    } else {
        Arc::clone(column)
    }
}

/// A list keeps its offsets, so its values keep their places: only the part that its rows refer to is looked at.
fn compact_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Result<ArrayRef, ArrowError> {
    let (DataType::List(field) | DataType::LargeList(field)) = list.data_type() else {
        return Ok(Arc::new(list.clone()));
    };
    let (first, last) = match (list.value_offsets().first(), list.value_offsets().last()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => return Ok(Arc::new(list.clone())),
    };
    let values = list.values().slice(first.as_usize(), (last - first).as_usize());
    let offsets: Vec<O> = list.value_offsets().iter().map(|offset| *offset - first).collect();
    let offsets = datafusion::arrow::buffer::OffsetBuffer::new(offsets.into());
    Ok(Arc::new(GenericListArray::<O>::try_new(Arc::clone(field), offsets, compact_column(&values)?, list.nulls().cloned())?))
}

fn is_wasteful(held: usize, used: impl FnOnce() -> usize) -> bool {
    held > TOLERATED_WASTE && held > 2 * used()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::Field;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn a_slice_of_views_loses_the_rest_of_the_heap() {
        let strings: StringViewArray = (0..10_000).map(|i| Some(format!("a string that is not inlined {i}"))).collect();
        let whole = batch(vec![("s", Arc::new(strings))]);
        let slice = whole.slice(100, 10);
        let small = compact_views(slice.clone()).unwrap();
        assert_eq!(small, slice);
        assert!(batch_bytes(&small) < 1_000, "{} bytes", batch_bytes(&small));
    }

    #[test]
    fn a_slice_gets_buffers_of_its_own() {
        let numbers: Int64Array = (0..100_000).collect();
        let strings: StringArray = (0..100_000).map(|i| Some(format!("string {i}"))).collect();
        let whole = batch(vec![("n", Arc::new(numbers)), ("s", Arc::new(strings))]);
        let slice = whole.slice(500, 3);
        let small = compact(slice.clone()).unwrap();
        assert_eq!(small, slice);
        assert!(small.get_array_memory_size() < 4_000, "{} bytes", small.get_array_memory_size());
    }

    #[test]
    fn views_in_lists_are_compacted_too() {
        let strings: StringViewArray = (0..10_000).map(|i| Some(format!("a string that is not inlined {i}"))).collect();
        let field = Arc::new(Field::new("item", DataType::Utf8View, true));
        let offsets = datafusion::arrow::buffer::OffsetBuffer::from_lengths(vec![2; 5_000]);
        let list = GenericListArray::<i32>::try_new(field, offsets, Arc::new(strings), None).unwrap();
        let slice = batch(vec![("l", Arc::new(list))]).slice(40, 4);
        let small = compact_views(slice.clone()).unwrap();
        assert_eq!(small, slice);
        assert!(batch_bytes(&small) < 1_000, "{} bytes", batch_bytes(&small));
    }
}
