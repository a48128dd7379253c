//! Local files of an attempt that does not end well: they go with it, for nobody looks for them later where a table keeps the staging place.

use std::path::PathBuf;

/// Files that are removed when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    files: Vec<PathBuf>,
}

impl Unfinished {
    /// A file that is about to be made.
    pub(super) fn note(&mut self, file: PathBuf) {
        self.files.push(file);
    }

    /// The attempt has ended well: its files stay.
    pub(super) fn keep(mut self) {
        self.files.clear();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for file in &self.files {
            // Its directory may be gone already.
            let _ = std::fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_unless_they_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (name, keeps) in [("kept", true), ("dropped", false)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").unwrap();
            let mut unfinished = Unfinished::default();
            unfinished.note(path.clone());
            if keeps {
                unfinished.keep();
            } else {
                drop(unfinished);
            }
            assert_eq!(path.exists(), keeps, "{name}");
        }
    }
}
