//! Dictionaries as plain values, for readers that are not ours.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

/// `schema` with every dictionary replaced by the type of its values; `schema` itself where there is none.
pub fn hydrate_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(hydrate_field).collect();
    if fields.iter().zip(schema.fields()).all(|(new, old)| Arc::ptr_eq(new, old)) {
        return Arc::clone(schema);
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The rows of `batch` under `schema`, its hydrated schema.
pub fn hydrate_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let columns = columns.collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn hydrate_field(field: &FieldRef) -> FieldRef {
    match hydrate_type(field.data_type()) {
        Some(data_type) => {
            let plain = Field::new(field.name(), data_type, field.is_nullable());
            Arc::new(plain.with_metadata(field.metadata().clone()))
        }
        None => Arc::clone(field),
    }
}

/// The type without dictionaries; `None` where there is none in it.
fn hydrate_type(data_type: &DataType) -> Option<DataType> {
    let changed = |field: &FieldRef| Some(hydrate_field(field)).filter(|new| !Arc::ptr_eq(new, field));
    match data_type {
        DataType::Dictionary(_, values) => Some(hydrate_type(values).unwrap_or_else(|| values.as_ref().clone())),
        DataType::Struct(fields) => {
            let new: Vec<FieldRef> = fields.iter().map(hydrate_field).collect();
            let any = new.iter().zip(fields).any(|(new, old)| !Arc::ptr_eq(new, old));
            any.then(|| DataType::Struct(new.into()))
        }
        DataType::List(field) => changed(field).map(DataType::List),
        DataType::LargeList(field) => changed(field).map(DataType::LargeList),
        DataType::FixedSizeList(field, size) => changed(field).map(|field| DataType::FixedSizeList(field, *size)),
        DataType::Map(field, sorted) => changed(field).map(|field| DataType::Map(field, *sorted)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, DictionaryArray};
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn a_dictionary_becomes_its_values() {
        let words: DictionaryArray<Int32Type> = ["to", "be", "to"].into_iter().collect();
        let batch = RecordBatch::try_from_iter([("w", Arc::new(words) as _)]).unwrap();
        let schema = hydrate_schema(&batch.schema());
        assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
        let plain = hydrate_batch(&batch, &schema).unwrap();
        assert_eq!(plain.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["to", "be", "to"]);
    }

    #[test]
    fn a_schema_without_dictionaries_stays_the_same() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        assert!(Arc::ptr_eq(&hydrate_schema(&schema), &schema));
    }
}
