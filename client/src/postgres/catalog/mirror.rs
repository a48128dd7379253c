//! The tables of the cluster's catalog, without their rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL128_MAX_SCALE, DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use postgres_types::Type;

use crate::flight::FlightClient;
use crate::postgres::error::{Refusal, state};
use crate::postgres::flight::{self, Table};
use crate::postgres::types::{pg_type, wire_type};

/// The schema with PostgreSQL's own tables, and the one that the engine makes by itself.
const OWN: [&str; 2] = ["pg_catalog", "information_schema"];

/// The catalogs of a session.
pub(super) struct Mirror {
    context: SessionContext,
    name: String,
    catalog: Arc<dyn CatalogProvider>,
}

impl Mirror {
    pub(super) fn new(context: &SessionContext, name: &str) -> Result<Self, Refusal> {
        let lost = || Refusal::new(state::INTERNAL, format!("the copy of catalog '{name}' is not there"));
        let catalog = context.catalog(name).ok_or_else(lost)?;
        Ok(Self { context: context.clone(), name: name.to_owned(), catalog })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes over what the session sees now.
    pub(super) async fn copy(&self, client: &FlightClient) -> Result<(), Refusal> {
        for name in flight::catalogs(client).await? {
            if self.context.catalog(&name).is_none() {
                self.context.register_catalog(name, Arc::new(MemoryCatalogProvider::new()));
            }
        }
        if let Some(schema) = flight::setting(client, "datafusion.catalog.default_schema").await? {
            self.context.state_ref().write().config_mut().options_mut().catalog.default_schema = schema;
        }
        let mut schemas: BTreeMap<String, MemorySchemaProvider> = BTreeMap::from([("public".to_owned(), MemorySchemaProvider::new())]);
        for Table { schema, name, is_view, columns } in flight::tables(client, &self.name).await? {
            if !OWN.contains(&schema.as_str()) {
                let kind = if is_view { TableType::View } else { TableType::Base };
                schemas.entry(schema).or_default().register_table(name, Arc::new(Shape { columns: told(&columns), kind }))?;
            }
        }
        for gone in self.catalog.schema_names().into_iter().filter(|name| !OWN.contains(&name.as_str()) && !schemas.contains_key(name)) {
            self.catalog.deregister_schema(&gone, true)?;
        }
        for (name, tables) in schemas {
            self.catalog.register_schema(&name, Arc::new(tables))?;
        }
        Ok(())
    }
}

/// The columns with types that datafusion-pg-catalog names as the gateway sends them.
fn told(columns: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| {
        let kind = match wire_type(field.data_type()) {
            DataType::Decimal256(_, scale) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale.min(DECIMAL128_MAX_SCALE)),
            kind if pg_type(&kind) == Type::JSON => DataType::Utf8,
            kind => kind,
        };
        Field::new(field.name(), kind, field.is_nullable())
    };
    Arc::new(Schema::new(columns.fields().iter().map(field).collect::<Vec<_>>()))
}

/// What is known of a table: its columns.
#[derive(Debug)]
struct Shape {
    columns: SchemaRef,
    kind: TableType,
}

#[async_trait]
impl TableProvider for Shape {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    async fn scan(&self, _: &dyn Session, _: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::NotImplemented("the cluster's tables can't be queried together with PostgreSQL's catalog".into()))
    }
}
