//! The folder that one life of an executor spills into.
//!
//! ```text
//! <work-dir>/executors.lock           held while folders are made or swept
//! <work-dir>/executor-i42/lock        held as long as the executor lives
//! <work-dir>/executor-i42/{exchange,spill}/
//! ```
//!
//! Several executors may be given the same work directory: each has a folder of its own, locked, and sweeps away those whose
//! owner is gone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use volley_proto::Incarnation;

use crate::error::StartError;

const PREFIX: &str = "executor-";
/// Of its own name: a scheduler that is given the same directory holds `lock` for life.
const GATE: &str = "executors.lock";
const LOCK: &str = "lock";
const REMOVE_ATTEMPTS: u32 = 3;
const CREATE_ATTEMPTS: u32 = 10;

/// A folder of its own for one executor, removed when dropped.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    /// Held until the folder is gone.
    _lock: File,
}

/// Makes a file in a folder that is made where it is missing. One that starts at the same time may just take the folder away again.
pub(crate) fn create_in(folder: &Path, name: &str) -> io::Result<File> {
    for _ in 0..CREATE_ATTEMPTS {
        fs::create_dir_all(folder)?;
        match File::create(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            created => return created,
        }
    }
    File::create(folder.join(name))
}

impl WorkDir {
    /// Sweeps what dead executors left in `root` and makes a folder for this one.
    pub(crate) fn claim(root: &Path, incarnation: Incarnation) -> Result<Self, StartError> {
        Self::try_claim(root, incarnation).map_err(|source| StartError::WorkDir { path: root.to_owned(), source })
    }

    fn try_claim(root: &Path, incarnation: Incarnation) -> io::Result<Self> {
        // No other executor may take a folder for abandoned between its making and its locking.
        let gate = create_in(root, GATE)?;
        gate.lock()?;
        sweep(root);
        let path = root.join(format!("{PREFIX}{incarnation}"));
        fs::create_dir(&path)?;
        let locked = File::create(path.join(LOCK)).and_then(|lock| lock.lock().map(|()| lock));
        let lock = locked.inspect_err(|_| {
            // The error at hand says more than one about the folder would; what is left the next executor here sweeps.
            let _ = fs::remove_dir_all(&path);
        })?;
        let dir = Self { path, _lock: lock };
        for folder in [dir.exchange(), dir.spill()] {
            fs::create_dir(folder)?;
        }
        Ok(dir)
    }

    /// Where the partition store writes.
    pub(crate) fn exchange(&self) -> PathBuf {
        self.path.join("exchange")
    }

    /// Where operators spill.
    pub(crate) fn spill(&self) -> PathBuf {
        self.path.join("spill")
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let mut removed = fs::remove_dir_all(&self.path);
        for _ in 1..REMOVE_ATTEMPTS {
            // A compute thread may have been making its last file in there.
            removed = removed.or_else(|_| fs::remove_dir_all(&self.path));
        }
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "the work directory can't be removed; the next executor here removes it");
        }
    }
}

/// Removes the folders whose owner is gone. What can't be removed is left for the next start: this one can do without.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    let folders = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for path in folders.map(|entry| entry.path()) {
        if let Err(error) = remove_abandoned(&path) {
            tracing::warn!(path = %path.display(), %error, "an abandoned work directory can't be removed");
        }
    }
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    let lock = match File::open(path.join(LOCK)) {
        Ok(lock) => lock,
        // Its owner died before it locked; nobody makes folders while the gate is held.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::remove_dir_all(path),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => fs::remove_dir_all(path),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(root: &Path) -> Vec<String> {
        let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(PREFIX)).collect();
        names.sort();
        names
    }

    #[test]
    fn executors_share_a_root_and_leave_nothing() {
        let root = tempfile::tempdir().unwrap();
        let first = WorkDir::claim(root.path(), Incarnation(1)).unwrap();
        let second = WorkDir::claim(root.path(), Incarnation(2)).unwrap();
        assert_eq!(folders(root.path()), ["executor-i1", "executor-i2"]);
        drop(first);
        assert_eq!(folders(root.path()), ["executor-i2"]);
        drop(second);
        assert!(folders(root.path()).is_empty());
    }

    #[test]
    fn what_a_killed_executor_left_is_swept() {
        let root = tempfile::tempdir().unwrap();
        for (name, locked) in [("executor-i7", true), ("executor-i8", false)] {
            let path = root.path().join(name);
            fs::create_dir_all(path.join("spill")).unwrap();
            fs::write(path.join("spill/rows"), b"rows").unwrap();
            if locked {
                File::create(path.join(LOCK)).unwrap();
            }
        }
        let dir = WorkDir::claim(root.path(), Incarnation(9)).unwrap();
        assert_eq!(folders(root.path()), ["executor-i9"]);
        drop(dir);
    }

    #[test]
    fn the_state_directory_of_a_scheduler_may_be_the_root() {
        let root = tempfile::tempdir().unwrap();
        let held = File::create(root.path().join("lock")).unwrap();
        held.lock().unwrap();
        drop(WorkDir::claim(root.path(), Incarnation(1)).unwrap());
    }

    #[test]
    fn a_root_that_is_a_file_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = WorkDir::claim(file.path(), Incarnation(1)).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()) && error.contains("--work-dir"), "{error}");
    }
}
