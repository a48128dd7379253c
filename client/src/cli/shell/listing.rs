//! Statements behind the commands that list what there is.

/// Catalogs and schemas.
pub(super) const SCHEMAS: &str = "SELECT catalog_name AS catalog, schema_name AS schema FROM information_schema.schemata \
    WHERE schema_name <> 'information_schema' ORDER BY 1, 2";

/// The statement that lists tables: those of a pattern, or all that are not generated.
pub(super) fn tables(pattern: Option<&str>) -> String {
    let parts: Vec<String> = pattern.unwrap_or_default().split('.').map(like).collect();
    let which = match parts.as_slice() {
        _ if pattern.is_none() => "table_catalog NOT IN ('tpch', 'tpcds') AND table_schema <> 'information_schema'".to_owned(),
        [name] => format!("table_name LIKE {name} AND table_catalog NOT IN ('tpch', 'tpcds')"),
        [schema, name] => format!("table_schema LIKE {schema} AND table_name LIKE {name} AND table_catalog NOT IN ('tpch', 'tpcds')"),
        [catalog, schema, name, ..] => format!("table_catalog LIKE {catalog} AND table_schema LIKE {schema} AND table_name LIKE {name}"),
        [] => String::new(),
    };
    format!(
        "SELECT table_catalog AS catalog, table_schema AS schema, table_name AS name, lower(table_type) AS kind \
         FROM information_schema.tables WHERE {which} ORDER BY 1, 2, 3"
    )
}

/// The statement that lists functions.
pub(super) fn functions(pattern: Option<&str>) -> String {
    format!(
        "SELECT DISTINCT routine_name AS name, lower(function_type) AS kind, syntax_example AS syntax, description \
         FROM information_schema.routines WHERE routine_name LIKE {} ORDER BY 1, 2",
        like(pattern.unwrap_or("*"))
    )
}

/// A pattern with `*` and `?` as the text of LIKE.
fn like(pattern: &str) -> String {
    let escaped = pattern.trim_matches('"').replace('\'', "''").replace('%', "\\%").replace('_', "\\_");
    format!("'{}'", escaped.replace('*', "%").replace('?', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_texts_of_like() {
        assert_eq!(like("sf1_*"), "'sf1\\_%'");
        assert!(tables(Some("tpch.sf1.*")).contains("table_catalog LIKE 'tpch' AND table_schema LIKE 'sf1' AND table_name LIKE '%'"));
        assert!(tables(None).contains("NOT IN ('tpch', 'tpcds')"));
    }
}
