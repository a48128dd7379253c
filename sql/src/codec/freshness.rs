//! Whether the files that a task reads are still the ones that were planned.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use volley_proto::Failure;

use crate::leaf::file_scan;

/// Requests that may be under way at once.
const CONCURRENT_HEADS: usize = 8;

/// Fails with a `Failure` of remedy `Query` that names the file if a file of a task's plan has changed since planning.
///
/// A footer that was cached, a split of a shorter file or two versions in one answer would give wrong rows without a word; a
/// task therefore asks before it reads and again before its output is sealed.
pub async fn check_files(plan: &Arc<dyn ExecutionPlan>, context: &TaskContext) -> Result<()> {
    let checks = planned_files(plan)?.into_iter().map(|((url, location), planned)| async move {
        let store = context.runtime_env().object_store(&url)?;
        check_file(store.as_ref(), &url, &location, &planned).await
    });
    stream::iter(checks).buffer_unordered(CONCURRENT_HEADS).try_collect().await
}

fn planned_files(plan: &Arc<dyn ExecutionPlan>) -> Result<HashMap<(ObjectStoreUrl, Path), ObjectMeta>> {
    let mut files = HashMap::new();
    plan.apply(|node| {
        if let Some(scan) = file_scan(node) {
            for file in scan.file_groups.iter().flat_map(|group| group.files()) {
                let meta = file.object_meta.clone();
                files.insert((scan.object_store_url.clone(), meta.location.clone()), meta);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(files)
}

async fn check_file(store: &dyn ObjectStore, url: &ObjectStoreUrl, location: &Path, planned: &ObjectMeta) -> Result<()> {
    let now = match store.head(location).await {
        Ok(now) => now,
        Err(object_store::Error::NotFound { .. }) => return Err(changed(url, location, "it was removed")),
        Err(error) => return Err(DataFusionError::ObjectStore(Box::new(error))),
    };
    let bare = |tag: &str| tag.trim_start_matches("W/").trim_matches('"').to_owned();
    let tags_differ = matches!((&now.e_tag, &planned.e_tag), (Some(now), Some(planned)) if bare(now) != bare(planned));
    if now.size != planned.size {
        return Err(changed(url, location, &format!("it had {} bytes and has {}", planned.size, now.size)));
    }
    // Files of a log never change, and what it says of their time is that of the writer.
    let is_dated = planned.last_modified != DateTime::UNIX_EPOCH;
    if is_dated && (tags_differ || !is_same_time(now.last_modified, planned.last_modified)) {
        return Err(changed(url, location, &format!("it was written at {} instead of {}", now.last_modified, planned.last_modified)));
    }
    Ok(())
}

/// Whether two times of a file may be the same. A store may tell them to the second in one answer and finer in another.
fn is_same_time(a: DateTime<Utc>, b: DateTime<Utc>) -> bool {
    let is_whole = |time: DateTime<Utc>| time.timestamp_subsec_nanos() == 0;
    if is_whole(a) || is_whole(b) { a.timestamp() == b.timestamp() } else { a == b }
}

fn changed(url: &ObjectStoreUrl, location: &Path, how: &str) -> DataFusionError {
    let message = format!("file {}{location} changed while the query ran: {how}; run the query again", url.as_str());
    DataFusionError::External(Box::new(Failure::query(message)))
}
