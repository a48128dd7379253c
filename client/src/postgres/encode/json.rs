//! Values without a counterpart as JSON.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringBuilder};
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::arrow::json::writer::{EncoderOptions, make_encoder};

use crate::postgres::error::{Refusal, state};

/// The values of a column as texts.
pub(super) fn texts(array: &ArrayRef, field: &FieldRef) -> Result<ArrayRef, Refusal> {
    let unsupported = |error| Refusal::new(state::UNSUPPORTED, format!("values of type {} are not supported: {error}", field.data_type()));
    let field = Arc::new(Field::clone(field).with_data_type(array.data_type().clone()));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, array.as_ref(), &options).map_err(unsupported)?;
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(texts.finish()))
}
