//! Strings and binaries without views: how files are written for everybody.
//!
//! A view is a form of this process's memory. In a file's schema it would keep the file from being read together with others that have the same
//! rows in the plain form.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

/// The columns in their plain form.
pub(super) fn without_views(schema: &Schema) -> Schema {
    Schema::new_with_metadata(plain_fields(schema.fields()), schema.metadata().clone())
}

fn plain_fields(fields: &Fields) -> Fields {
    fields.iter().map(plain_field).collect()
}

fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(plain_type(field.data_type())))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(plain_field(item), *length),
        DataType::Struct(fields) => DataType::Struct(plain_fields(fields)),
        DataType::Map(entries, is_sorted) => DataType::Map(plain_field(entries), *is_sorted),
        DataType::Dictionary(key, value) => DataType::Dictionary(key.clone(), Box::new(plain_type(value))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_found_within_other_types() {
        let item = |data_type| Arc::new(Field::new("item", data_type, true));
        let of = |view: DataType| {
            let fields = vec![Field::new("a", DataType::List(item(view.clone())), true), Field::new("b", view, false)];
            Schema::new(vec![Field::new("s", DataType::Struct(fields.into()), true), Field::new("n", DataType::Int32, true)])
        };
        assert_eq!(without_views(&of(DataType::Utf8View)), of(DataType::Utf8));
        assert_eq!(without_views(&of(DataType::BinaryView)), of(DataType::Binary));
    }
}
