//! Names that can be completed: tables, columns, functions and settings of the session, as far as they are known.
//!
//! They are asked for when the first one is to be completed, and again after a statement that may have changed them. Who waits for them
//! does so for a moment only; the next time they are there.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use futures::StreamExt;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::error::Result;
use crate::flight::FlightClient;

/// How long a completion waits for names.
const PATIENCE: Duration = Duration::from_millis(700);

const COLUMNS: &str = "SELECT table_catalog, table_schema, table_name, column_name FROM information_schema.columns";
const FUNCTIONS: &str = "SELECT DISTINCT routine_name FROM information_schema.routines";

/// A table and its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) catalog: String,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<String>,
}

/// All names of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) tables: Vec<Table>,
    pub(super) functions: Vec<String>,
    pub(super) settings: Vec<String>,
    /// The catalog and the schema of names that name none.
    pub(super) catalog: String,
    pub(super) schema: String,
}

/// The names of a session, shared by the prompt and what runs statements.
#[derive(Debug, Clone)]
pub(crate) struct Names(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: FlightClient,
    runtime: Handle,
    state: Mutex<State>,
    loaded: Condvar,
}

#[derive(Debug, Default)]
struct State {
    known: Arc<Known>,
    is_fresh: bool,
    is_loading: bool,
}

impl Names {
    /// Names of the client's session, of which nothing is known yet. Must be called within a runtime.
    pub(crate) fn new(client: FlightClient) -> Self {
        Self(Arc::new(Shared { client, runtime: Handle::current(), state: Mutex::default(), loaded: Condvar::new() }))
    }

    /// Has them asked for again when they are needed next.
    pub(crate) fn forget(&self) {
        self.0.state.lock().is_fresh = false;
    }

    /// What is known. Must not be called on a thread of the runtime, since it waits.
    pub(super) fn known(&self) -> Arc<Known> {
        let mut state = self.0.state.lock();
        if !state.is_fresh {
            if !state.is_loading {
                state.is_loading = true;
                let shared = Arc::clone(&self.0);
                self.0.runtime.spawn(async move { shared.load().await });
            }
            self.0.loaded.wait_while_for(&mut state, |state| state.is_loading, PATIENCE);
        }
        Arc::clone(&state.known)
    }
}

impl Shared {
    async fn load(&self) {
        // What changes while they are loaded is asked for again.
        self.state.lock().is_fresh = true;
        let known = load(&self.client).await;
        let mut state = self.state.lock();
        state.is_loading = false;
        match known {
            Ok(known) => state.known = Arc::new(known),
            Err(error) => {
                state.is_fresh = false;
                tracing::debug!(%error, "names to complete could not be loaded");
            }
        }
        self.loaded.notify_all();
    }
}

async fn load(client: &FlightClient) -> Result<Known> {
    let settings = texts::<2>(client, "SHOW ALL").await?;
    let setting = |wanted: &str| settings.iter().find(|[name, _]| name == wanted).map(|[_, value]| value.clone()).unwrap_or_default();
    let (catalog, schema) = (setting("datafusion.catalog.default_catalog"), setting("datafusion.catalog.default_schema"));
    let functions = texts::<1>(client, FUNCTIONS).await?.into_iter().map(|[name]| name).collect();
    let tables = tables(texts::<4>(client, COLUMNS).await?);
    let settings = settings.into_iter().map(|[name, _]| name).collect();
    Ok(Known { tables, functions, settings, catalog, schema })
}

/// Tables of the rows that their columns are.
fn tables(mut columns: Vec<[String; 4]>) -> Vec<Table> {
    columns.sort_by(|a, b| a[..3].cmp(&b[..3]));
    let mut tables: Vec<Table> = vec![];
    for [catalog, schema, name, column] in columns {
        match tables.last_mut() {
            Some(last) if (&last.catalog, &last.schema, &last.name) == (&catalog, &schema, &name) => last.columns.push(column),
            _ => tables.push(Table { catalog, schema, name, columns: vec![column] }),
        }
    }
    tables
}

/// The rows of a statement whose first columns are texts.
async fn texts<const N: usize>(client: &FlightClient, statement: &str) -> Result<Vec<[String; N]>> {
    let execution = client.execute(statement).await?;
    let mut batches = client.fetch(&execution).await?;
    let mut rows = vec![];
    while let Some(batch) = batches.next().await {
        add(&mut rows, &batch?)?;
    }
    Ok(rows)
}

fn add<const N: usize>(rows: &mut Vec<[String; N]>, batch: &RecordBatch) -> Result<()> {
    let columns = batch.columns().iter().take(N).map(|column| cast(column, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
    let text = |at: usize, row: usize| {
        let column = columns.get(at).map(|column| column.as_string::<i32>());
        column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned()).unwrap_or_default()
    };
    rows.extend((0..batch.num_rows()).map(|row| std::array::from_fn(|at| text(at, row))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_make_tables() {
        let row = |table: &str, column: &str| ["volley", "public", table, column].map(str::to_owned);
        let made = tables(vec![row("b", "z"), row("a", "y"), row("b", "x")]);
        let names: Vec<_> = made.iter().map(|table| (table.name.as_str(), table.columns.join(" "))).collect();
        assert_eq!(names, [("a", "y".to_owned()), ("b", "z x".to_owned())]);
    }
}
