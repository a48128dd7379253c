use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;

use super::*;

fn checked(sql: &str) -> Result<(), String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
    check(&tokens, sql).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

fn refused(sql: &str, message: &str) {
    assert_eq!(checked(sql), Err(message.to_owned()), "{}", &sql[..sql.len().min(100)]);
}

#[test]
fn chains_are_counted_wherever_they_stand() {
    let chain = |operator: &str, terms: usize| vec!["x"; terms].join(operator);
    for operator in ["+", " OR ", " AND ", "||", " IS DISTINCT FROM ", " NOT LIKE ", " WITHIN GROUP (ORDER BY y) - "] {
        assert_eq!(checked(&format!("SELECT 1, {}", chain(operator, 6_000))), Ok(()), "{operator}");
        let sql = format!("SELECT 1,\n{} AS z FROM t", chain(operator, 12_345));
        refused(&sql, "an expression of 12,345 terms; the limit is 6,000 (line 2, column 1)");
    }
    for (before, after) in [("SELECT f(1, ", ")"), ("SELECT CASE WHEN a THEN ", " END"), ("SELECT 1 FROM t WHERE (", ")")] {
        let sql = format!("{before}{}{after}", chain("+", 12_345));
        refused(&sql, &format!("an expression of 12,345 terms; the limit is 6,000 (line 1, column {})", before.len() + 1));
    }
}

#[test]
fn words_that_are_operands_do_not_end_a_chain() {
    for operand in ["from", "case when a then b end", "case when a then end", "offset", "x::timestamp with time zone", "by"] {
        let error = checked(&format!("SELECT {}", vec![operand; 6_002].join("+"))).unwrap_err();
        assert!(error.contains(" terms; the limit is 6,000"), "{operand}: {error}");
    }
}

#[test]
fn a_chain_is_as_long_as_its_tree_is_deep() {
    let sql = format!("SELECT 1 FROM t WHERE {}", vec!["a = 1 AND b + 2 > 3"; 5_990].join(" OR "));
    assert_eq!(checked(&sql), Ok(()));
    let list = format!("SELECT 1 FROM t WHERE a IN ({})", vec!["1 + 1"; 50_000].join(", "));
    assert_eq!(checked(&list), Ok(()));
}

#[test]
fn what_nests_without_parentheses_is_bounded() {
    let types = |levels: usize| format!("SELECT CAST(x AS {}INT{})", "ARRAY<".repeat(levels), ">".repeat(levels));
    assert_eq!(checked(&types(20)), Ok(()));
    refused(&types(21), "a type of more than 20 levels (line 1, column 143)");
    refused(&format!("SELECT x::INT{}", "[]".repeat(21)), "a type of more than 20 levels (line 1, column 54)");
    let columns = vec!["a ARRAY<INT>, b MAP<INT, INT>"; 100].join(", ");
    assert_eq!(checked(&format!("CREATE EXTERNAL TABLE t ({columns}) STORED AS PARQUET LOCATION 'x'")), Ok(()));
    let unions = vec!["SELECT 1"; 1_002].join(" UNION ALL ");
    refused(&unions, "a statement of more than 1,000 set operations (line 1, column 19010)");
    let joins = format!("SELECT 1 FROM t{}", ", t".repeat(1_001));
    refused(&joins, "a statement of more than 1,000 joins (line 1, column 3016)");
    let joins = format!("SELECT 1 FROM t{}", " JOIN t ON a = b".repeat(1_001));
    refused(&joins, "a statement of more than 1,000 joins (line 1, column 16017)");
    refused(&format!("SELECT {}", "(".repeat(1_000)), "the statement is nested more than 256 levels deep (line 1, column 263)");
    let tables = vec!["a AS (SELECT 1)"; 1_001].join(", ");
    refused(&format!("WITH {tables} SELECT 1"), "a statement of more than 1,000 common tables (line 1, column 17011)");
}

#[test]
fn a_second_explain_is_refused_and_a_column_of_that_name_is_not() {
    for sql in
        ["EXPLAIN EXPLAIN SELECT 1", "EXPLAIN ANALYZE FORMAT 'x' EXPLAIN SELECT 1", "EXPLAIN (ANALYZE, FORMAT JSON) EXPLAIN SELECT 1"]
    {
        let error = checked(sql).unwrap_err();
        assert!(error.starts_with("an EXPLAIN can't be explained (line 1, column "), "{sql}: {error}");
    }
    assert_eq!(checked("EXPLAIN FORMAT tree SELECT explain FROM t; EXPLAIN SELECT 1"), Ok(()));
}

#[test]
fn statements_are_counted() {
    for (sql, count) in [("", 0), (" ; -- a\n", 0), ("SELECT 1", 1), ("SELECT ';'; SELECT 2;;", 2)] {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        assert_eq!(statements(&tokens), count, "{sql}");
    }
}
