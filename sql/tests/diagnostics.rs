//! Errors with their place and what was probably meant.

use volley_proto::Remedy;
use volley_sql::diagnostics::{failure_of, nearest};
use volley_sql::statement::SqlError;

use crate::support::{planned, session};

#[tokio::test]
async fn errors_show_their_place() {
    let session = session();
    let mut table = String::new();
    for sql in [
        "SELEC 1",
        "SELECT 1 +",
        "SELECT 'open",
        "SELECT n_name\nFROM tpch.sf1.nation\nWHER n_regionkey = 1 GROUP",
        "SELECT n_nam FROM tpch.sf1.nation",
        "SELECT n_name,\n       sum(n_regionky)\nFROM tpch.sf1.nation",
        "SELECT x.n_name FROM tpch.sf1.nation",
        "SELECT * FROM tpch.sf1.natoin",
        "SELECT * FROM tpch.small.nation",
        "SELECT * FROM nowhere.s.t",
        "SELECT * FROM missing",
        "SELECT * FROM 'missing/file.parquet'",
        "SELECT summ(1)",
        "SELECT n_name FROM tpch.sf1.nation GROUP BY n_regionkey",
        "SELECT 'a' + tpch.sf1.nation.n_name FROM tpch.sf1.nation",
        "SELECT 1 UNION SELECT 1, 2",
        "SELECT * FROM tpch.sf1.nation n, tpch.sf1.nation m WHERE n_name = 'x'",
    ] {
        let error = planned(&session, sql).await.err().unwrap_or_else(|| panic!("{sql} is planned"));
        table.push_str(&format!("> {}\n{error}\n\n", sql.replace('\n', "\n> ")));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_nearest_name_is_found() {
    let names = ["l_quantity", "l_shipdate", "l_orderkey"];
    assert_eq!(nearest("l_quantiy", names), Some("l_quantity"));
    assert_eq!(nearest("L_SHIPDAET", names), Some("l_shipdate"));
    assert_eq!(nearest("something", names), None);
}

#[test]
fn a_wrapped_failure_keeps_its_remedy() {
    use datafusion::error::DataFusionError;
    let failure = volley_proto::Failure::retry("peer is gone");
    let wrapped = DataFusionError::Context("reading".into(), Box::new(DataFusionError::External(Box::new(failure.clone()))));
    assert_eq!(failure_of(&wrapped), failure);
    let shared = DataFusionError::Shared(std::sync::Arc::new(wrapped));
    assert_eq!(failure_of(&shared), failure);
    let full = DataFusionError::ResourcesExhausted("no memory".into());
    assert_eq!(failure_of(&full).remedy, Remedy::Resources);
    let io = DataFusionError::IoError(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    assert_eq!(failure_of(&io).remedy, Remedy::Retry);
    assert_eq!(SqlError::of(&full, "").remedy, Remedy::Resources);
}
