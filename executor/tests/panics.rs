//! A panic below a plan: of the engine, of a user's code, or, here, of an object store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use futures::stream::BoxStream;
use volley_proto::{JobId, Remedy};

use super::support::{CUT, Runner, write_table};

/// The local files, reading which panics while `armed`.
#[derive(Debug)]
struct Panicking {
    files: LocalFileSystem,
    armed: AtomicBool,
}

impl fmt::Display for Panicking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("panicking")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Panicking {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.files.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        assert!(options.head || !self.armed.load(Ordering::SeqCst), "the store lost its mind");
        self.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

#[test]
fn a_panic_fails_its_task_with_its_words_and_the_next_task_runs() {
    let runner = Runner::new(1, 1 << 30);
    let table = write_table(&runner.io, runner.dir.path(), "t", 2, 1000);
    let store = Arc::new(Panicking { files: LocalFileSystem::new(), armed: AtomicBool::new(true) });
    runner.runtime.register_object_store(ObjectStoreUrl::local_filesystem().as_ref(), Arc::clone(&store) as _);
    let (sql, tables) = ("SELECT count(*) FROM t WHERE length(text) > 0", [("t", table.as_path())]);

    let failure = runner.query(JobId(1), sql, CUT, &tables).unwrap_err();
    assert_eq!(failure.remedy, Remedy::Internal, "{failure}");
    assert!(failure.message.contains("panicked: the store lost its mind"), "{failure}");
    assert!(failure.message.contains(".parquet"), "it says what was read: {failure}");
    runner.runner.forget_job(JobId(1));
    runner.wait(runner.runner.settled());

    store.armed.store(false, Ordering::SeqCst);
    assert_eq!(runner.query(JobId(2), sql, CUT, &tables).unwrap(), ["| 1000     |"]);
    runner.runner.forget_job(JobId(2));
    runner.wait(runner.runner.settled());
    runner.freed();
}
