//! The suites' tables as Parquet files, made once for each scale.

use std::path::{Path, PathBuf};

use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use volley_sql::catalog::Suite;
use volley_sql::session::SessionBuilder;

/// The folder with `suite` at `scale` (as schemas are named: `sf0_1`), one Parquet file a table.
pub(super) async fn parquet(suite: Suite, scale: &str) -> PathBuf {
    let root = std::env::var_os("VOLLEY_TEST_DATA").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = root.join(format!("{suite}-{scale}-v2"));
    if folder.exists() {
        return folder;
    }
    // Written aside and renamed, so that a run that was stopped half way leaves nothing that looks complete.
    let staging = root.join(format!("{suite}-{scale}-staging-{}", std::process::id()));
    let context = SessionBuilder::new().build().unwrap();
    for table in suite.tables() {
        let file = staging.join(format!("{table}.parquet"));
        // Small row groups, so that every range of a split file has rows.
        let copy = format!(
            "COPY (SELECT * FROM {suite}.{scale}.{table}) TO '{}' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '10000')",
            file.display()
        );
        context.sql(&copy).await.unwrap().collect().await.unwrap();
    }
    if std::fs::rename(&staging, &folder).is_err() {
        assert!(folder.exists(), "another test made the same data");
        std::fs::remove_dir_all(&staging).unwrap();
    }
    folder
}

/// Plain DataFusion over the files: the oracle.
pub(super) async fn plain(suite: Suite, folder: &Path) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    register(&context, suite, folder).await;
    context
}

/// A session of ours over the files, with settings.
pub(super) async fn ours(suite: Suite, folder: &Path, settings: &[(&str, &str)]) -> SessionContext {
    let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let context = SessionBuilder::new().settings(&settings).build().unwrap();
    register(&context, suite, folder).await;
    context
}

async fn register(context: &SessionContext, suite: Suite, folder: &Path) {
    for table in suite.tables() {
        let file = folder.join(format!("{table}.parquet"));
        context.register_parquet(*table, file.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    }
}

/// The text of a suite's query.
pub(super) fn query(suite: Suite, number: usize) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("queries/{suite}/q{number:02}.sql"));
    std::fs::read_to_string(file).unwrap()
}

/// How many queries a suite has.
pub(super) fn queries(suite: Suite) -> usize {
    match suite {
        Suite::TpcH => 22,
        Suite::TpcDs => 99,
    }
}
