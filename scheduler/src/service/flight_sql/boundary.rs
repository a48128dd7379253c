//! Types at the client boundary. Views and dictionaries are how we compute, and some clients can't read them: unless a session asks
//! for them (`SET volley.result_views = true`), a result is cast to plain types by the query itself, so that frames pass through
//! undecoded and a FlightInfo's schema is that of the stream.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use volley_sql::options::VolleyOptions;

/// The query whose rows a client of this session gets.
pub(super) fn for_client(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    if VolleyOptions::of(state.config_options()).result_views {
        return Ok(plan);
    }
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::from((qualifier, field));
            match plain(field.data_type()) {
                Some(plain) => cast(column, plain).alias_qualified(qualifier.cloned(), field.name()),
                None => column,
            }
        })
        .collect();
    if columns.iter().all(|column| matches!(column, Expr::Column(_))) {
        return Ok(plan);
    }
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// The schema that a client of this session sees instead of `schema`.
pub(super) fn schema_for_client(state: &SessionState, schema: &Schema) -> Schema {
    if VolleyOptions::of(state.config_options()).result_views {
        return schema.clone();
    }
    plain_schema(schema)
}

/// A schema of plain types alone.
pub(super) fn plain_schema(schema: &Schema) -> Schema {
    let fields: Vec<FieldRef> = schema.fields().iter().map(|field| plain_field(field).unwrap_or_else(|| Arc::clone(field))).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

/// The plain type that stands for `data_type`; `None` where it is plain already.
fn plain(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::BinaryView => Some(DataType::Binary),
        DataType::Dictionary(_, value) => Some(plain(value).unwrap_or_else(|| value.as_ref().clone())),
        DataType::ListView(item) => Some(DataType::List(plain_field(item).unwrap_or_else(|| Arc::clone(item)))),
        DataType::LargeListView(item) => Some(DataType::LargeList(plain_field(item).unwrap_or_else(|| Arc::clone(item)))),
        DataType::List(item) => plain_field(item).map(DataType::List),
        DataType::LargeList(item) => plain_field(item).map(DataType::LargeList),
        DataType::FixedSizeList(item, size) => plain_field(item).map(|item| DataType::FixedSizeList(item, *size)),
        DataType::Map(entries, sorted) => plain_field(entries).map(|entries| DataType::Map(entries, *sorted)),
        DataType::Struct(fields) => {
            let changed: Vec<_> = fields.iter().map(plain_field).collect();
            if changed.iter().all(Option::is_none) {
                return None;
            }
            let fields: Fields = changed.into_iter().zip(fields).map(|(changed, field)| changed.unwrap_or_else(|| Arc::clone(field))).collect();
            Some(DataType::Struct(fields))
        }
        _ => None,
    }
}

fn plain_field(field: &FieldRef) -> Option<FieldRef> {
    plain(field.data_type()).map(|plain| Arc::new(Field::clone(field).with_data_type(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_and_dictionaries_become_plain_however_deep() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View));
        assert_eq!(plain(&dictionary), Some(DataType::Utf8));
        let nested = DataType::List(Arc::new(Field::new(
            "item",
            DataType::Struct(Fields::from(vec![
                Field::new("a", DataType::Int64, false),
                Field::new("b", DataType::BinaryView, true),
            ])),
            true,
        )));
        assert_eq!(format!("{:?}", plain(&nested).unwrap()).matches("View").count(), 0);
        assert_eq!(plain(&DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))), None);
    }
}
