//! Commands in scripts, results in files, and exit codes.

use super::program::{volley, volley_reading};

#[test]
fn commands_work_in_scripts() {
    let script = "\\f csv\nSELECT 1 AS one;\n.mode ndjson\nSELECT 2 AS two;\n\\q\nSELECT 3 AS three;\n";
    let ended = volley_reading(&["sql"], script);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "one\n1\n{\"two\":2}\n"), "{}", ended.err);
    let ended = volley(&["sql", "-c", "\\x", "-c", "SELECT 1 AS one"]);
    assert_eq!(ended.out, "-[ 1 ]------------\none | 1\n", "{}", ended.err);
    let ended = volley(&["sql", "-c", "\\nothing", "-c", "SELECT 1 AS one"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(ended.err.contains("unknown command \\nothing"), "{}", ended.err);
}

#[test]
fn tables_functions_and_columns_are_listed() {
    let ended = volley(&["sql", "--format", "csv", "-c", "\\dt tpch.sf1.n*", "-c", "\\df sqrt", "-c", "\\d tpch.sf1.region"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.starts_with("catalog,schema,name,kind\ntpch,sf1,nation,base table\n"), "{}", ended.out);
    assert!(ended.out.contains("\nsqrt,scalar,") && ended.out.contains("r_regionkey"), "{}", ended.out);
    let made =
        volley(&["sql", "--format", "csv", "-c", "CREATE TABLE t AS SELECT 1 AS a; CREATE VIEW v AS SELECT 1 AS b", "-c", ".tables"]);
    assert!(made.out.ends_with("volley,public,t,base table\nvolley,public,v,view\n"), "{} {}", made.out, made.err);
}

#[test]
fn scripts_read_scripts_and_places_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (outer, inner) = (folder.path().join("outer.sql"), folder.path().join("in ner.sql"));
    std::fs::write(&outer, format!("\\i '{}'\nSELECT 2 AS two;", inner.display())).unwrap();
    std::fs::write(&inner, "SELECT 1 AS one;\nSELECT nope;\n").unwrap();
    let outer = outer.to_str().unwrap();
    let ended = volley(&["sql", "--format", "csv", "-f", outer]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "one\n1\n"));
    assert!(ended.err.contains(&format!("(line 2, column 8 of {})", inner.display())), "{}", ended.err);
    std::fs::write(&inner, format!("\\i {outer}")).unwrap();
    let ended = volley(&["sql", "-f", outer]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("16 files that read one another are open already"), "{}", ended.err);
}

#[test]
fn a_run_that_keeps_going_says_that_some_failed() {
    let statements = ["sql", "--format", "csv", "-c", "SELECT 1 AS one; SELECT nope; SELECT 2 AS two", "-c", "SELECT 3 AS three"];
    assert_eq!((volley(&statements).code, volley(&statements).out.as_str()), (Some(1), "one\n1\n"));
    let going = volley(&[&statements[..], &["--keep-going"]].concat());
    assert_eq!((going.code, going.out.as_str()), (Some(4), "one\n1\ntwo\n2\nthree\n3\n"));
    assert!(going.err.contains("nope"), "{}", going.err);
    let fine = volley(&["sql", "--keep-going", "--quiet", "--format", "none", "-c", "SELECT 1"]);
    assert_eq!((fine.code, fine.out.as_str(), fine.err.as_str()), (Some(0), "", ""));
}

#[test]
fn results_go_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let [parquet, csv] = ["n.parquet", "n.csv"].map(|name| folder.path().join(name).display().to_string());
    let ended = volley(&["sql", "--format", "parquet", "-o", &parquet, "-c", "SELECT * FROM tpch.sf0_01.nation"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{}", ended.err);
    let counted = format!("SELECT count(*) AS n, max(n_name) AS last FROM '{parquet}'");
    let ended = volley(&["sql", "--format", "csv", "-c", &format!("\\o {csv}"), "-c", &counted, "-c", "\\o", "-c", "SELECT 1 AS one"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "one\n1\n"), "{}", ended.err);
    assert_eq!(std::fs::read_to_string(&csv).unwrap(), "n,last\n25,VIETNAM\n");
    let twice = volley(&["sql", "--format", "parquet", "-o", &parquet, "-c", "SELECT 1 AS a", "-c", "SELECT 2 AS b"]);
    assert_eq!(twice.code, Some(1));
    assert!(twice.err.contains("has a result already, and parquet holds one in a file"), "{}", twice.err);
    let nowhere = volley(&["sql", "-o", "/no/such/folder/file", "-c", "SELECT 1"]);
    assert_eq!(nowhere.code, Some(2));
    assert!(nowhere.err.contains("can't write /no/such/folder/file: "), "{}", nowhere.err);
}

#[test]
fn time_is_told_where_it_is_asked_for() {
    let ended = volley(&["sql", "--quiet", "--format", "csv", "-c", "SELECT 1 AS one"]);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("one\n1\n", ""));
    let ended = volley(&["sql", "--timing", "--format", "csv", "-c", "SELECT 1 AS one"]);
    assert!(ended.err.contains("\n1 row in 0.") && ended.err.trim_end().ends_with(", j1"), "{}", ended.err);
}
