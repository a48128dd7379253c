//! Where a suite's tables are: `DIR/lineitem.parquet`, or `DIR/lineitem/` for several files.

use std::path::{Path, PathBuf};

use crate::error::{BenchError, Result};
use crate::suite::Suite;

/// A directory with the tables of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The suite.
    pub suite: Suite,
    /// The directory, absolute.
    pub folder: PathBuf,
    /// Name and absolute path of each table.
    pub tables: Vec<(&'static str, PathBuf)>,
}

impl Data {
    /// Finds all tables of a suite below a directory.
    pub fn find(suite: Suite, directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory).map_err(BenchError::file(directory))?;
        let find = |table: &&'static str| {
            let file = file_of(&directory, table);
            let folder = folder_of(&directory, table);
            let place = if file.is_file() { Some(file) } else { folder.is_dir().then_some(folder) };
            let missing = || {
                BenchError::Usage(format!(
                    "there is no {table}.parquet and no {table}/ in {}: volley-bench gen {suite} --out {} makes them",
                    directory.display(),
                    directory.display()
                ))
            };
            Ok((*table, place.ok_or_else(missing)?))
        };
        let tables = suite.tables().iter().map(find).collect::<Result<_>>()?;
        Ok(Self { suite, folder: directory, tables })
    }
}

/// A table's file, where it is one.
pub(crate) fn file_of(directory: &Path, table: &str) -> PathBuf {
    directory.join(format!("{table}.parquet"))
}

/// A table's folder, where it has several files.
pub(crate) fn folder_of(directory: &Path, table: &str) -> PathBuf {
    directory.join(table)
}
