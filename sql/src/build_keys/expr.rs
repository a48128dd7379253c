//! A look into a Bloom filter, as an expression.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::bloom::Bloom;
use super::random_state;

/// Whether keys may be among those of a Bloom filter. A row without one of its keys may be told either.
#[derive(Debug, Clone)]
pub(super) struct MayContainExpr {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    bloom: Arc<Bloom>,
}

impl MayContainExpr {
    pub(super) fn new(keys: Vec<Arc<dyn PhysicalExpr>>, bloom: Arc<Bloom>) -> Self {
        Self { keys, bloom }
    }
}

impl PartialEq for MayContainExpr {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && Arc::ptr_eq(&self.bloom, &other.bloom)
    }
}

impl Eq for MayContainExpr {}

impl Hash for MayContainExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.keys.hash(state);
        Arc::as_ptr(&self.bloom).hash(state);
    }
}

impl fmt::Display for MayContainExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bloom(")?;
        for (number, key) in self.keys.iter().enumerate() {
            write!(f, "{}{key}", if number > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}

impl PhysicalExpr for MayContainExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let keys = self.keys.iter().map(|key| key.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut hashes = vec![0; rows];
        create_hashes(&keys, &random_state(), &mut hashes)?;
        let may = BooleanBuffer::collect_bool(rows, |row| self.bloom.may_contain(hashes[row]));
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(may, None))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self::new(children, Arc::clone(&self.bloom))))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
