//! What executors have to be told beside a plan, so that they get into the stores of its files.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use url::Url;
use volley_proto::StoreAccess;

use crate::leaf::{LeafExec, file_scan};
use crate::stores::named_in;
use crate::write::StagedWriteExec;

/// The options of stores that the files of a stage's plan are reached by, where statements gave them.
pub fn stores_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<StoreAccess> {
    let (mut urls, mut pending) = (vec![], vec![plan]);
    while let Some(node) = pending.pop() {
        let leaf = node.downcast_ref::<LeafExec>().map_or(node, LeafExec::leaf);
        if let Some(scan) = file_scan(leaf) {
            urls.extend(Url::parse(scan.object_store_url.as_str()));
        }
        if let Some(write) = node.downcast_ref::<StagedWriteExec>() {
            urls.extend(Url::parse(&write.spec().url));
        }
        pending.extend(node.children());
    }
    named_in(urls.iter())
}
