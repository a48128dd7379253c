//! What GetSqlInfo answers: every key of the protocol, with the value type that the protocol gives it. Clients cast without
//! checking, and some show no table at all when a key is missing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedTransaction, SqlTransactionIsolationLevel,
};

use super::substrait::VERSIONS as SUBSTRAIT_VERSIONS;

/// The answers; made once.
pub(super) static SQL_INFO: LazyLock<Result<SqlInfoData, FlightError>> = LazyLock::new(|| {
    let mut infos = SqlInfoDataBuilder::new();
    server(&mut infos);
    identifiers(&mut infos);
    functions(&mut infos);
    grammar(&mut infos);
    limits(&mut infos);
    transactions(&mut infos);
    infos.build()
});

/// The lowest four bits of a bitmask: all four kinds of subquery.
const ALL_SUBQUERIES: i32 = 0b1111;
/// UNION and UNION ALL.
const ALL_UNIONS: i32 = 0b11;
/// GROUP BY may name columns that are not selected, and more than are selected.
const ALL_GROUP_BY: i32 = 0b11;
/// Minimum, core and extended grammar.
const ALL_GRAMMAR: i32 = 0b111;
/// The ANSI-92 entry level.
const ANSI92_ENTRY: i32 = 0b1;
/// Transaction level "none".
const NO_ISOLATION: i32 = 0b1;
/// "Unspecified" in the bitmasks of result set types and concurrencies.
const UNSPECIFIED: i32 = 0b1;
/// Result sets are read forward.
const FORWARD_ONLY: i32 = 0b10;

fn server(infos: &mut SqlInfoDataBuilder) {
    infos.append(SqlInfo::FlightSqlServerName, "Volley");
    infos.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    infos.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    infos.append(SqlInfo::FlightSqlServerReadOnly, false);
    infos.append(SqlInfo::FlightSqlServerSql, true);
    infos.append(SqlInfo::FlightSqlServerSubstrait, true);
    infos.append(SqlInfo::FlightSqlServerSubstraitMinVersion, SUBSTRAIT_VERSIONS.0);
    infos.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, SUBSTRAIT_VERSIONS.1);
    infos.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    infos.append(SqlInfo::FlightSqlServerCancel, true);
    infos.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    infos.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    infos.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    infos.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
}

fn identifiers(infos: &mut SqlInfoDataBuilder) {
    infos.append(SqlInfo::SqlDdlCatalog, false);
    infos.append(SqlInfo::SqlDdlSchema, true);
    infos.append(SqlInfo::SqlDdlTable, true);
    infos.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    infos.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    infos.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32);
    infos.append(SqlInfo::SqlAllTablesAreSelectable, true);
    infos.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    infos.append(SqlInfo::SqlSearchStringEscape, "\\");
    infos.append(SqlInfo::SqlExtraNameCharacters, "");
    infos.append(SqlInfo::SqlSchemaTerm, "schema");
    infos.append(SqlInfo::SqlProcedureTerm, "procedure");
    infos.append(SqlInfo::SqlCatalogTerm, "catalog");
    infos.append(SqlInfo::SqlCatalogAtStart, true);
    infos.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    infos.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
}

fn functions(infos: &mut SqlInfoDataBuilder) {
    let keywords = [
        "ANTI",
        "ARRAY",
        "CATALOG",
        "COPY",
        "DESCRIBE",
        "EXPLAIN",
        "EXTERNAL",
        "FILTER",
        "ILIKE",
        "LATERAL",
        "LIMIT",
        "LOCATION",
        "OFFSET",
        "PARTITIONED",
        "QUALIFY",
        "SEMI",
        "SHOW",
        "STORED",
        "STRUCT",
        "UNNEST",
        "WINDOW",
    ];
    infos.append(SqlInfo::SqlKeywords, keywords.as_slice());
    let numeric = [
        "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "cos", "cot", "degrees", "exp", "floor", "gcd", "lcm", "ln", "log",
        "log10", "log2", "pi", "power", "radians", "random", "round", "signum", "sin", "sqrt", "tan", "trunc",
    ];
    infos.append(SqlInfo::SqlNumericFunctions, numeric.as_slice());
    let string = [
        "ascii",
        "bit_length",
        "btrim",
        "char_length",
        "chr",
        "concat",
        "concat_ws",
        "initcap",
        "left",
        "length",
        "lower",
        "lpad",
        "ltrim",
        "md5",
        "octet_length",
        "regexp_like",
        "regexp_replace",
        "repeat",
        "replace",
        "reverse",
        "right",
        "rpad",
        "rtrim",
        "split_part",
        "starts_with",
        "strpos",
        "substr",
        "translate",
        "trim",
        "upper",
    ];
    infos.append(SqlInfo::SqlStringFunctions, string.as_slice());
    infos.append(SqlInfo::SqlSystemFunctions, ["arrow_cast", "arrow_typeof", "coalesce", "nullif", "version"].as_slice());
    let datetime =
        ["current_date", "current_time", "date_bin", "date_part", "date_trunc", "from_unixtime", "now", "to_date", "to_timestamp"];
    infos.append(SqlInfo::SqlDatetimeFunctions, datetime.as_slice());
}

fn grammar(infos: &mut SqlInfoDataBuilder) {
    infos.append(SqlInfo::SqlSupportsColumnAliasing, true);
    infos.append(SqlInfo::SqlNullPlusNullIsNull, true);
    infos.append(SqlInfo::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
    infos.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    infos.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    infos.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    infos.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    infos.append(SqlInfo::SqlSupportedGroupBy, ALL_GROUP_BY);
    infos.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    infos.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    infos.append(SqlInfo::SqlSupportedGrammar, ALL_GRAMMAR);
    infos.append(SqlInfo::SqlAnsi92SupportedLevel, ANSI92_ENTRY);
    infos.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    infos.append(SqlInfo::SqlOuterJoinsSupportLevel, SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32);
    infos.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    infos.append(SqlInfo::SqlSelectForUpdateSupported, false);
    infos.append(SqlInfo::SqlStoredProceduresSupported, false);
    infos.append(SqlInfo::SqlSupportedSubqueries, ALL_SUBQUERIES);
    infos.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    infos.append(SqlInfo::SqlSupportedUnions, ALL_UNIONS);
    infos.append(SqlInfo::SqlSupportedResultSetTypes, UNSPECIFIED | FORWARD_ONLY);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, UNSPECIFIED);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, UNSPECIFIED);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0_i32);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0_i32);
    infos.append(SqlInfo::SqlNamedParametersSupported, true);
    infos.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    infos.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

/// Nothing is limited, which the protocol writes as 0.
fn limits(infos: &mut SqlInfoDataBuilder) {
    const UNLIMITED: [SqlInfo; 20] = [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ];
    for name in UNLIMITED {
        infos.append(name, 0_i64);
    }
    infos.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
}

fn transactions(infos: &mut SqlInfoDataBuilder) {
    infos.append(SqlInfo::SqlDefaultTransactionIsolation, SqlTransactionIsolationLevel::SqlTransactionNone as i32);
    infos.append(SqlInfo::SqlTransactionsSupported, false);
    infos.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, NO_ISOLATION);
    infos.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    infos.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    infos.append(SqlInfo::SqlBatchUpdatesSupported, false);
    infos.append(SqlInfo::SqlSavepointsSupported, false);
}
