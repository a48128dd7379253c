//! Logical plans as a client sends them: a program's `DataFrame`, planned against tables that the client knows by name alone.
//!
//! A table of the cluster is a [`RemoteTable`] in the client's plan: a query as text, and the columns that it gives. The scheduler
//! plans the text in its own session and puts the result where the table was, so that the optimizer sees through it. Rows that
//! exist in the client alone travel inside the plan. All else (listings of files, expressions) is encoded by DataFusion.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::{TableType, ViewTable};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::{logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec};
use datafusion_proto::logical_plan::{DefaultLogicalExtensionCodec, LogicalExtensionCodec};
use parking_lot::Mutex;
use prost::Message;
use volley_proto::Failure;

/// Most bytes of rows that travel inside a plan.
const MOST_ROW_BYTES: usize = 16 << 20;

/// A query of the cluster as a table of the client: what [`decode_logical_plan`] plans in the scheduler.
#[derive(Debug, Clone)]
pub struct RemoteTable {
    sql: String,
    schema: SchemaRef,
}

impl RemoteTable {
    /// The rows of a query, which the scheduler said have these columns.
    pub fn new(sql: impl Into<String>, schema: SchemaRef) -> Self {
        Self { sql: sql.into(), schema }
    }

    /// The query.
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

#[async_trait::async_trait]
impl TableProvider for RemoteTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(&self, _: &dyn Session, _: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::Plan(format!("the cluster has to run this, it can't be run here: {}", self.sql)))
    }
}

/// A plan and what its custom tables stand for.
#[derive(Clone, PartialEq, Message)]
struct SentPlan {
    #[prost(message, repeated, tag = "1")]
    leaves: Vec<Leaf>,
    /// As DataFusion encodes it; a custom table's bytes are its index in `leaves`.
    #[prost(bytes = "bytes", tag = "2")]
    plan: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Leaf {
    #[prost(oneof = "LeafRows", tags = "1, 2")]
    rows: Option<LeafRows>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum LeafRows {
    #[prost(string, tag = "1")]
    Sql(String),
    /// An Arrow IPC stream.
    #[prost(bytes = "bytes", tag = "2")]
    Ipc(Bytes),
}

/// Encodes a client's plan, best after the logical optimizer: it has made joins of subqueries, which can't be encoded.
pub fn encode_logical_plan(plan: &LogicalPlan) -> Result<Bytes> {
    let codec = Encoder::default();
    let plan = logical_plan_to_bytes_with_extension_codec(plan, &codec)?;
    Ok(SentPlan { leaves: codec.leaves.into_inner(), plan }.encode_to_vec().into())
}

/// Decodes a client's plan in a session of the scheduler: the tables of the cluster are those that the session sees.
pub async fn decode_logical_plan(bytes: &[u8], state: &SessionState) -> Result<LogicalPlan> {
    let sent = SentPlan::decode(bytes).map_err(|error| DataFusionError::Plan(format!("plan can't be decoded: {error}")))?;
    let mut tables: Vec<Arc<dyn TableProvider>> = Vec::with_capacity(sent.leaves.len());
    for leaf in sent.leaves {
        tables.push(match leaf.rows {
            Some(LeafRows::Sql(sql)) => Arc::new(ViewTable::new(query(state, &sql).await?, Some(sql))),
            Some(LeafRows::Ipc(rows)) => decode_rows(&rows)?,
            None => return Err(DataFusionError::Plan("plan can't be decoded: it has a table of an unknown kind".into())),
        });
    }
    logical_plan_from_bytes_with_extension_codec(&sent.plan, &state.task_ctx(), &Decoder { tables })
}

/// The plan of a query; anything else than a query is refused, for it might have effects.
async fn query(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    // Within the limits of any statement: this text came from a client too.
    crate::statement::parse_one(sql).map_err(|error| DataFusionError::External(Box::new(Failure::from(error))))?;
    let plan = state.create_logical_plan(sql).await?;
    match plan {
        LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => {
            Err(DataFusionError::Plan(format!("only a query can be a table, not: {sql}")))
        }
        query => Ok(query),
    }
}

fn encode_rows(table: &MemTable) -> Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), &table.schema())?;
    for partition in &table.batches {
        let partition = partition.try_read().map_err(|_| DataFusionError::Plan("a table in memory is being written to".into()))?;
        for batch in partition.iter() {
            writer.write(batch)?;
        }
    }
    let bytes = writer.into_inner()?;
    if bytes.len() > MOST_ROW_BYTES {
        let message = format!("a table in memory has {} bytes, but at most {MOST_ROW_BYTES} are sent: write it to a file", bytes.len());
        return Err(DataFusionError::Plan(message));
    }
    Ok(bytes.into())
}

