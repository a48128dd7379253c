//! Files that are not what they should be.

use std::fs;
use std::path::Path;

use volley_client::FlightClient;

use super::{cluster, lives, session, show, value};

/// A table of five files of some rows each.
async fn write(session: &FlightClient, folder: &Path, name: &str) -> std::path::PathBuf {
    let place = folder.join(name);
    for file in 0..5 {
        let rows = format!("SELECT value AS k, concat('text ', value * {file}) AS text FROM generate_series(1, 20000)");
        show(session, &format!("COPY ({rows}) TO '{}/{file}.parquet' STORED AS PARQUET", place.display())).await.unwrap();
    }
    place
}

fn create(name: &str, place: &Path) -> String {
    format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{}/'", place.display())
}

/// The four ways in which a file is broken.
fn break_file(file: &Path, how: &str) {
    let mut bytes = fs::read(file).unwrap();
    let end = bytes.len();
    match how {
        "footer" => bytes[end - 200..end - 8].fill(0xff),
        "page" => bytes[4..end / 2].fill(0xff),
        "truncated" => bytes.truncate(end / 2),
        "empty" => bytes.clear(),
        other => panic!("{other}"),
    }
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_file_of_many_is_named_whenever_it_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster().await;
    let session = session(&cluster).await;
    for how in ["footer", "page", "truncated"] {
        for broken_first in [true, false] {
            let name = format!("{how}_{broken_first}");
            let place = write(&session, folder.path(), &name).await;
            let victim = place.join("3.parquet");
            if broken_first {
                break_file(&victim, how);
            }
            let created = show(&session, &create(&name, &place)).await;
            let error = match created {
                Ok(_) => {
                    if !broken_first {
                        break_file(&victim, how);
                    }
                    value(&session, &format!("SELECT sum(k) + sum(length(text)) FROM {name}")).await.unwrap_err()
                }
                Err(error) => error,
            };
            assert!(error.contains("3.parquet"), "{name}: {error}");
            lives(&cluster).await;
        }
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_leaves_no_directory_that_it_made() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster().await;
    let session = session(&cluster).await;
    let copy = format!("COPY (SELECT 1 / (value - 500) AS a FROM generate_series(1, 1000)) TO '{}/x/y/z.parquet'", folder.path().display());
    let error = show(&session, &copy).await.unwrap_err();
    assert!(error.contains("ivide by zero"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    lives(&cluster).await;
    cluster.shutdown().await.unwrap();
}
