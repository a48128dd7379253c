//! Types at the client boundary. Views and dictionaries are how we compute, and some clients can't read them: unless a session asks
//! for them (`SET volley.result_views = true`), a result is cast to plain types by the query itself, so that frames pass through
//! undecoded and a FlightInfo's schema is that of the stream.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use volley_sql::options::VolleyOptions;

/// Which types are not plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// Dictionaries.
    ButViews,
    /// Dictionaries and views.
    All,
}

/// The query whose rows a client of this session gets.
pub(super) fn for_client(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let rule = rule(state);
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::from((qualifier, field));
            match plain(field.data_type(), rule) {
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
    plain_schema_by(schema, rule(state))
}

/// A schema of plain types alone.
pub(super) fn plain_schema(schema: &Schema) -> Schema {
    plain_schema_by(schema, Plain::All)
}

/// Dictionaries are never kept: executors hydrate them in results whatever the session says.
fn rule(state: &SessionState) -> Plain {
    if VolleyOptions::of(state.config_options()).result_views { Plain::ButViews } else { Plain::All }
}

fn plain_schema_by(schema: &Schema, rule: Plain) -> Schema {
    let field = |field: &FieldRef| plain_field(field, rule).unwrap_or_else(|| Arc::clone(field));
    let fields: Vec<FieldRef> = schema.fields().iter().map(field).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

/// The plain type that stands for `data_type`; `None` where it is plain already.
fn plain(data_type: &DataType, rule: Plain) -> Option<DataType> {
    let or_same = |field: &FieldRef| plain_field(field, rule).unwrap_or_else(|| Arc::clone(field));
    match data_type {
        DataType::Utf8View if rule == Plain::All => Some(DataType::Utf8),
        DataType::BinaryView if rule == Plain::All => Some(DataType::Binary),
        DataType::ListView(item) if rule == Plain::All => Some(DataType::List(or_same(item))),
        DataType::LargeListView(item) if rule == Plain::All => Some(DataType::LargeList(or_same(item))),
        DataType::Dictionary(_, value) => Some(plain(value, rule).unwrap_or_else(|| value.as_ref().clone())),
        DataType::List(item) => plain_field(item, rule).map(DataType::List),
        DataType::LargeList(item) => plain_field(item, rule).map(DataType::LargeList),
        DataType::FixedSizeList(item, size) => plain_field(item, rule).map(|item| DataType::FixedSizeList(item, *size)),
        DataType::Map(entries, sorted) => plain_field(entries, rule).map(|entries| DataType::Map(entries, *sorted)),
        DataType::Struct(fields) => {
            let changed = fields.iter().any(|field| plain(field.data_type(), rule).is_some());
            changed.then(|| DataType::Struct(fields.iter().map(or_same).collect::<Fields>()))
        }
        _ => None,
    }
}

fn plain_field(field: &FieldRef, rule: Plain) -> Option<FieldRef> {
    plain(field.data_type(), rule).map(|plain| Arc::new(Field::clone(field).with_data_type(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_and_dictionaries_become_plain_however_deep() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View));
        assert_eq!(plain(&dictionary, Plain::All), Some(DataType::Utf8));
        assert_eq!(plain(&dictionary, Plain::ButViews), Some(DataType::Utf8View));
        let nested = DataType::List(Arc::new(Field::new(
            "item",
            DataType::Struct(Fields::from(vec![Field::new("a", DataType::Int64, false), Field::new("b", DataType::BinaryView, true)])),
            true,
        )));
        assert_eq!(format!("{:?}", plain(&nested, Plain::All).unwrap()).matches("View").count(), 0);
        assert_eq!(plain(&nested, Plain::ButViews), None);
        assert_eq!(plain(&DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), Plain::All), None);
    }
}