fn decode_rows(ipc: &Bytes) -> Result<Arc<dyn TableProvider>> {
    let reader = StreamReader::try_new(std::io::Cursor::new(ipc), None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<RecordBatch>, _>>()?;
    Ok(Arc::new(MemTable::try_new(schema, vec![batches])?))
}

#[derive(Debug, Default)]
struct Encoder {
    leaves: Mutex<Vec<Leaf>>,
}

#[derive(Debug)]
struct Decoder {
    tables: Vec<Arc<dyn TableProvider>>,
}

fn no_extension<T>() -> Result<T> {
    Err(DataFusionError::NotImplemented("plan nodes of your own can't be sent to the cluster".into()))
}

impl LogicalExtensionCodec for Encoder {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> Result<Extension> {
        no_extension()
    }

    fn try_encode(&self, _: &Extension, _: &mut Vec<u8>) -> Result<()> {
        no_extension()
    }

    fn try_decode_table_provider(&self, _: &[u8], _: &TableReference, _: SchemaRef, _: &TaskContext) -> Result<Arc<dyn TableProvider>> {
        no_extension()
    }

    fn try_encode_table_provider(&self, name: &TableReference, table: Arc<dyn TableProvider>, buffer: &mut Vec<u8>) -> Result<()> {
        let rows = if let Some(remote) = table.downcast_ref::<RemoteTable>() {
            LeafRows::Sql(remote.sql.clone())
        } else if let Some(memory) = table.downcast_ref::<MemTable>() {
            LeafRows::Ipc(encode_rows(memory)?)
        } else {
            let message = format!("table '{name}' is of a kind that can't be sent to the cluster: use files or tables of the cluster");
            return Err(DataFusionError::Plan(message));
        };
        let mut leaves = self.leaves.lock();
        let index = u32::try_from(leaves.len()).map_err(|_| DataFusionError::Plan("the plan has too many tables".into()))?;
        buffer.extend(index.to_le_bytes());
        leaves.push(Leaf { rows: Some(rows) });
        Ok(())
    }

    fn try_encode_file_format(
        &self,
        buffer: &mut Vec<u8>,
        format: Arc<dyn datafusion::datasource::file_format::FileFormatFactory>,
    ) -> Result<()> {
        DefaultLogicalExtensionCodec {}.try_encode_file_format(buffer, format)
    }
}

impl LogicalExtensionCodec for Decoder {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> Result<Extension> {
        no_extension()
    }

    fn try_encode(&self, _: &Extension, _: &mut Vec<u8>) -> Result<()> {
        no_extension()
    }

    fn try_decode_table_provider(
        &self,
        bytes: &[u8],
        name: &TableReference,
        _: SchemaRef,
        _: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        let index = bytes.try_into().ok().map(|bytes| u32::from_le_bytes(bytes) as usize);
        let table = index.and_then(|index| self.tables.get(index));
        table.cloned().ok_or_else(|| DataFusionError::Plan(format!("plan can't be decoded: it says nothing of table '{name}'")))
    }

    fn try_encode_table_provider(&self, _: &TableReference, _: Arc<dyn TableProvider>, _: &mut Vec<u8>) -> Result<()> {
        no_extension()
    }

    fn try_decode_file_format(
        &self,
        bytes: &[u8],
        context: &TaskContext,
    ) -> Result<Arc<dyn datafusion::datasource::file_format::FileFormatFactory>> {
        DefaultLogicalExtensionCodec {}.try_decode_file_format(bytes, context)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::functions_aggregate::expr_fn::sum;
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
    use datafusion::prelude::{DataFrame, SessionContext};

    use super::*;

    async fn there() -> SessionContext {
        let scheduler = SessionContext::new();
        let table = "CREATE TABLE t AS SELECT column1 AS k, column2 AS v FROM (VALUES (1, 10), (1, 20), (2, 30)) AS r";
        scheduler.sql(table).await.unwrap().collect().await.unwrap();
        scheduler
    }

    async fn remote(client: &SessionContext, scheduler: &SessionContext, sql: &str) -> DataFrame {
        let schema = Arc::clone(scheduler.sql(sql).await.unwrap().schema().inner());
        client.read_table(Arc::new(RemoteTable::new(sql, schema))).unwrap()
    }

    async fn run_there(scheduler: &SessionContext, frame: DataFrame) -> String {
        let plan = frame.into_optimized_plan().unwrap();
        let bytes = encode_logical_plan(&plan).unwrap();
        let plan = decode_logical_plan(&bytes, &scheduler.state()).await.unwrap();
        let rows = scheduler.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    }

    #[tokio::test]
    async fn a_program_over_a_query_of_the_cluster_runs_there() {
        let (client, scheduler) = (SessionContext::new(), there().await);
        let frame = remote(&client, &scheduler, "SELECT k, v FROM t").await;
        let frame = frame.filter(col("v").gt(lit(10))).unwrap().aggregate(vec![col("k")], vec![sum(col("v"))]).unwrap();
        let frame = frame.sort(vec![col("k").sort(true, false)]).unwrap();
        let rows = run_there(&scheduler, frame).await;
        assert!(rows.contains("| 1 | 20 ") && rows.contains("| 2 | 30 "), "{rows}");
    }

    #[tokio::test]
    async fn rows_of_the_client_travel_with_the_plan() {
        let (client, scheduler) = (SessionContext::new(), there().await);
        let names = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![2])) as ArrayRef)]).unwrap();
        let names = client.read_batch(names).unwrap().alias("n").unwrap();
        let frame = remote(&client, &scheduler, "SELECT * FROM t").await.alias("r").unwrap();
        let plan = LogicalPlanBuilder::from(frame.logical_plan().clone())
            .join_on(names.logical_plan().clone(), datafusion::common::JoinType::Inner, [col("r.k").eq(col("n.id"))])
            .unwrap();
        let frame = DataFrame::new(client.state(), plan.build().unwrap());
        let rows = run_there(&scheduler, frame).await;
        assert!(rows.contains("| 2 | 30 | 2  |"), "{rows}");
    }

    #[tokio::test]
    async fn a_statement_with_effects_is_no_table() {
        let scheduler = there().await;
        let schema = Arc::new(datafusion::arrow::datatypes::Schema::empty());
        let client = SessionContext::new();
        let frame = client.read_table(Arc::new(RemoteTable::new("DROP TABLE t", schema))).unwrap();
        let bytes = encode_logical_plan(frame.logical_plan()).unwrap();
        let error = decode_logical_plan(&bytes, &scheduler.state()).await.unwrap_err();
        assert!(error.to_string().contains("only a query can be a table, not: DROP TABLE t"), "{error}");
        assert!(scheduler.table_exist("t").unwrap());
    }

    #[tokio::test]
    async fn a_remote_table_does_not_run_here() {
        let (client, scheduler) = (SessionContext::new(), there().await);
        let error = remote(&client, &scheduler, "SELECT k FROM t").await.collect().await.unwrap_err();
        assert!(error.to_string().contains("it can't be run here"), "{error}");
    }
}
