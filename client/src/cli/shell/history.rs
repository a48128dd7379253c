//! What was typed, kept for the next shell: readable by its owner alone, each text once.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustyline::history::{DefaultHistory, History};

/// The file of what was typed.
#[derive(Debug)]
pub(super) struct HistoryFile(Option<PathBuf>);

impl HistoryFile {
    /// A file, or none.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    /// Reads what earlier shells left, and leaves each text of it once.
    pub(super) fn load(&self, history: &mut DefaultHistory) {
        let Some(path) = &self.0 else { return };
        let loaded = make_private_folder(path).map_err(Into::into).and_then(|()| match path.exists() {
            true => history.load(path).and_then(|()| compact(history, path)),
            false => Ok(()),
        });
        if let Err(error) = loaded {
            tracing::warn!(%error, file = %path.display(), "the history can't be read");
        }
    }

    /// Keeps a text, at once: a crash loses nothing, and a second shell keeps its own ones.
    pub(super) fn keep(&self, history: &mut DefaultHistory, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let is_known = history.iter().any(|entry| entry == text);
        let kept = history.add(text).and_then(|is_new| match &self.0 {
            Some(path) if is_new => {
                history.append(path)?;
                if is_known { reload(history, path) } else { Ok(()) }
            }
            _ => Ok(()),
        });
        if let Err(error) = kept {
            tracing::warn!(%error, "the history can't be written");
        }
    }
}

/// Takes over what this shell and others have written, each text once.
fn reload(history: &mut DefaultHistory, path: &Path) -> rustyline::Result<()> {
    history.clear()?;
    history.load(path)?;
    compact(history, path)
}

/// Leaves the last of equal texts.
fn compact(history: &mut DefaultHistory, path: &Path) -> rustyline::Result<()> {
    let mut seen = HashSet::new();
    let mut texts: Vec<String> = history.iter().rev().filter(|text| seen.insert((*text).clone())).cloned().collect();
    if texts.len() == history.len() {
        return Ok(());
    }
    texts.reverse();
    history.clear()?;
    for text in texts {
        history.add_owned(text)?;
    }
    // With the rights that a new file gets: those of its owner.
    history.save(path)
}

/// Makes the folder of a file, for its owner alone.
fn make_private_folder(path: &Path) -> std::io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.exists()) else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(history: &DefaultHistory) -> Vec<&str> {
        history.iter().map(String::as_str).collect()
    }

    #[test]
    fn each_text_is_kept_once_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/volley/history");
        let file = HistoryFile::new(Some(path.clone()));
        let mut first = DefaultHistory::new();
        file.load(&mut first);
        for text in ["SELECT 1;", "SELECT\n2;", "SELECT 1;", "  ", "\\d"] {
            file.keep(&mut first, text);
        }
        assert_eq!(texts(&first), ["SELECT\n2;", "SELECT 1;", "\\d"]);
        let mut second = DefaultHistory::new();
        file.load(&mut second);
        assert_eq!(texts(&second), ["SELECT\n2;", "SELECT 1;", "\\d"]);
        file.keep(&mut first, "SELECT 3;");
        file.keep(&mut second, "SELECT 4;");
        let mut third = DefaultHistory::new();
        file.load(&mut third);
        assert_eq!(texts(&third), ["SELECT\n2;", "SELECT 1;", "\\d", "SELECT 3;", "SELECT 4;"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
    }

    #[test]
    fn without_a_file_a_text_is_there_until_the_end() {
        let mut history = DefaultHistory::new();
        let file = HistoryFile::new(None);
        file.load(&mut history);
        file.keep(&mut history, "SELECT 1;");
        assert_eq!(texts(&history), ["SELECT 1;"]);
    }
}
