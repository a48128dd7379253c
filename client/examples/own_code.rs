//! A program with code of its own in its cluster: a scalar function, an aggregate, a window function, a table function with its table, and the
//! operator that scans it.
//!
//! ```sh
//! cargo run --release -p volley-client --example own_code
//! ```
//!
//! Here scheduler and executors are in this process. Programs that run them apart give the same [`Extensions`] to
//! `volley_scheduler::Scheduler::start` and `volley_executor::Executor::start`.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    Accumulator, AccumulatorFactoryFunction, ColumnarValue, Expr, PartitionEvaluator, Signature, TableType, Volatility, WindowUDF,
    WindowUDFImpl, create_udaf, create_udf,
};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use volley_client::{Context, EmbeddedOptions};
use volley_sql::extension::{Extension, Extensions};

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let extensions = Extensions::new([Arc::new(Own) as Arc<dyn Extension>]);
    let context = Context::embedded(EmbeddedOptions { extensions, ..EmbeddedOptions::default() }).await?;
    context.sql("SELECT celsius(n) AS c, n FROM countdown(3) ORDER BY n").await?.show().await?;
    context.sql("SELECT n, growth(n) OVER (ORDER BY n) AS growth FROM countdown(4)").await?.show().await?;
    context.sql("SELECT geometric_mean(n) AS mean, count(*) AS rows FROM countdown(100)").await?.show().await?;
    context.shutdown().await?;
    Ok(())
}

/// All that the program adds.
#[derive(Debug)]
pub(crate) struct Own;

impl Extension for Own {
    fn name(&self) -> &str {
        "own_code"
    }

    fn register(&self, state: &mut SessionState) -> Result<()> {
        state.register_udf(Arc::new(create_udf(
            "celsius",
            vec![DataType::Float64],
            DataType::Float64,
            Volatility::Immutable,
            Arc::new(celsius),
        )))?;
        let mean: AccumulatorFactoryFunction = Arc::new(|_| Ok(Box::new(GeometricMean::default())));
        let types = Arc::new(vec![DataType::Float64, DataType::Int64]);
        let (input, output) = (vec![DataType::Float64], Arc::new(DataType::Float64));
        state.register_udaf(Arc::new(create_udaf("geometric_mean", input, output, Volatility::Immutable, mean, types)))?;
        state.register_udwf(Arc::new(WindowUDF::from(Growth::new())))?;
        state.register_udtf("countdown", Arc::new(Countdown));
        Ok(())
    }

    fn codec(&self) -> Option<Arc<dyn PhysicalExtensionCodec>> {
        Some(Arc::new(CountdownCodec))
    }
}

/// Degrees Celsius of degrees Fahrenheit.
fn celsius(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let columns = ColumnarValue::values_to_arrays(arguments)?;
    let fahrenheit = columns[0].as_primitive::<Float64Type>();
    let celsius: Float64Array = fahrenheit.iter().map(|degrees| degrees.map(|degrees| (degrees - 32.0) / 1.8)).collect();
    Ok(ColumnarValue::Array(Arc::new(celsius)))
}

/// The n-th root of the product of n numbers: its state is the sum of their logarithms and n.
#[derive(Debug, Default)]
struct GeometricMean {
    logarithms: f64,
    count: i64,
}

impl Accumulator for GeometricMean {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.logarithms += value.ln();
            self.count += 1;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.logarithms += states[0].as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
        self.count += states[1].as_primitive::<datafusion::arrow::datatypes::Int64Type>().iter().flatten().sum::<i64>();
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::from(self.logarithms), ScalarValue::from(self.count)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mean = (self.count > 0).then(|| (self.logarithms / self.count as f64).exp());
        Ok(ScalarValue::Float64(mean))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// `growth(x)`: how much more x is than in the row before.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Growth {
    signature: Signature,
}

impl Growth {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

impl WindowUDFImpl for Growth {
    fn name(&self) -> &str {
        "growth"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, arguments: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), DataType::Float64, true)))
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(GrowthOfPartition))
    }
}

#[derive(Debug)]
struct GrowthOfPartition;

impl PartitionEvaluator for GrowthOfPartition {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let values = values[0].as_primitive::<Float64Type>();
        let value = |row: usize| values.is_valid(row).then(|| values.value(row));
        let growth: Float64Array = (0..rows).map(|row| Some(value(row)? - value(row.checked_sub(1)?)?)).collect();
        Ok(Arc::new(growth))
    }
}

/// `countdown(n)`: the numbers from n to 1.
#[derive(Debug)]
struct Countdown;

impl TableFunctionImpl for Countdown {
    fn call(&self, arguments: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        match arguments {
            [Expr::Literal(ScalarValue::Int64(Some(from)), _)] => Ok(Arc::new(CountdownTable { from: *from })),
            _ => Err(DataFusionError::Plan("countdown takes one whole number".into())),
        }
    }
}

#[derive(Debug)]
struct CountdownTable {
    from: i64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

#[async_trait]
impl TableProvider for CountdownTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let is_read = projection.is_none_or(|columns| !columns.is_empty());
        Ok(Arc::new(CountdownExec::new(self.from, is_read)))
    }
}

/// Makes the numbers.
#[derive(Debug)]
struct CountdownExec {
    from: i64,
    /// Whether the numbers are read, and not only counted.
    is_read: bool,
    properties: Arc<PlanProperties>,
}

impl CountdownExec {
    fn new(from: i64, is_read: bool) -> Self {
        let schema = if is_read { schema() } else { Arc::new(Schema::empty()) };
        let equivalence = EquivalenceProperties::new(schema);
        let partitioning = Partitioning::UnknownPartitioning(1);
        let properties = PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        Self { from, is_read, properties: Arc::new(properties) }
    }

    fn rows(&self) -> Result<RecordBatch> {
        let numbers: Int64Array = (1..=self.from).rev().collect();
        let rows = RecordBatch::try_new(schema(), vec![Arc::new(numbers)])?;
        Ok(if self.is_read { rows } else { rows.project(&[])? })
    }
}

impl DisplayAs for CountdownExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountdownExec: from={}", self.from)
    }
}

impl ExecutionPlan for CountdownExec {
    fn name(&self) -> &'static str {
        "CountdownExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = futures::stream::iter([self.rows()]);
        let schema = Arc::clone(self.properties.equivalence_properties().schema());
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// How the operator travels: the number it counts from, and whether it is read.
#[derive(Debug)]
struct CountdownCodec;

impl PhysicalExtensionCodec for CountdownCodec {
    fn try_encode(&self, node: Arc<dyn ExecutionPlan>, buf: &mut Vec<u8>, _: &dyn PhysicalProtoConverterExtension) -> Result<()> {
        let Some(node) = node.downcast_ref::<CountdownExec>() else {
            return Err(DataFusionError::NotImplemented("not a countdown".into()));
        };
        buf.extend_from_slice(&node.from.to_le_bytes());
        buf.push(u8::from(node.is_read));
        Ok(())
    }

    fn try_decode(
        &self,
        buf: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match buf.split_first_chunk::<8>() {
            Some((from, [is_read])) => Ok(Arc::new(CountdownExec::new(i64::from_le_bytes(*from), *is_read == 1))),
            _ => Err(DataFusionError::Internal("a countdown is nine bytes long".into())),
        }
    }
}
