//! Text to statements: kinds, parameters, limits.

use datafusion::common::{ParamValues, ScalarValue};
use volley_sql::statement::{ExplainFormat, MAX_STATEMENT_BYTES, Statement, parse, parse_one, plan};

use crate::support::{planned, rows, session};

/// One word for what a statement is.
fn kind(statement: &Statement) -> String {
    match statement {
        Statement::Query(_) => "query".into(),
        Statement::Explain(explain) => {
            let (analyze, verbose) = (explain.analyze, explain.verbose);
            format!("explain analyze={analyze} verbose={verbose} {:?} of {}", explain.format, kind(&explain.statement))
        }
        Statement::Write(write) => format!("write {:?} {:?} {:?}", write.target.format, write.target.mode, write.target.partition_by),
        Statement::Immediate(immediate) => {
            let text = format!("{immediate:?}");
            format!("immediate {}", text.split([' ', '(']).next().unwrap())
        }
    }
}

#[tokio::test]
async fn every_statement_has_its_kind() {
    let session = session();
    let cases = [
        "SELECT 1",
        "VALUES (1), (2)",
        "WITH t AS (SELECT 1 a) SELECT * FROM t",
        "SELECT * FROM tpch.sf1.nation",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE VERBOSE SELECT 1",
        "EXPLAIN FORMAT JSON SELECT 1",
        "explain analyze format text select 1",
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT 1",
        "EXPLAIN COPY (SELECT 1 AS a) TO '/tmp/x.parquet'",
        "COPY (SELECT 1 AS a) TO '/tmp/x.parquet'",
        "COPY tpch.sf1.nation TO '/tmp/x/' STORED AS CSV",
        "COPY tpch.sf1.nation TO '/tmp/x' STORED AS JSON PARTITIONED BY (n_regionkey)",
        "SET volley.fit = 'never'",
        "RESET volley.fit",
        "SHOW ALL",
        "SHOW TABLES",
        "SHOW COLUMNS FROM tpch.sf1.nation",
        "DESCRIBE tpch.sf1.nation",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.schemata, tpch.sf1.nation",
        "COPY (SELECT table_name FROM information_schema.tables) TO '/tmp/x.csv'",
        "CREATE VIEW v AS SELECT 1 AS a",
        "CREATE SCHEMA s",
        "DROP SCHEMA s",
        "DROP TABLE IF EXISTS t",
        "DROP VIEW v",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp/x.parquet'",
        "PREPARE p AS SELECT $1 + 1",
    ];
    let mut table = String::new();
    for sql in cases {
        let statement = planned(&session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let update = if statement.is_update() { "update" } else { "rows" };
        table.push_str(&format!("{sql}\n    {}, {update}, {} columns\n", kind(&statement), statement.schema().fields().len()));
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn what_is_not_supported_says_what_to_use() {
    let session = session();
    let mut table = String::new();
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE TABLE t (a int)",
        "CREATE TEMPORARY VIEW v AS SELECT 1",
        "CREATE DATABASE d",
        "CREATE VIEW tpch.sf1.v AS SELECT 1",
        "DROP TABLE tpch.sf1.nation",
        "INSERT INTO tpch.sf1.nation VALUES (1, 'a', 1, 'b')",
        "UPDATE tpch.sf1.nation SET n_name = 'a'",
        "DELETE FROM tpch.sf1.nation",
        "BEGIN",
        "COMMIT",
        "EXPLAIN SET volley.fit = 'never'",
        "EXPLAIN FORMAT GRAPHVIZ SELECT 1",
        "EXPLAIN EXPLAIN SELECT 1",
        "COPY tpch.sf1.nation TO '/tmp/x.arrow' OPTIONS ('format.compression' 'lz4')",
        "COPY tpch.sf1.nation TO '/tmp/*.parquet'",
        "COPY tpch.sf1.nation TO '/tmp/x.parquet' OPTIONS ('format.compresion' 'zstd(3)')",
        "COPY tpch.sf1.nation TO '/tmp/x.csv' OPTIONS ('format.has_header' 'maybe')",
        "COPY tpch.sf1.nation TO '/tmp/x.csv' OPTIONS ('aws.key' 'k')",
        "SELECT a FROM tpch.sf1.nation WHERE n_name = ? AND n_regionkey = $1",
        "",
        "SELECT 1; SELECT 2",
    ] {
        let error = planned(&session, sql).await.err().unwrap_or_else(|| panic!("{sql} is planned"));
        table.push_str(&format!("{sql}\n    {}\n", error.to_string().replace('\n', "\n    ")));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_text_is_cut_into_its_statements() {
    let sql = "SELECT 'a;b' ;; -- c;\n CREATE VIEW \"ä\" AS SELECT 1\n;\nSELECT ? + ?, 2;";
    let statements = parse(sql).unwrap();
    let texts: Vec<_> = statements.iter().map(|statement| (statement.text(), statement.parameters())).collect();
    assert_eq!(texts, [("SELECT 'a;b'", 0), ("CREATE VIEW \"ä\" AS SELECT 1", 0), ("SELECT ? + ?, 2", 2)]);
    assert_eq!(parse("  ; -- nothing").unwrap().len(), 0);
}

#[tokio::test]
async fn parameters_are_numbered_in_the_order_of_the_text() {
    let session = session();
    let sql = "WITH t AS (SELECT n_name, n_regionkey FROM tpch.sf1.nation WHERE n_regionkey = ?) \
               SELECT n_name, ? FROM t JOIN (SELECT ? AS x) u ON true WHERE n_name BETWEEN ? AND 'Z' LIMIT ?";
    let statement = parse_one(sql).unwrap();
    let described = plan(&session, &statement, None).await.unwrap();
    let schema = described.parameters().unwrap();
    let parameters: Vec<_> = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let shown = parameters.join(", ");
    assert!(shown.contains("$1 Int64"), "{shown}");

    let values = vec![
        ScalarValue::Int64(Some(1)),
        ScalarValue::from("second"),
        ScalarValue::Int32(Some(3)),
        ScalarValue::from("C"),
        ScalarValue::Int64(Some(2)),
    ];
    let Statement::Query(bound) = plan(&session, &statement, Some(&ParamValues::from(values))).await.unwrap() else { panic!() };
    let batches = session.execute_logical_plan(bound).await.unwrap().collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_prepared_statement_of_the_session_is_bound() {
    let session = session();
    rows(&session, "PREPARE p(INT) AS SELECT n_name FROM tpch.sf1.nation WHERE n_nationkey = $1").await;
    let shown = rows(&session, "EXECUTE p(3)").await;
    assert!(shown.contains("CANADA"), "{shown}");
    rows(&session, "DEALLOCATE p").await;
}

#[tokio::test]
async fn explain_keeps_its_options() {
    let session = session();
    let Statement::Explain(explain) = planned(&session, "EXPLAIN ANALYZE FORMAT JSON SELECT 1").await.unwrap() else { panic!() };
    assert!(explain.analyze && !explain.verbose);
    assert_eq!(explain.format, ExplainFormat::Json);
}

/// Runs on the stack that the scheduler plans on.
fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn deep_statements_are_planned_or_refused() {
    on_a_large_stack(|| {
        let nested = format!("SELECT {}1{}", "(".repeat(1000), ")".repeat(1000));
        let error = parse(&nested).unwrap_err().to_string();
        assert!(error.starts_with("the statement is nested more than 256 levels deep (line 1, column 263)"), "{error}");
        let session = session();
        let sum = format!("SELECT {}", vec!["n_nationkey"; 5000].join(" + ")) + " FROM tpch.sf1.nation LIMIT 1";
        let any = format!("SELECT count(*) FROM tpch.sf1.nation WHERE {}", vec!["n_name = 'X'"; 5000].join(" OR "));
        for sql in [sum, any] {
            block_on(async {
                let Statement::Query(plan) = planned(&session, &sql).await.unwrap() else { panic!() };
                session.state().optimize(&plan).unwrap();
            });
        }
    });
}

#[test]
fn a_statement_beyond_the_limit_is_refused() {
    let sql = format!("SELECT '{}'", "x".repeat(MAX_STATEMENT_BYTES));
    let error = parse(&sql).unwrap_err().to_string();
    assert_eq!(error, "the statement has 16777225 bytes; the limit is 16777216");
    let sql = format!("SELECT '{}'", "x".repeat(10 << 20));
    assert_eq!(parse(&sql).unwrap().len(), 1);
}
