//! Tables of a folder: `DIR/lineitem.parquet`, or `DIR/lineitem/` with several files in it.

use std::collections::BTreeMap;
use std::fs::read_dir;
use std::path::{Path, PathBuf};

use crate::error::{PeerError, Result};

/// A table's name, and the file or folder that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in SQL.
    pub name: String,
    /// Its absolute path.
    pub path: PathBuf,
}

impl Table {
    /// The path as a location: a folder has a slash at its end.
    pub fn location(&self) -> String {
        let slash = if self.path.is_dir() { "/" } else { "" };
        format!("{}{slash}", self.path.display())
    }
}

/// All tables of a folder, by name. Where a table has a file and a folder, the file counts, as in `volley-bench`.
pub fn find_tables(folder: &Path) -> Result<Vec<Table>> {
    let folder = std::path::absolute(folder).map_err(PeerError::at(folder.display().to_string()))?;
    let mut found = BTreeMap::new();
    for path in entries(&folder)? {
        if path.is_dir() {
            if let Some(name) = path.file_name()
                && entries(&path)?.iter().any(|path| is_parquet(path))
            {
                found.entry(name.to_string_lossy().into_owned()).or_insert(path);
            }
        } else if let Some(name) = path.file_stem()
            && is_parquet(&path)
        {
            found.insert(name.to_string_lossy().into_owned(), path);
        }
    }
    if found.is_empty() {
        return Err(PeerError::new(folder.display().to_string(), "neither NAME.parquet nor NAME/ with Parquet files is in it"));
    }
    Ok(found.into_iter().map(|(name, path)| Table { name, path }).collect())
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let at = || PeerError::at(folder.display().to_string());
    let entries = read_dir(folder).map_err(at())?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(at())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, remove_dir_all, write};

    use super::*;

    #[test]
    fn files_and_folders_are_tables() {
        let folder = std::env::temp_dir().join(format!("peer-tables-{}", std::process::id()));
        for name in ["orders", "part", "empty"] {
            create_dir_all(folder.join(name)).unwrap();
        }
        for name in ["orders/1.parquet", "part/1.parquet", "part.parquet", "nation.parquet", "notes.txt"] {
            write(folder.join(name), "").unwrap();
        }
        let found = find_tables(&folder).unwrap();
        let ends: Vec<_> = found.iter().map(|table| table.location().rsplit_once("peer-tables-").unwrap().1.to_owned()).collect();
        let ends: Vec<_> = ends.iter().map(|end| end.split_once('/').unwrap().1).collect();
        assert_eq!(found.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["nation", "orders", "part"]);
        assert_eq!(ends, ["nation.parquet", "orders/", "part.parquet"]);
        let error = find_tables(&folder.join("empty")).unwrap_err().to_string();
        assert!(error.contains("/empty: neither"), "{error}");
        remove_dir_all(&folder).unwrap();
    }
}
