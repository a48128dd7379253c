//! Which tables exist, at which scale, and how large they are.

use std::fmt;
use std::str::FromStr;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::error::{DataFusionError, Result};

use super::exec::GeneratorSplit;
use super::{tpcds, tpch};

/// What a generator yields.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// A benchmark whose tables can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// TPC-H.
    TpcH,
    /// TPC-DS.
    TpcDs,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::TpcH, Self::TpcDs];

    /// The name of its catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::TpcH => "tpch",
            Self::TpcDs => "tpcds",
        }
    }

    /// The names of its tables.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::TpcH => tpch::TABLES,
            Self::TpcDs => tpcds::TABLES,
        }
    }

    /// The table `name` at `scale`, if there is one.
    pub fn table(self, name: &str, scale: Scale) -> Option<GeneratedTable> {
        let name = self.tables().iter().find(|table| **table == name)?;
        Some(GeneratedTable { suite: self, name, scale })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = DataFusionError;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.name() == text)
            .ok_or_else(|| DataFusionError::Plan(format!("'{text}' is none of the generated catalogs tpch and tpcds")))
    }
}

/// How large a suite's tables are: about so many gigabytes.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Scale(f64);

/// The scale in millionths: what a schema name can spell.
impl Eq for Scale {}

impl Scale {
    /// Scales that a catalog lists; any other from 0.001 to 100,000 exists as well.
    pub const LISTED: [Self; 6] = [Self(0.01), Self(0.1), Self(1.0), Self(10.0), Self(100.0), Self(1000.0)];

    /// The scale as a number.
    pub fn factor(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sf{}", self.0.to_string().replace('.', "_"))
    }
}

impl FromStr for Scale {
    type Err = DataFusionError;

    /// Reads a schema name: `sf10`, `sf0_1`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || DataFusionError::Plan(format!("'{text}' is not a scale such as sf1, sf10 or sf0_01, from sf0_001 to sf100000"));
        let digits = text.strip_prefix("sf").ok_or_else(wrong)?;
        let spelled = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '_');
        let factor: f64 = digits.replacen('_', ".", 1).parse().map_err(|_| wrong())?;
        if spelled && (0.001..=100_000.0).contains(&factor) { Ok(Self(factor)) } else { Err(wrong()) }
    }
}

/// One table of a suite at a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneratedTable {
    suite: Suite,
    name: &'static str,
    scale: Scale,
}

impl GeneratedTable {
    /// The suite that it belongs to.
    pub fn suite(self) -> Suite {
        self.suite
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Its scale.
    pub fn scale(self) -> Scale {
        self.scale
    }

    /// Its columns.
    pub fn schema(self) -> SchemaRef {
        match self.suite {
            Suite::TpcH => tpch::schema(self.name),
            Suite::TpcDs => tpcds::schema(self.name),
        }
    }

    /// How many rows it has; an estimate where only generating them would tell.
    pub fn rows(self) -> Precision<usize> {
        match self.suite {
            Suite::TpcH => tpch::rows(self.name, self.scale.factor()),
            Suite::TpcDs => tpcds::rows(self.name, self.scale.factor()),
        }
    }

    /// The most parts that it can be generated in; 1 where a row depends on the one before.
    pub fn most_parts(self) -> usize {
        match self.suite {
            Suite::TpcH => tpch::most_parts(self.name, self.scale.factor()),
            Suite::TpcDs => tpcds::most_parts(self.name, self.scale.factor()),
        }
    }

    /// Estimated bytes of a row in memory.
    pub fn row_bytes(self) -> usize {
        self.schema().fields().iter().map(|field| column_bytes(field.data_type())).sum()
    }

    /// The rows of one part.
    pub(super) fn generate(self, split: GeneratorSplit, batch_size: usize) -> Result<Batches> {
        match self.suite {
            Suite::TpcH => tpch::generate(self.name, self.scale.factor(), split, batch_size),
            Suite::TpcDs => tpcds::generate(self.name, self.scale.factor(), split, batch_size),
        }
    }
}

impl fmt::Display for GeneratedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.suite, self.scale, self.name)
    }
}

/// Estimated bytes of one value; strings of these suites are some 20 characters long.
pub(super) fn column_bytes(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(36)
}
