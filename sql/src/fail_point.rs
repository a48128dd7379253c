//! Places at which a test lets a process die: `VOLLEY_FAIL_POINT=list-journaled` kills it, as `kill -9` would, when it comes there;
//! `VOLLEY_FAIL_POINT=part-written:6s` makes the first thread that comes there sleep so long, and the process slow.
//!
//! Without the variable a place costs the look at a flag. Each stands for a moment at which a crash may lose or double rows if a write were
//! not made as it is:
//!
//! | Name | Process | When |
//! |---|---|---|
//! | `part-written` | executor | rows of a write have gone into a file or an upload |
//! | `task-written` | executor | all files of an attempt are complete, and nobody knows yet |
//! | `task-sealed` | scheduler | an attempt's files are known, and nothing is decided |
//! | `list-journaled` | scheduler | the write is decided, and nothing is published |
//! | `one-published` | scheduler | a file is published, or a table's manifest is written and nobody has it |
//! | `all-published` | scheduler | readers see everything, and the write is still in the journal |
//! | `log-entry-written` | scheduler | the log of a Delta Lake table names the files, and the write is still in the journal |
//! | `cleaned` | scheduler | nothing staged is left, and the write is still noted |

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::parse_duration;

static WANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("VOLLEY_FAIL_POINT").ok());

/// Whether a thread has slept.
static SLEPT: AtomicBool = AtomicBool::new(false);

/// Dies or sleeps here where a test wants it to.
pub fn fail_point(name: &str) {
    let Some(wanted) = WANTED.as_deref().and_then(|wanted| wanted.strip_prefix(name)) else {
        return;
    };
    if let Some(Ok(time)) = wanted.strip_prefix(':').map(parse_duration) {
        if !SLEPT.swap(true, Ordering::Relaxed) {
            tracing::warn!(name, ?time, "a thread sleeps here, as VOLLEY_FAIL_POINT says");
            std::thread::sleep(time);
        }
    } else if wanted.is_empty() {
        tracing::error!(name, "the process ends here, as VOLLEY_FAIL_POINT says");
        // No destructor runs and nothing is flushed.
        std::process::abort();
    }
}
