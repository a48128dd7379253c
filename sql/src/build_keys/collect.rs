//! Keys are collected while rows are written to an exchange.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, UInt64Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::PhysicalExpr;
use parking_lot::Mutex;

use super::bloom::Bloom;
use super::{BITS_PER_KEY, random_state};

/// What a stage tells of its rows: keys of them, and how large a Bloom filter of these is.
#[derive(Debug, Clone)]
pub struct BuildKeys {
    /// Expressions over the stage's rows, in the order of the join's keys.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Bytes of the Bloom filter; 0 for none.
    pub bloom_bytes: usize,
    /// The partition in which it is told: the one behind those of the stage's exchange.
    pub partition: u32,
    /// Tasks of the stage.
    pub tasks: u64,
}

impl BuildKeys {
    /// The columns of a summary for rows of `input`: the least and the greatest value of each key, the number of rows that have
    /// all keys, and the Bloom filter.
    pub fn schema(&self, input: &Schema) -> Result<SchemaRef> {
        let mut fields = vec![];
        for (number, key) in self.keys.iter().enumerate() {
            let data_type = key.data_type(input)?;
            fields.push(Field::new(format!("least_{number}"), data_type.clone(), true));
            fields.push(Field::new(format!("greatest_{number}"), data_type, true));
        }
        fields.push(Field::new("rows", DataType::UInt64, false));
        fields.push(Field::new("bloom", DataType::Binary, true));
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// Collects the keys of one task, from all its partitions.
#[derive(Debug)]
pub(crate) struct Collector {
    spec: BuildKeys,
    schema: SchemaRef,
    /// `None` where there is no memory for it. The summary has bounds alone then, as it has where more keys came than it has room for.
    bloom: Option<Bloom>,
    merged: Mutex<Merged>,
    _memory: MemoryReservation,
}

#[derive(Debug)]
struct Merged {
    bounds: Vec<Bounds>,
    rows: u64,
    /// Partitions that have not ended.
    open: usize,
}

#[derive(Debug)]
struct Bounds {
    least: MinAccumulator,
    greatest: MaxAccumulator,
}

impl Bounds {
    fn of_none(data_type: &DataType) -> Result<Self> {
        Ok(Self { least: MinAccumulator::try_new(data_type)?, greatest: MaxAccumulator::try_new(data_type)? })
    }

    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let values = std::slice::from_ref(values);
        self.least.update_batch(values)?;
        self.greatest.update_batch(values)
    }

    fn merge(&mut self, mut other: Self) -> Result<()> {
        self.least.merge_batch(&[other.least.evaluate()?.to_array()?])?;
        self.greatest.merge_batch(&[other.greatest.evaluate()?.to_array()?])
    }
}

impl Collector {
    /// For `partitions` partitions of rows of `input`.
    pub(crate) fn try_new(spec: BuildKeys, input: &Schema, partitions: usize, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let schema = spec.schema(input)?;
        let memory = MemoryConsumer::new("BuildKeys").register(pool);
        let has_memory = spec.bloom_bytes > 0 && memory.try_grow(spec.bloom_bytes).is_ok();
        let bloom = has_memory.then(|| Bloom::new(spec.bloom_bytes));
        let bounds = bounds_of_none(&schema, spec.keys.len())?;
        let merged = Mutex::new(Merged { bounds, rows: 0, open: partitions });
        Ok(Self { spec, schema, bloom, merged, _memory: memory })
    }

    /// Starts on one partition.
    pub(crate) fn partition(self: Arc<Self>) -> Result<Collecting> {
        let bounds = bounds_of_none(&self.schema, self.spec.keys.len())?;
        Ok(Collecting { collector: self, bounds, rows: 0, random_state: random_state(), hashes: vec![] })
    }

    fn summary(&self, merged: &mut Merged) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![];
        for bounds in &mut merged.bounds {
            let ends: [ScalarValue; 2] = [bounds.least.evaluate()?, bounds.greatest.evaluate()?];
            for end in ends {
                columns.push(end.to_array()?);
            }
        }
        columns.push(Arc::new(UInt64Array::from(vec![merged.rows])));
        // Those of all tasks are put together: in one of this size there is room for the keys of as many tasks as large as this one.
        let keys = merged.rows.saturating_mul(self.spec.tasks.max(1));
        let bloom = self.bloom.as_ref().filter(|bloom| !bloom.is_full());
        let bloom = bloom.map(|bloom| bloom.fitted(keys, BITS_PER_KEY).to_bytes());
        columns.push(Arc::new(BinaryArray::from_opt_vec(vec![bloom.as_deref()])));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn bounds_of_none(schema: &SchemaRef, keys: usize) -> Result<Vec<Bounds>> {
    (0..keys).map(|key| Bounds::of_none(schema.field(2 * key).data_type())).collect()
}

/// Collects the keys of one partition.
#[derive(Debug)]
pub(crate) struct Collecting {
    collector: Arc<Collector>,
    bounds: Vec<Bounds>,
    rows: u64,
    random_state: RandomState,
    hashes: Vec<u64>,
}

impl Collecting {
    /// Takes the keys of some rows. A row without one of them has no match.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let keys = self.collector.spec.keys.iter().map(|key| key.evaluate(batch)?.into_array(rows));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        for (bounds, key) in self.bounds.iter_mut().zip(&keys) {
            bounds.add(key)?;
        }
        let nulls = keys.iter().fold(None, |nulls, key| NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref()));
        self.rows += (rows - nulls.as_ref().map_or(0, NullBuffer::null_count)) as u64;
        let Some(bloom) = &self.collector.bloom else { return Ok(()) };
        self.hashes.clear();
        self.hashes.resize(rows, 0);
        create_hashes(&keys, &self.random_state, &mut self.hashes)?;
        match nulls {
            None => self.hashes.iter().for_each(|hash| bloom.insert(*hash)),
            Some(nulls) => nulls.valid_indices().for_each(|row| bloom.insert(self.hashes[row])),
        }
        Ok(())
    }

    /// Ends; the last partition of a task gives the summary of all.
    pub(crate) fn finish(self) -> Result<Option<RecordBatch>> {
        let mut merged = self.collector.merged.lock();
        for (all, bounds) in merged.bounds.iter_mut().zip(self.bounds) {
            all.merge(bounds)?;
        }
        merged.rows += self.rows;
        merged.open = merged.open.saturating_sub(1);
        if merged.open == 0 { self.collector.summary(&mut merged).map(Some) } else { Ok(None) }
    }
}
